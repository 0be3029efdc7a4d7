"""A GPU that is none: tensors without bytes under CUDA's rules, in the memory of a simulated allocator.

It stands where ``memplan.smoke.gpu.driver.Cuda`` does, so that all else of a run on a GPU is the real thing:
the real classes run, the allocator fails as PyTorch's does, and says so in PyTorch's words.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

from memplan.domain.bytes import Bytes
from memplan.domain.out_of_memory import OutOfMemory
from memplan.domain.target import Target
from memplan.domain.trace import Phase, Tag, Trace
from memplan.domain.workload import Attention, Task, Workload
from memplan.simulator import rounding
from memplan.simulator.allocator import Allocator, ExhaustedError
from tests.oracle.libraries import library

torch = library("torch")
library("transformers")
library("peft")

from torch._subclasses import fake_tensor  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils._python_dispatch import _disable_current_modes  # noqa: E402

from memplan.smoke import attention, engine, model, trace  # noqa: E402
from memplan.smoke.gpu import meter, run  # noqa: E402
from memplan.smoke.gpu.driver import Entry, Usage  # noqa: E402
from memplan.smoke.recorder import Recorder  # noqa: E402


class Memory(Trace):
    """A trace whose every event happens in an allocator too, and in a history of actions."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.allocator = Allocator(budget=capacity)
        self.capacity = capacity
        self.addresses: dict[int, int] = {}
        self.actions: list[Entry] = []
        self.recording = False
        self.most = [0, 0]

    def allocate(self, size: int, tag: Tag) -> int:
        try:
            address = self.allocator.allocate(size)
        except ExhaustedError as error:
            self._note(action="oom", size=rounding.block(size), device_free=0)
            raise torch.cuda.OutOfMemoryError(self._words(error.asked)) from None
        block = super().allocate(size, tag)
        self.addresses[block] = address
        self._note(action="alloc", addr=address, size=size)
        self.look()
        return block

    def free(self, block: int) -> None:
        super().free(block)
        address = self.addresses[block]
        self.allocator.release(address)
        for action in ("free_requested", "free_completed"):
            self._note(action=action, addr=address, size=self.sizes[block])

    def _note(self, **entry: Any) -> None:
        if self.recording:
            self.actions.append(entry)

    def look(self) -> None:
        now = (self.allocator.allocated, self.allocator.reserved)
        self.most = [max(pair) for pair in zip(self.most, now, strict=True)]

    def _words(self, asked: int) -> str:
        found = self.allocator
        return OutOfMemory(
            tried=Bytes(asked),
            capacity=Bytes(self.capacity),
            free=Bytes(0),
            in_use=Bytes(found.reserved),
            allocated=Bytes(found.allocated),
            cached=Bytes(found.reserved - found.allocated),
            phase=Phase.LOAD,
            tensor="",
            allowed=Bytes(found.budget),
        ).message


class Truthful(Recorder):
    """A recorder of tensors that have numbers."""

    def _read(self, func: Any, args: Any) -> Any:
        return func(*args)


class FakeGpu(AbstractContextManager["FakeGpu"]):
    """A driver of no GPU; ``fractions`` are those that were set, ``kernels`` what attention was given.

    Generation depends on what is generated, so its tensors have bytes.
    """

    place = "cpu"
    shortage: type[BaseException] = torch.cuda.OutOfMemoryError

    def __init__(self, workload: Workload, target: Target, context: int = 300 * 2**20) -> None:
        self.workload = workload
        self.name = target.name
        self.capability = target.compute_capability
        self.total = target.usable
        self.free = Bytes(target.usable - context)
        self.context = context
        self.empty = workload.task is Task.TRAIN
        kind = Recorder if self.empty else Truthful
        self.recorder = kind(self.capability, answer=not workload.causal_mask, scalars_on_host=True)
        self.recorder.trace = self.memory = Memory(self.total - context)
        self.fractions: list[float] = []
        self.kernels: list[tuple[Attention, ...]] = []
        self.recording: list[bool] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        enter = self._stack.enter_context
        enter(patch.object(run, "build", _built))
        enter(patch.object(run, "initialise", _initialised if self.empty else _untold(model.initialise)))
        enter(patch.object(run, "PhaseMeter", partial(ToldMeter, self.recorder)))
        if self.empty:
            enter(fake_tensor.FakeTensorMode())
        enter(self.recorder)
        enter(trace._cuda(self.recorder, self.workload))
        if self.empty:
            enter(trace._values_are_read())
        self.recorder.in_backward = True
        engine.sum_of_two()
        self.recorder.in_backward = False
        # A process of its own begins here.
        self.recorder.trace = self.memory = Memory(self.total - self.context)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def usage(self) -> Usage:
        found = self.memory
        return Usage(
            allocated=Bytes(found.allocator.allocated),
            reserved=Bytes(found.allocator.reserved),
            most_allocated=Bytes(found.most[0]),
            most_reserved=Bytes(found.most[1]),
            retries=found.allocator.retries,
        )

    def restart(self) -> None:
        self.memory.most = [0, 0]
        self.memory.look()

    def give_back(self) -> None:
        self.memory.allocator.release_cached()

    def allow(self, fraction: float) -> None:
        self.fractions.append(fraction)
        self.memory.allocator.budget = min(int(fraction * self.total), self.memory.capacity)

    @contextmanager
    def attending(self, kernels: Iterable[Attention]) -> Iterator[None]:
        """Without the flash kernel the choice is that of a card below 8.0."""
        self.kernels.append(tuple(kernels))
        capability = self.capability if Attention.FLASH_ATTENTION_2 in self.kernels[-1] else (7, 5)
        kind = self.workload.attention
        card = attention.Gpu(capability, self.workload.framework)
        attend = partial(attention.attend, kind, card, self.recorder.adding_in_place)
        with patch.object(functional, "scaled_dot_product_attention", attend):
            yield

    def record(self, *, stacks: bool) -> None:
        self.recording.append(stacks)
        self.memory.recording = True

    def count(self) -> int:
        return len(self.memory.sizes)

    def history(self) -> Sequence[Entry]:
        return self.memory.actions

    def dump(self, path: Path) -> None:
        path.write_bytes(pickle.dumps({"segments": [], "device_traces": [self.memory.actions]}))

    def forget(self) -> None:
        self.memory.recording = False
        self.memory.actions.clear()

    def address(self, tensor: Any) -> int:
        """Counters of optimizers lie in host memory, which history knows nothing of."""
        found = self.recorder._blocks.get(tensor.untyped_storage()._cdata)
        return 0 if found is None else self.memory.addresses[found[0]]

    def held(self) -> Bytes | None:
        return Bytes(self.memory.allocator.reserved + self.context)


class ToldMeter(meter.PhaseMeter):
    """Tells the recorder of phases too: it stands for the hardware, which needs to know them."""

    def __init__(self, recorder: Recorder, driver: Any) -> None:
        super().__init__(driver)
        self.recorder = recorder

    def enter(self, phase: Phase) -> None:
        super().enter(phase)
        self.recorder.enter(phase)

    def leave(self, phase: Phase) -> None:
        super().leave(phase)
        self.recorder.leave(phase)


def _initialised(_: Any) -> None:
    """Tensors without bytes have no numbers to draw."""


def _untold(call: Callable[[Any], None]) -> Callable[[Any], None]:
    """What it takes is given back before anything is counted."""

    def called(argument: Any) -> None:
        with _disable_current_modes():
            call(argument)

    return called


def _built(workload: Workload) -> Any:
    """Nothing is to be counted before the model is loaded."""
    with _disable_current_modes():
        return model.build(workload)
