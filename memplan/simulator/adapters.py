"""Low-rank adapters around linear layers, as PEFT's ``lora.Linear`` runs them."""

from __future__ import annotations

from collections.abc import Mapping

from memplan.domain.workload import Adapter
from memplan.simulator import ops
from memplan.simulator.blocks import Linear, Store
from memplan.simulator.matmul import linear
from memplan.simulator.tensor import Tensor


class LoraLinear:
    """``result + lora_B(lora_A(x)) · scaling``, with ``x`` cast to the adapter's dtype.

    Source: ``Linear.forward`` in peft src/peft/tuners/lora/layer.py (0.21). lora_A is (rank, in),
    lora_B is (out, rank).
    """

    __slots__ = ("base", "down", "dropout", "up")

    def __init__(self, base: Linear, adapter: Adapter, adapters: Store) -> None:
        self.base = base
        self.dropout = adapter.dropout
        outputs, inputs = base.weight.shape
        self.down = adapters.parameter(f"{base.name}.lora_A.weight", (adapter.rank, inputs), "adapter")
        self.up = adapters.parameter(f"{base.name}.lora_B.weight", (outputs, adapter.rank), "adapter")

    def __call__(self, x: Tensor) -> Tensor:
        # The caller's frame holds the input until this one is gone, also when recomputation stops within.
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        result = self.base(x)
        dtype = result.dtype
        x = ops.to(x, self.down.dtype)
        if self.dropout:
            x = ops.dropout(x)
        result = ops.add(result, ops.mul_scalar(linear(linear(x, self.down), self.up)))
        # Rebinding frees the sum before x goes, as in PEFT.
        result = ops.to(result, dtype)
        return result  # noqa: RET504


def adapt(
    linears: Mapping[str, Linear | LoraLinear], adapter: Adapter, adapters: Store
) -> dict[str, Linear | LoraLinear]:
    """Wrap the layers whose name an adapter targets."""
    return {
        name: LoraLinear(layer, adapter, adapters)
        if name in adapter.targets and isinstance(layer, Linear)
        else layer
        for name, layer in linears.items()
    }
