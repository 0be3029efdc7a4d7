"""The committed pictures of checkpointing are what the script draws."""

from __future__ import annotations

import pytest

from docs.figures import large_context_checkpoints as script
from memplan.mechanisms.context import Placement, Stack
from memplan.mechanisms.context.placement import peak
from memplan.reporters.pictures import svg
from memplan.reporters.pictures.curves import draw

pytestmark = pytest.mark.usefixtures("one_thread")


def test_pictures_of_checkpoints_show_measurements_equal_to_predictions_to_the_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The committed dots were measured; drawn from predictions alone, the pictures are the same."""
    committed = (script.FOLDER / "large-context-intervals.svg").read_text(encoding="utf-8")
    if f"PyTorch {script.VERSION};" not in committed:
        pytest.skip(f"drawn with another PyTorch than {script.VERSION}")
    monkeypatch.setattr(script, "_compared", _predicted)
    for name, figure in script.figures(script.measured).items():
        assert svg.render(draw(figure)) == (script.FOLDER / name).read_text(encoding="utf-8")


def _predicted(stack: Stack, _: object, placements: list[Placement]) -> list[tuple[int, int]]:
    return [(peak(stack, item),) * 2 for item in placements]
