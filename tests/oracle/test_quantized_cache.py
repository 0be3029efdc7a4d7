"""The quantized cache against text that is really generated with quanto: the same allocations and frees."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.estimate import trace_of
from memplan.simulator import quantized_cache
from tests.oracle.cases import TINY
from tests.oracle.cpu_generation import events
from tests.oracle.libraries import library
from tests.oracle.test_events import SHOWN, differences
from tests.oracle.test_generation import _kept, _of_simulation, workload

torch = library("torch")
transformers = library("transformers")
packed = pytest.importorskip(
    "optimum.quanto.tensor.packed", reason="optimum-quanto is not installed: pip install optimum-quanto"
)

WIDE = {"head_dim": 64}


def unpacked(self: Any) -> Any:
    """As the CUDA kernel does it: into one tensor. The CPU's takes halves."""
    rows = self._data.shape[0]
    found = torch.empty((2 * rows, *self._data.shape[1:]), dtype=torch.uint8)
    torch.bitwise_and(self._data, 15, out=found[:rows])
    torch.bitwise_right_shift(self._data, 4, out=found[rows:])
    return found[: self.shape[0]]


def settled(found: list[int]) -> list[int]:
    """Without what is made and dropped at once (a CPU's scratch and casts), and without the run's end."""
    kept: list[int] = []
    for size in found:
        if kept and size < 0 and kept[-1] == -size:
            kept.pop()
        else:
            kept.append(size)
    while kept and kept[-1] < 0:
        kept.pop()
    return kept


@pytest.mark.parametrize("residual", [128, 3, 2])
@pytest.mark.parametrize("heads", [2, 4])
def test_the_simulated_events_are_those_of_quanto(
    monkeypatch: pytest.MonkeyPatch, residual: int, heads: int
) -> None:
    config = WIDE | {"num_key_value_heads": heads}
    case = workload(config, {"cache": "quantized"})
    plain = transformers.GenerationMixin.generate

    def generate(model: Any, tokens: Any, **wanted: Any) -> Any:
        cache = {"backend": "quanto", "residual_length": residual}
        return plain(model, tokens, cache_implementation="quantized", cache_config=cache, **wanted)

    monkeypatch.setattr(transformers.GenerationMixin, "generate", generate)
    monkeypatch.setattr(packed.PackedTensor, "unpack", unpacked)
    monkeypatch.setattr(quantized_cache, "RESIDUAL", residual)
    real = settled(_kept(events(TINY | config, case), case))
    simulated = settled(_of_simulation(trace_of(case, ASSUMED_CAPABILITY), case))
    assert len(real) > 300
    assert differences(simulated, real)[:SHOWN] == []
