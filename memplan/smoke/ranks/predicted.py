"""What the simulator says that each rank holds.

One rank is simulated; of others the same holds, but for what is cut unevenly: rows of FSDP2's shards, of
which the last ranks get fewer, and optimizer states made in their likeness.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from memplan.domain.bytes import Bytes
from memplan.domain.ranks import Holdings
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Workload
from memplan.simulator.replay import alive, replay
from memplan.smoke.cpu.rules import on_cpu

WEIGHTS = ("embeddings", "decoder_matrix", "blocks", "adapter", "flat_parameters")
"""Components of parameters and buffers."""


def holdings(workload: Workload, trace: Trace) -> Iterator[Holdings]:
    """Of every rank in order. ``trace`` is that of the simulated one on a GPU, with optimizer steps."""
    update = max(start for start, phase in trace.phases if phase is Phase.OPTIMIZER)
    before, after = alive(trace, update - 1), alive(trace, len(trace.events) - 1)
    phases = replay(on_cpu(trace, workload), exact=True).phases
    peak = max(found.allocated for phase, found in phases.items() if phase is not Phase.LOAD)
    states = [block for block in after if _is(trace, block, "optimizer_state")]
    for rank in range(workload.world.data_parallel):
        spared = _spared(trace, states, workload, rank)
        yield Holdings(
            parameters=Bytes(sum(trace.sizes[block] for block in after if _is(trace, block, *WEIGHTS))),
            gradients=Bytes(sum(trace.sizes[block] for block in before if _is(trace, block, "gradients"))),
            optimizer_state=Bytes(sum(trace.sizes[block] for block in states) - spared),
            peak_allocated=Bytes(peak - spared),
        )


def _is(trace: Trace, block: int, *components: str) -> bool:
    return trace.tags[block][0] in components


def _spared(trace: Trace, states: list[int], workload: Workload, rank: int) -> int:
    """Bytes of states that a rank has less than rank 0: FSDP2 pads shards and their gradients, not states.

    Rows are cut as ``torch.chunk`` does (``_chunk_with_empty`` in torch/distributed/fsdp/_fully_shard).
    """
    if workload.world.sharding != "fsdp2":
        return 0
    rows = {tag[1]: tag[3][0] for tag in trace.tags if tag[2] == "gathered" and tag[3]}
    found = 0
    for block in states:
        _, name, _, shape, dtype = trace.tags[block]
        left = max(0, rows.get(name, 1) - rank * shape[0])
        found += max(0, shape[0] - left) * prod(shape[1:]) * dtype.itemsize
    return found
