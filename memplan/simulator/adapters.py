"""Low-rank adapters around linear layers, as PEFT's ``lora.Linear`` runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from memplan.domain.workload import Adapter
from memplan.simulator import dora, ops
from memplan.simulator.blocks import Linear, Store
from memplan.simulator.matmul import linear
from memplan.simulator.quantization import Matrix
from memplan.simulator.tensor import Parameter, Tensor


class LoraLinear:
    """``result + lora_B(lora_A(x)) · scaling``, with ``x`` cast to the adapter's dtype.

    Source: ``Linear.forward`` in peft src/peft/tuners/lora/layer.py (0.21). lora_A is (rank, in),
    lora_B is (out, rank). ``multiply`` runs one of them, by itself or as a module that is wrapped.
    """

    __slots__ = ("base", "down", "dropout", "magnitude", "multiply", "up")

    def __init__(self, base: Linear, adapter: Adapter, adapters: Store) -> None:
        self.base = base
        trace = adapters.tape.trace
        outside, trace.layer = trace.layer, base.layer
        self.dropout = adapter.dropout
        outputs, inputs = base.sides
        self.down = adapters.parameter(f"{base.name}.lora_A.weight", (adapter.rank, inputs), "adapter")
        self.up = adapters.parameter(f"{base.name}.lora_B.weight", (outputs, adapter.rank), "adapter")
        name = f"{base.name}.lora_magnitude_vector.weight"
        self.magnitude = adapters.parameter(name, (outputs,), "adapter") if adapter.dora else None
        trace.layer = outside
        self.multiply: Callable[[Tensor, Parameter], Tensor] = linear

    def __call__(self, x: Tensor) -> Tensor:
        # The caller's frame holds the input until this one is gone, also when recomputation stops within.
        return self._quantized(x) if isinstance(self.base.weight, Matrix) else self._forward(x)

    def _quantized(self, x: Tensor) -> Tensor:
        """``Linear4bit.forward`` and ``Linear8bitLt.forward`` in peft src/peft/tuners/lora/bnb.py.

        The 4-bit one copies the base's result first. Neither casts within autocast.
        """
        assert isinstance(self.base.weight, Matrix)
        casts = x.tape.autocast is None
        result = self.base(x)
        if self.base.weight.settings.kind != "int8":
            result = ops.clone(result)
        dtype = result.dtype
        if casts:
            x = ops.to(x, self.down.dtype)
        if self.magnitude is not None:
            result = self._decomposed(x, result)
            return ops.to(result, dtype) if casts else result
        run = self.multiply
        output = ops.mul_scalar(run(run(ops.dropout(x) if self.dropout else x, self.down), self.up))
        if casts:
            output = ops.to(output, dtype)
        result = ops.add(result, output)
        return result  # noqa: RET504

    def _forward(self, x: Tensor) -> Tensor:
        result = self.base(x)
        dtype = result.dtype
        x = ops.to(x, self.down.dtype)
        if self.magnitude is not None:
            result = self._decomposed(x, result)
            return ops.to(result, dtype)
        if self.dropout:
            x = ops.dropout(x)
        run = self.multiply
        result = ops.add(result, ops.mul_scalar(run(run(x, self.down), self.up)))
        # Rebinding frees the sum before x goes, as in PEFT.
        result = ops.to(result, dtype)
        return result  # noqa: RET504

    def _decomposed(self, x: Tensor, result: Tensor) -> Tensor:
        assert self.magnitude is not None
        parameters = (self.down, self.up, self.magnitude)
        return dora.adapted(self.base, parameters, x, result, dropout=bool(self.dropout))


def adapt(
    linears: Mapping[str, Linear | LoraLinear], adapter: Adapter, adapters: Store
) -> dict[str, Linear | LoraLinear]:
    """Wrap the layers whose name an adapter targets."""
    return {
        name: LoraLinear(layer, adapter, adapters)
        if isinstance(layer, Linear) and _is_target(name, adapter)
        else layer
        for name, layer in linears.items()
    }


def _is_target(name: str, adapter: Adapter) -> bool:
    """A target names a layer, or the end of its path: ``c_proj`` is ``attn.c_proj`` and ``mlp.c_proj``."""
    return name in adapter.targets or name.rpartition(".")[2] in adapter.targets
