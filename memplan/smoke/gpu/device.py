"""``--device cuda``: a workload's real run on the GPU, beside its prediction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.measurement import Comparison, Measurement
from memplan.domain.shortage import Shortage
from memplan.domain.target import Target
from memplan.domain.trace import Phase
from memplan.domain.workload import Attention, Workload
from memplan.estimate.components import ROUNDING
from memplan.estimate.host.offload import offloaded
from memplan.estimate.kept import kept
from memplan.smoke.declared.stand_ins import verified
from memplan.smoke.device import Asked
from memplan.smoke.gpu import message, snapshot
from memplan.smoke.gpu.driver import Driver
from memplan.smoke.gpu.emulation import Card, card, here
from memplan.smoke.gpu.limits import refuse
from memplan.smoke.gpu.prediction import Prediction, predict
from memplan.smoke.gpu.run import Seen, run
from memplan.smoke.libraries import require
from memplan.smoke.training import STEPS


class CudaDevice:
    """One GPU behind its driver; ``path`` is where a snapshot is written to, if one is asked for."""

    name = "cuda"

    def __init__(self, driver: Driver, path: Path | None = None) -> None:
        self.driver = driver
        self.path = path

    def pieces(self, asked: Asked) -> int:
        """One for each step."""
        return _steps(asked)

    def compare(self, workload: Workload, target: Target | None, asked: Asked) -> Comparison:
        """Predict a workload for this GPU, or for a smaller one that it stands for, and run it.

        ``asked.budget`` is what PyTorch may reserve. A run that is out of memory is an answer.

        Raises:
            InputError: the run is refused: it is not covered, or this GPU cannot stand for the target's.
            FileAccessError: the snapshot cannot be written.
        """
        if workload.simulated:
            refuse(workload)
        if self.path is not None:
            snapshot.writable(self.path)
        workload = replace(workload, framework=require(workload))
        driver = self.driver
        real = here(driver.name, driver.capability, driver.total)
        chosen = card(workload, target, real, driver.total, driver.free, asked.budget)
        expected = predict(chosen, _steps(asked))
        seen = self._recorded(workload, chosen, asked)
        return Comparison(
            device=self.name,
            predicted=_with_context(expected.measurement, chosen, seen),
            measured=replace(_measured(seen, chosen), overhead=self._overhead(workload, expected, seen)),
            notes=tuple(_notes(workload, chosen, expected, seen)),
            checks=tuple(_checks(workload, chosen, seen)),
            shortage=None if seen.words is None else _shortage(seen, seen.words, expected),
            foreseen=expected.died is not None,
        )

    def _recorded(self, workload: Workload, chosen: Card, asked: Asked) -> Seen:
        """Run within the card's limit, which holds no longer than the run."""
        driver = self.driver
        driver.record(stacks=self.path is not None)
        try:
            if chosen.fraction is not None:
                driver.allow(chosen.fraction)
            seen = run(driver, workload, chosen, replace(asked, steps=_steps(asked)))
            if self.path is not None:
                snapshot.write(driver, self.path)
            return seen
        finally:
            driver.forget()
            driver.give_back()
            if chosen.fraction is not None:
                driver.allow(1.0)

    def _overhead(self, workload: Workload, expected: Prediction, seen: Seen) -> Bytes | None:
        """The process's host memory where no tensor of the prediction lies in it; None where some do.

        A history with stacks, as a snapshot has, would be among it; so would what nobody computed with.
        """
        if self.path is not None or not workload.simulated:
            return None
        return None if any(offloaded(workload, kept(expected.trace))) else seen.meter.resident


def _steps(asked: Asked) -> int:
    """Two at least: the first makes the optimizer's states, and only the second is like all others."""
    return max(asked.steps, STEPS)


def _measured(seen: Seen, chosen: Card) -> Measurement:
    peaks = seen.meter.peaks
    highest = max(peaks.values(), default=Bytes(0))
    shares = seen.past.at_the_peak()
    rounding = highest - sum(amount for _, amount in shares)
    return Measurement(
        peak_allocated=highest,
        peak_reserved=seen.meter.reserved,
        process=None if chosen.emulates else seen.meter.held,
        context=None if chosen.emulates else seen.meter.context,
        phases=tuple(peaks.items()),
        components=(*shares, *(((ROUNDING, Bytes(rounding)),) if rounding > 0 else ())),
    )


def _with_context(found: Measurement, chosen: Card, seen: Seen) -> Measurement:
    """With what the process is to hold in all, where that can be seen: the context is the real card's."""
    if seen.meter.held is None or chosen.emulates or found.peak_reserved is None:
        return found
    context = chosen.target.context
    return replace(found, process=Bytes(found.peak_reserved + context), context=context)


def _shortage(seen: Seen, words: str, expected: Prediction) -> Shortage:
    """The refused allocation: from the allocator's history, else from PyTorch's message."""
    said = message.figures(words)
    failure = seen.past.failure
    phase = seen.meter.phase if failure is None else failure.phase
    alive = seen.past.at_the_end()
    tried = failure.tried if failure is not None else said.tried or Bytes(0)
    return Shortage(
        budget=expected.room,
        tried=tried,
        allocated=said.allocated or Bytes(sum(amount for _, amount in alive)),
        phase=phase,
        tensor=_tensor(seen, phase, tried, expected),
        alive=alive,
        predicted=expected.alive(phase, first=seen.meter.steps <= 1),
    )


def _tensor(seen: Seen, phase: Phase, tried: int, expected: Prediction) -> str:
    """What the allocation was for: the predicted tensor of its size, in the module that ran if one did."""
    module = seen.meter.scope.failed
    if found := expected.like(phase, tried, module or None):
        return found
    if module:
        return f"a tensor in {module}"
    if expected.doomed is not None and expected.doomed[0] is phase:
        return f"a tensor like {expected.doomed[1]}"
    return "a tensor outside modules"


def _checks(workload: Workload, chosen: Card, seen: Seen) -> Iterator[tuple[str, bool]]:
    if isinstance(workload.model, DeclaredModel) and seen.words is None:
        yield from verified(workload.model, chosen.room)


def _notes(workload: Workload, chosen: Card, expected: Prediction, seen: Seen) -> Iterator[str]:
    releases = workload.framework
    if workload.simulated:
        yield f"run with torch {releases.torch} and transformers {releases.transformers}"
    else:
        yield f"made as declared with torch {releases.torch}: nothing is computed with them"
    yield from chosen.notes
    if workload.attention is Attention.FLASH_ATTENTION_2:
        yield "FlashAttention-2 is PyTorch's own, not the flash_attn package"
    if seen.usage.retries:
        times = "once" if seen.usage.retries == 1 else f"{seen.usage.retries} times"
        yield f"cached memory was given back {times} to make room"
    if seen.meter.held is not None and chosen.emulates:
        yield f"the process held {seen.meter.held.rounded()}, the CUDA context of the real card included"
    if seen.words is not None:
        yield f"PyTorch: {message.first_sentences(seen.words)}"
    if expected.doomed is not None and seen.words is None:
        phase, tensor = expected.doomed
        yield f"predicted to be out of memory in {phase}, for {tensor}; it was not"
