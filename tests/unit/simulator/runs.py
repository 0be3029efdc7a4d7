"""Small runs in the simulator, and questions about their traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase, Tag, Trace
from memplan.domain.workload import Attention, Batch, Outputs, Precision, Sequence, Workload
from memplan.estimate import trace_of
from memplan.families import architecture, build
from memplan.simulator.autograd import backward
from memplan.simulator.kernels import choose
from memplan.simulator.optimizer import Stepper
from memplan.simulator.step import Model
from memplan.simulator.tensor import Tape, Tensor

AMPERE = (8, 0)
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
}
BF16 = Precision(params=Dtype.BF16)
FP32 = Precision(params=Dtype.FP32)
AMP = Precision(params=Dtype.FP32, autocast=Dtype.BF16)


def shape(**changes: Any) -> Architecture:
    """A small Llama with some keys changed."""
    return architecture(CONFIG | changes, lambda _: None)


def workload(model: Architecture | None = None, **settings: Any) -> Workload:
    """Full bf16 training of a small model: 2 sequences of 16 tokens, flash attention, nothing kept."""
    plain: dict[str, Any] = {
        "batch": Batch(micro=2),
        "sequence": Sequence(length=16),
        "attention": Attention.FLASH_ATTENTION_2,
    }
    return Workload(model=model or shape(), **(plain | settings))


def model_of(case: Workload) -> Architecture:
    """The architecture of a workload that has one."""
    assert isinstance(case.model, Architecture)
    return case.model


def builder(case: Workload, capability: tuple[int, int] = AMPERE) -> Callable[[Tape], Model]:
    """What loads the workload's model onto a tape."""
    found = model_of(case)
    kind = choose(found, case, capability)
    return lambda tape: build(tape, found, case, kind)


def run(case: Workload, capability: tuple[int, int] = AMPERE) -> Trace:
    """The trace of a workload."""
    return trace_of(case, capability)


def by_hand(case: Workload, steps: int) -> Trace:
    """The trace of as many steps as asked for, from the public pieces and without shortcuts."""
    tape = Tape(AMPERE)
    tape.trace.enter(Phase.LOAD)
    model = builder(case)(tape)
    stepper = Stepper(tape, case.optimizer, model.leaves)
    for _ in range(steps):
        tape.trace.cycles.append(len(tape.trace.events))
        _step(tape, case, model, stepper)
    return tape.trace.closed()


def _step(tape: Tape, case: Workload, model: Model, stepper: Stepper) -> None:
    kept: tuple[Tensor, ...] = ()
    size = (case.batch.micro, case.sequence.length)
    for _ in range(case.batch.accumulation):
        tape.trace.enter(Phase.FORWARD)
        tape.component, tape.scope = "activations", "inputs"
        batch = tape.empty(size, Dtype.INT64, "input_ids"), tape.empty(size, Dtype.INT64, "labels")
        tape.autocast = case.precision.autocast
        loss, logits = model.loss(*batch)
        tape.autocast = None
        tape.casts.clear()
        kept = () if case.outputs is Outputs.DROPPED else (loss, logits)
        del logits
        tape.trace.enter(Phase.BACKWARD)
        backward(loss)
        if case.outputs is Outputs.UNTIL_STEP:
            kept = ()
        del loss
    tape.trace.enter(Phase.OPTIMIZER)
    tape.component, tape.scope = "temporaries", "optimizer"
    stepper.step()
    stepper.zero_grad()
    del kept


def described(trace: Trace, cycle: int) -> list[tuple[bool, int, Tag]]:
    """What one cycle does, without block numbers: allocation or free, size, tag."""
    end = [*trace.cycles, len(trace.events)][cycle + 1]
    return [
        (event >= 0, trace.sizes[max(event, ~event)], trace.tags[max(event, ~event)])
        for event in trace.events[trace.cycles[cycle] : end]
    ]


Wanted = Callable[[Tag], bool]


def everything(_: Tag) -> bool:
    """Any tensor."""
    return True


def unless_workspace(tag: Tag) -> bool:
    """Any tensor but the workspaces of libraries."""
    return tag[0] != "workspace"


def timeline(trace: Trace, wanted: Wanted = unless_workspace) -> Iterator[tuple[int, Phase, int]]:
    """Event index, its phase, and the bytes of wanted tensors in use after it."""
    used = 0
    starts = dict(trace.phases)
    phase = Phase.LOAD
    for index, event in enumerate(trace.events):
        phase = starts.get(index, phase)
        block = max(event, ~event)
        if wanted(trace.tags[block]):
            used += trace.sizes[block] if event >= 0 else -trace.sizes[block]
        yield index, phase, used


def peak(trace: Trace, phase: Phase | None = None, wanted: Wanted = unless_workspace) -> int:
    """The most bytes of wanted tensors in use at once (in a phase)."""
    return max((used for _, where, used in timeline(trace, wanted) if phase in (None, where)), default=0)


def at_start(trace: Trace, phase: Phase, wanted: Wanted = unless_workspace, *, which: int = 0) -> int:
    """Bytes of wanted tensors in use when a phase begins, for the which-th time."""
    starts = [start for start, name in trace.phases if name is phase]
    return next((used for index, _, used in timeline(trace, wanted) if index == starts[which] - 1), 0)


def at_end(trace: Trace, wanted: Wanted = unless_workspace) -> int:
    """Bytes of wanted tensors that are left."""
    return sum(trace.sizes[block] for block in alive(trace) if wanted(trace.tags[block]))


def alive(trace: Trace) -> set[int]:
    """Blocks that are never freed; fails when one is freed twice or before it exists."""
    blocks: set[int] = set()
    made: set[int] = set()
    for event in trace.events:
        if event >= 0:
            assert event not in made
            made.add(event)
            blocks.add(event)
        else:
            assert ~event in blocks, f"block {~event} is freed and not in use"
            blocks.discard(~event)
    return blocks


def changed(case: Workload, **fields: Any) -> Workload:
    """A workload with other fields."""
    return replace(case, **fields)
