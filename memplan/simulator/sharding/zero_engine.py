"""What all stages of ZeRO share: one dtype for the model, and the optimizer's fp32 partition."""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Precision, Workload
from memplan.domain.zero import Place
from memplan.simulator.autograd import Leaf
from memplan.simulator.optimizer import Stepper
from memplan.simulator.sharding.whole import Model, Whole
from memplan.simulator.tensor import Parameter, Tape, Tensor


class Engine(Whole):
    """A model under DeepSpeed's engine, which runs everything in one dtype.

    Source: ``_configure_distributed_model`` in deepspeed/runtime/engine.py (``module.bfloat16()``).
    """

    def __init__(self, tape: Tape, workload: Workload, model: Model) -> None:
        super().__init__(tape, workload, model)
        self.zero = workload.world.zero
        self.count = workload.world.data_parallel
        self.overlap = self.zero.overlaps(workload.world.sharding)
        self.offloads = self.zero.optimizer is not Place.GPU
        self.dtype = workload.precision.params
        self.accumulation = workload.precision.gradients or self.dtype
        self.communication = self.zero.communication or self.dtype
        self.parameters = [self._in_one_dtype(leaf) for leaf in self.leaves]
        self.masters: list[Leaf] = []

    def _in_one_dtype(self, leaf: Leaf) -> Parameter:
        parameter = leaf.parameter() if leaf.parameter is not None else None
        assert parameter is not None
        parameter.convert(self.dtype)
        leaf.dtype = self.dtype
        return parameter

    def stepper(self) -> Stepper:
        """The optimizer over fp32 partitions; gradients are clipped in them, in place."""
        precision = self.workload.precision
        states = Precision(params=Dtype.FP32, optimizer_state=precision.optimizer_state)
        optimizer = self.workload.changed("optimizer.clipping", False).optimizer
        return Stepper(self.tape, optimizer, self.masters, states)

    def master(self, size: int) -> Leaf:
        """An fp32 copy of ``size`` elements, which the optimizer updates."""
        copy = Parameter(self.tape, (size,), Dtype.FP32, "optimizer_state", "fp32 partition")
        return Leaf(copy, "fp32 partition", hold=True)

    def take(self, size: int, dtype: Dtype, op: str, component: str = "temporaries") -> Tensor:
        """Memory of ``size`` elements outside the model's own ops."""
        tape = self.tape
        state = tape.component, tape.scope
        tape.component, tape.scope = component, "deepspeed"
        made = tape.empty((size,), dtype, op)
        tape.component, tape.scope = state
        return made

    def norm(self, size: int) -> None:
        """The norm of a gradient is computed in double precision (``get_norm_dtype``, zero/utils.py)."""
        _double = self.take(size, Dtype.FP64, "double")
        _norm = self.take(1, Dtype.FP64, "norm")
