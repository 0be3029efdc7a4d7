"""Published rows, re-typed into ``tests/truth/rows``: their configs, figures and sources.

python benchmarks/truth_export.py FOLDER       writes the rows of FOLDER/measured.jsonl
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import truth_facts, truth_native, truth_rows
from benchmarks.truth_cases import FOLDER, LEFT_OUT, MEASURED
from benchmarks.truth_rows import Row


def main(arguments: Sequence[str]) -> int:
    """Write the files; 2 when there is nothing to write them from."""
    parser = argparse.ArgumentParser(description="Published measurements as files of tests/truth.")
    parser.add_argument("folder", type=Path, nargs="?", default=truth_rows.folder())
    options = parser.parse_args(arguments)
    try:
        rows = truth_rows.load(options.folder)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    written = files(rows)
    shutil.rmtree(FOLDER, ignore_errors=True)
    for path, content in written.items():
        target = FOLDER / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    return 0


def files(rows: Iterable[Row]) -> dict[str, str]:
    """Every file below ``tests/truth/rows`` by its path there."""
    found: dict[str, str] = {}
    suites: dict[str, list[Any]] = {}
    without: dict[str, list[str]] = {}
    for row in rows:
        reason = truth_rows.left_out(row)
        if reason is not None:
            without.setdefault(reason, []).append(row["id"])
            continue
        suites.setdefault(row["suite"], []).append(truth_facts.facts(row))
        if row["scope"] != "op":
            found[f"{row['suite']}/{row['id']}.yaml"] = _config(row)
    for suite, entries in suites.items():
        found[f"{suite}/{MEASURED}"] = _dumped(entries)
    found[LEFT_OUT] = _dumped(without)
    return found


def _config(row: Row) -> str:
    return truth_native.text(truth_rows.workload(row), truth_rows.named(row), truth_rows.gpu(row))


def _dumped(content: Any) -> str:
    import yaml

    return str(yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
