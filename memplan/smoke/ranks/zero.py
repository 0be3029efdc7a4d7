"""A run under DeepSpeed's engine, which divides states, gradients or parameters among the ranks (ZeRO).

What a rank holds is read off ``DeepSpeedZeroOptimizer`` (deepspeed/runtime/zero/stage_1_and_2.py) and
``DeepSpeedZeroOptimizer_Stage3`` (stage3.py), by the names that they have in 0.19.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Outputs, Workload
from memplan.simulator.step import MICRO_BATCHES
from memplan.smoke.batches import inputs
from memplan.smoke.meter import Meter, Named
from memplan.smoke.optimizers import optimizer
from memplan.smoke.ranks.storage import storages

STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}
"""The stage of each ``world.sharding``."""


class Zero:
    """A model under the engine; ``meter`` is told of gradients before every step and of states after it."""

    def __init__(self, meter: Meter, workload: Workload, model: Any) -> None:
        self.meter = meter
        self.workload = workload
        self.inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.model = model
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.engine = import_module("deepspeed").initialize(
            model=model, optimizer=optimizer(trained, workload), config=settings(workload)
        )[0]

    def train(self, steps: int) -> None:
        """So many optimizer steps."""
        for _ in range(steps):
            self._step()

    def parameters(self) -> int:
        """Bytes of parameters and buffers: whole ones, and this rank's parts of others."""
        whole = [*self.model.parameters(), *self.model.buffers()]
        parts = [parameter.ds_tensor for parameter in whole if hasattr(parameter, "ds_tensor")]
        return storages([*whole, *parts])

    def standing(self) -> int:
        """Bytes of what else stays between steps."""
        found = self.engine.optimizer
        kept = [tensor for tensor, *_ in self._states()]
        if self.workload.world.sharding == "zero3":
            kept += [found.grad_partitions_flat_buffer, *(one.buffer for one in found.ipg_buckets.values())]
        return storages(tensor for tensor in kept if tensor is not None)

    def _step(self) -> None:
        kept: Any = None
        wanted = self.workload.outputs
        count = min(self.workload.batch.accumulation, MICRO_BATCHES)
        for index in range(count):
            batch = inputs(self.inner, self.workload)
            outputs = self.engine(**batch)
            loss = outputs["loss"]
            kept = None if wanted is Outputs.DROPPED else outputs
            del outputs
            self.engine.backward(loss)
            if wanted is not Outputs.KEPT:
                kept = None
            del loss
            if index == count - 1:
                self.meter.name(self._gradients())
            # Only the last one of a step updates anything.
            self.engine.step()
        del kept
        self.meter.name(self._states())

    def _gradients(self) -> Iterator[Named]:
        found = self.engine.optimizer
        flat = found.grad_partitions_flat_buffer if self.workload.world.sharding == "zero3" else None
        parts = (
            [flat]
            if flat is not None
            else [each for group in found.averaged_gradients.values() for each in group]
        )
        for part in parts:
            yield part, "gradients", "partition", "grad"

    def _states(self) -> Iterator[Named]:
        found = self.engine.optimizer
        for name in ("single_partition_of_fp32_groups", "fp32_partitioned_groups_flat"):
            for copy in getattr(found, name, ()):
                yield copy, "optimizer_state", "fp32 partition", "parameter"
        for states in found.optimizer.state.values():
            for key, state in states.items():
                if hasattr(state, "untyped_storage"):
                    yield state, "optimizer_state", "fp32 partition", key


def settings(workload: Workload) -> dict[str, Any]:
    """DeepSpeed's configuration for a workload."""
    zero, world = workload.world.zero, workload.world
    divided: dict[str, Any] = {
        "stage": STAGES[world.sharding],
        "reduce_bucket_size": zero.reduce_bucket,
        "overlap_comm": zero.overlaps(world.sharding),
        "contiguous_gradients": zero.contiguous,
        "reduce_scatter": zero.reduce_scatter,
        "sub_group_size": zero.sub_group,
        "stage3_prefetch_bucket_size": zero.prefetch_bucket,
        "stage3_param_persistence_threshold": zero.persistence,
        "stage3_max_live_parameters": zero.max_live,
        "stage3_max_reuse_distance": zero.max_reuse,
    }
    precision = workload.precision
    found: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": workload.batch.micro,
        "gradient_accumulation_steps": min(workload.batch.accumulation, MICRO_BATCHES),
        "zero_optimization": divided,
        "bf16": {"enabled": precision.params is Dtype.BF16},
        "fp16": {"enabled": precision.params is Dtype.FP16},
        "gradient_clipping": 1.0 if workload.optimizer.clipping else 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    if zero.communication is not None:
        found["communication_data_type"] = zero.communication.label
    if precision.gradients is not None:
        found["data_types"] = {"grad_accum_dtype": precision.gradients.label}
    return found
