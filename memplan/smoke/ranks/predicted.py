"""What the simulator says that each rank holds.

One rank is simulated. Others hold the same, but for what is cut unevenly: rows of FSDP2's shards, of which
the last ranks get fewer, and gradients under ZeRO's stages 1 and 2, which each rank keeps whole for the
parameters that reach into its partition.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import Bytes
from memplan.domain.ranks import Holdings
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Attention, Workload
from memplan.families import build
from memplan.simulator.kernels import HOST
from memplan.simulator.replay import alive, replay
from memplan.simulator.sharding.zero_layout import Layout
from memplan.simulator.tensor import Tape
from memplan.smoke.cpu.rules import on_cpu

WEIGHTS = ("embeddings", "decoder_matrix", "blocks", "adapter", "flat_parameters")
"""Components of parameters and buffers."""

KEPT_WHOLE = "grads_in_partition"
"""The buffer of gradients that ZeRO's stages 1 and 2 keep whole."""


def holdings(workload: Workload, trace: Trace) -> Iterator[Holdings]:
    """Of every rank in order. ``trace`` is that of the simulated one, with optimizer steps.

    Single numbers are no states here, wherever PyTorch keeps them.
    """
    update = max(start for start, phase in trace.phases if phase is Phase.OPTIMIZER)
    before, after = alive(trace, update - 1), alive(trace, len(trace.events) - 1)
    for rank in range(workload.world.data_parallel):
        own = of_rank(trace, workload, rank)
        phases = replay(on_cpu(own, workload), exact=True).phases
        yield Holdings(
            parameters=_sum(own, after, *WEIGHTS),
            gradients=_sum(own, before, "gradients"),
            optimizer_state=_sum(own, [block for block in after if own.tags[block][3]], "optimizer_state"),
            peak_allocated=Bytes(
                max(found.allocated for phase, found in phases.items() if phase is not Phase.LOAD)
            ),
        )


def _sum(trace: Trace, blocks: list[int], *components: str) -> Bytes:
    return Bytes(sum(trace.sizes[block] for block in blocks if trace.tags[block][0] in components))


def of_rank(trace: Trace, workload: Workload, rank: int) -> Trace:
    """The trace with the sizes that blocks have on another rank."""
    sharding = workload.world.sharding
    made = trace.closed()
    if sharding == "fsdp2":
        _fewer_rows(made, rank)
    elif sharding in ("zero1", "zero2"):
        kept = _kept_whole(workload, rank)
        for block, (_, _, op, _, dtype) in enumerate(made.tags):
            if op == KEPT_WHOLE:
                made.sizes[block] = kept * dtype.itemsize
    return made


def _fewer_rows(trace: Trace, rank: int) -> None:
    """States of a rank's own rows: FSDP2 pads shards and their gradients, not what is made in their likeness.

    Rows are cut as ``torch.chunk`` does (``_chunk_with_empty`` in torch/distributed/fsdp/_fully_shard).
    """
    rows = {tag[1]: tag[3][0] for tag in trace.tags if tag[2] == "gathered" and tag[3]}
    for block, (component, name, _, shape, dtype) in enumerate(trace.tags):
        if component == "optimizer_state" and shape:
            own = min(shape[0], max(0, rows.get(name, shape[0]) - rank * shape[0]))
            trace.sizes[block] = own * prod(shape[1:]) * dtype.itemsize


def _kept_whole(workload: Workload, rank: int) -> int:
    """Elements of the parameters that reach into a rank's partition."""
    assert isinstance(workload.model, Architecture)
    tape = Tape(HOST, workload.framework)
    model = build(tape, workload.model, workload, Attention.EAGER)
    sizes = tuple(prod(leaf.shape) for leaf in model.leaves)
    layout = Layout(sizes, workload.world.data_parallel)
    return sum(sizes[index] for index, _ in layout.owned(rank))
