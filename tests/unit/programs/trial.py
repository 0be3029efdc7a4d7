"""A program for tests of what all programs share: a table, and a product of it that is made in chunks."""

from __future__ import annotations

from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.estimate import Basis, Component
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.setting import Setting, Settings, device, whole
from memplan.domain.trace import Phase
from memplan.simulator.tensor import Tape

NAME = "trial"
SUMMARY = "a product in chunks"
SETTINGS = (
    Setting(name="rows", summary="rows of the table"),
    Setting(name="width", summary="columns of the table", default=1024, most=4096),
    Setting(name="chunk", summary="rows at once; 0 is all", default=0, least=0),
    Setting(name="form", summary="how it is made", default="copied", choices=("copied", "in_place")),
    Setting(name="kept", summary="whether a file is kept", default=False),
    device("cuda"),
)


def problem(settings: Settings) -> tuple[str, str] | None:
    """A chunk is no larger than the table."""
    large = whole(settings, "chunk") > whole(settings, "rows")
    return ("chunk", "is larger than the table") if large else None


def run(settings: Settings, tape: Tape) -> object:
    """A table of fp32, and one or two tensors as large as a chunk."""
    rows, width = whole(settings, "rows"), whole(settings, "width")
    tape.component = "table"
    table = tape.empty((rows, width), Dtype.FP32, "randn")
    tape.trace.enter(Phase.FORWARD)
    tape.component = "temporaries"
    shape = (whole(settings, "chunk") or rows, width)
    made = [tape.empty(shape, Dtype.FP32, "mul") for _ in range(2 if settings["form"] == "copied" else 1)]
    del made
    return table


def disk(settings: Settings) -> tuple[Component, ...]:
    """The table, if it is kept."""
    size = 4 * whole(settings, "rows") * whole(settings, "width")
    return (Component(name="table_file", bytes=Bytes(size), basis=Basis.EXACT),) if settings["kept"] else ()


def mapped(settings: Settings) -> int:
    """Nothing is."""
    del settings
    return 0


def options(settings: Settings) -> tuple[tuple[Option, ...], ...]:
    """Smaller chunks, or no copy."""
    powers = range(whole(settings, "rows").bit_length() - 1, -1, -1)
    chunks = tuple(
        Option(changes={"chunk": 2**power}, harm=Harm.EXACT, reason="less at once") for power in powers
    )
    other = Option(changes={"form": "in_place"}, harm=Harm.NUMERIC, reason="no copy", degree=1)
    return chunks, (other,)


def work(settings: Settings) -> float:
    """A hundredth of a round for every chunk."""
    rows = whole(settings, "rows")
    return 1 + rows / (whole(settings, "chunk") or rows) / 100
