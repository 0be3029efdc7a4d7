"""What each block of a model keeps for backward, and what it costs to run it once more.

Kept bytes are the simulator's: one block of each kind is run, and counted is what it has made when backward
begins. To run it again takes two operations per token and weight, of experts those that a token passes, and
with S positions attended to 4·S·(heads × head_dim) per token for the two products of attention, half of it
where what lies ahead is skipped (Kaplan et al., arXiv:2001.08361, §2.1).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

from memplan.domain.architecture import Architecture
from memplan.domain.checkpointing import Checkpointing
from memplan.domain.host import ActivationOffload
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Batch, Workload, World
from memplan.simulator.folding import Fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Bytes that a block keeps in one forward pass, and of its ``input``, all that stays if it is recomputed.

    ``operations`` are those of the recomputation, per token.
    """

    kept: int
    input: int
    operations: float

    @property
    def worth(self) -> float:
        """Bytes that recomputing the block frees, per operation."""
        return (self.kept - self.input) / self.operations


def blocks(workload: Workload, shape: Architecture, capability: tuple[int, int]) -> tuple[Block, ...]:
    """Each block of a training, by depth; encoder and decoder of one model count as alike.

    Raises:
        FieldError: the workload asks for what is not simulated.
    """
    plain = replace(
        workload,
        checkpointing=Checkpointing(),
        activation_offload=ActivationOffload.NONE,
        batch=Batch(micro=workload.batch.micro),
        evaluation=None,
        world=World(),
        unmodelled=(),
    )
    return _blocks(plain, shape, capability)


@lru_cache(maxsize=64)
def _blocks(workload: Workload, shape: Architecture, capability: tuple[int, int]) -> tuple[Block, ...]:
    kinds = [_kind(shape, index) for index in range(shape.num_hidden_layers)]
    # The first block is its own kind: with adapters nothing in front of it needs a gradient.
    places = {kind: index for index, kind in reversed(list(enumerate(kinds))) if index}
    shown = sorted({0, *places.values(), shape.num_hidden_layers - 1})
    trace = _trace(workload, shape, capability, shown)
    again = _trace(replace(workload, checkpointing=Checkpointing(every=1)), shape, capability, shown)
    made = {
        index: Block(
            kept=_activations(trace, layer),
            input=_activations(again, layer - 1),
            operations=2 * _weights(trace, shape, layer) + _attention(workload, shape, index),
        )
        for layer, index in enumerate(shown)
    }
    found = [made[places.get(kind, 0)] for kind in kinds]
    return tuple(found + found[-1:] * (shape.depth - len(found)))


def _kind(shape: Architecture, index: int) -> Hashable:
    dense = shape.mixture.dense if shape.mixture is not None else ()
    return shape.layer_type(index), index in dense, index in shape.unrotated


def _trace(workload: Workload, shape: Architecture, capability: tuple[int, int], shown: list[int]) -> Trace:
    from memplan.families import build
    from memplan.simulator.kernels import choose
    from memplan.simulator.step import train

    kernel = choose(shape, workload, capability)
    part = Fold(tuple(enumerate(shown)), 0)
    return train(workload, lambda tape: build(tape, shape, workload, kernel), capability, part)


def _activations(trace: Trace, layer: int) -> int:
    """Bytes a layer has made that are kept for backward; the result of a layer is the input of the next."""
    return sum(
        trace.sizes[block]
        for block in _held(trace)
        if trace.layers[block] == layer and trace.tags[block][0] == "activations"
    )


def _weights(trace: Trace, shape: Architecture, layer: int) -> float:
    """Weights of a layer that a token is multiplied with."""
    mixture, found = shape.mixture, 0.0
    for block in _held(trace):
        component, _, _, sides, _ = trace.tags[block]
        if component == "blocks" and trace.layers[block] == layer and len(sides) > 1:
            passed = mixture.chosen / mixture.experts if mixture is not None and len(sides) == 3 else 1.0
            found += passed * prod(sides)
    return found


def _attention(workload: Workload, shape: Architecture, index: int) -> float:
    seen = workload.sequence.length
    if shape.sliding_window is not None and shape.layer_type(index) == "sliding_attention":
        seen = min(seen, shape.sliding_window)
    return 4.0 * seen * shape.num_attention_heads * shape.head_dim / (2 if shape.causal else 1)


def _held(trace: Trace) -> list[int]:
    """Blocks that are allocated when backward begins."""
    end = next(start for start, phase in trace.phases if phase is Phase.BACKWARD)
    alive: dict[int, None] = {}
    for event in trace.events[:end]:
        if event >= 0:
            alive[event] = None
        else:
            alive.pop(~event, None)
    return list(alive)
