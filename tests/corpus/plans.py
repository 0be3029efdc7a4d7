"""Plans for every real run: ``fit``, ``apply`` to a copy, read again. ``python -m tests.corpus.plans``.

Options: ``--update`` writes the table to ``plans.txt``, ``--every 20`` takes every twentieth file,
``--only NAME`` those whose names hold it. A line to stderr per file says what came out and how long it took.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from memplan.fit.workers import each
from tests.corpus.outcomes import names
from tests.corpus.planned import GPUS, Ending, Kind, endings

GOLDEN = Path(__file__).with_name("plans.txt")
SLOWEST = 20
"""How many of the slowest plans are listed."""


MOST_DETAILS = 60
"""How many details are told of each way plans end."""


def table(found: Iterable[Ending]) -> str:
    """How often plans end how, by dialect and GPU; below it why runs do not fit, and what was changed."""
    found = tuple(found)
    lines: list[str] = []
    for dialect in sorted({ending.dialect for ending in found}):
        own = [ending for ending in found if ending.dialect == dialect]
        lines += _block(f"{dialect} ({len({ending.name for ending in own})})", own)
    lines += _block(f"all ({len({ending.name for ending in found})})", found)
    for kind in list(Kind)[1:]:
        lines += ["", f"{kind.value}:"]
        told = Counter((ending.gpu, ending.detail) for ending in found if ending.kind is kind)
        ordered = sorted(told.items(), key=lambda item: (GPUS.index(item[0][0]), -item[1], item[0][1]))
        lines += [f"  {count:4}  {gpu:9}  {detail}" for (gpu, detail), count in ordered[:MOST_DETAILS]]
    return "\n".join(lines) + "\n"


def _block(title: str, found: Iterable[Ending]) -> Iterator[str]:
    counts = Counter((ending.kind, ending.gpu) for ending in found)
    yield f"{title:50}" + "".join(f"{gpu:>11}" for gpu in GPUS)
    for kind in Kind:
        row = [counts[kind, gpu] for gpu in GPUS]
        if any(row):
            yield f"  {kind.value:48}" + "".join(f"{count:11}" for count in row)


def _told(name: str) -> tuple[Ending, ...]:
    found = endings(name)
    if found:
        seconds = sum(ending.seconds for ending in found)
        said = ", ".join(f"{ending.gpu} {ending.kind.name.lower()}" for ending in found)
        print(f"{seconds:7.2f} s  {name}: {said}", file=sys.stderr, flush=True)
    return found


def main(arguments: list[str]) -> int:
    """Plan the files, print the table, the slowest and every defect; 1 if there is one."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus.plans", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the table to plans.txt")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th file")
    parser.add_argument("--only", default="", metavar="NAME", help="only files whose names hold this")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    asked = parser.parse_args(arguments)
    files = [(name,) for name, _ in names()[:: asked.every] if asked.only in name]
    found = [ending for several in each(_told, files, workers=asked.workers) for ending in several]
    text = table(found)
    sys.stdout.write(text)
    for ending in sorted(found, key=lambda ending: -ending.seconds)[:SLOWEST]:
        print(f"{ending.seconds:7.2f} s  {ending.gpu:9}  {ending.name}", file=sys.stderr)
    defects = [ending for ending in found if ending.kind is Kind.DEFECT]
    for ending in defects:
        print(f"DEFECT  {ending.gpu}  {ending.name}: {ending.detail}", file=sys.stderr)
    if asked.update:
        GOLDEN.write_text(text, encoding="utf-8")
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
