"""Draws the memory that reading a long context takes: its cache in memory, in mapped files, and in windows.

``python -m docs.figures.large_context_ram`` writes the picture beside this file; it takes some minutes.
Predictions are those of the program ``large_context``. Measurements are resident sets of real runs by
``memplan smoke``, less what was resident before the decoder was made, of contexts that take a minute.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from memplan.domain.architecture import DeclaredModel
from memplan.domain.setting import Scalar
from memplan.estimate.mechanism import trace_of
from memplan.programs import large_context
from memplan.reporters.pictures import svg
from memplan.reporters.pictures.curves import Curve, Figure, Mark, draw
from memplan.simulator.kernels import HOST
from memplan.simulator.replay import replay

FILE = Path(__file__).with_name("large-context-ram.svg")
MODEL: dict[str, Scalar] = {
    "layers": 3,
    "heads": 2,
    "head_dim": 64,
    "hidden": 128,
    "vocab": 8000,
    "training": False,
    "chunk": 2048,
}
FORMS: dict[str, dict[str, Scalar]] = {
    "cache in memory": {"cache": "memory"},
    "cache in mapped files": {"cache": "mapped"},
    "windows of 4,096, merged": {"reading": "windows", "window": 4096, "stride": 2048},
}
CONTEXTS = tuple(2**power for power in range(13, 24))
HELD = {"cache in memory": 2**15, "cache in mapped files": 2**15, "windows of 4,096, merged": 2**16}
"""The longest contexts that are read for real: windows take time by their number, a cache by its square."""


def predicted(changes: dict[str, Scalar], context: int) -> int:
    """Bytes at the peak of a round, as the program says."""
    defaults = {item.name: item.default for item in large_context.SETTINGS if item.default is not None}
    values = tuple({**defaults, **MODEL, **changes, "context": context}.items())
    trace = trace_of(DeclaredModel(mechanism=large_context.NAME, values=values), HOST)
    return int(replay(trace, exact=True).peak.allocated)


def measured(changes: dict[str, Scalar], context: int) -> int:
    """Resident bytes at the peak of a round beyond those before it, as the kernel says."""
    with TemporaryDirectory() as folder:
        values = ", ".join(
            f"{name}: {json.dumps(value)}" for name, value in {**MODEL, **changes, "context": context}.items()
        )
        manifest = f"memplan: 1\nmodel:\n  mechanism: large_context\n  values: {{{values}}}\n"
        Path(folder, "memplan.yaml").write_text(manifest, encoding="utf-8")
        command = ["smoke", folder, "--device", "cpu", "--steps", "1", "--no-record", "--format", "json"]
        done = subprocess.run(
            [sys.executable, "-m", "memplan", *command], capture_output=True, text=True, check=False
        )
    found = json.loads(done.stdout)
    foretold, seen = found["predicted"], found["measured"]
    assert foretold["peak_allocated"] == predicted(changes, context), found["notes"]
    baseline = foretold["rss"] - foretold["peak_allocated"]
    return int(seen["rss"] - baseline)


def curves() -> Iterator[Curve]:
    """A line for each form, and dots where it was run."""
    for form, changes in FORMS.items():
        line = tuple((context, predicted(changes, context)) for context in CONTEXTS)
        dots = []
        for context, said in line:
            if context <= HELD[form]:
                dots.append((context, measured(changes, context)))
                print(f"{form:>25} {context:>9,} tokens  {said:>13,} {dots[-1][1]:>13,}", flush=True)
        yield Curve(name=form, points=line)
        yield Curve(name="measured", points=tuple(dots), measured=True, like=form)


def main() -> None:
    """Run, compare and draw."""
    figure = Figure(
        title="Reading a long context: memory by tokens",
        about="a decoder of 3 layers, 128 wide, in fp32 on a CPU; memory beyond that of the libraries",
        across="tokens of context",
        curves=tuple(curves()),
        marks=(Mark(name="RAM of 16 GiB", bytes=16 * 2**30),),
    )
    FILE.write_text(svg.render(draw(figure)), encoding="utf-8")


if __name__ == "__main__":
    main()
