"""The CPU as a device: real steps, watched twice.

First ``steps`` steps run undisturbed, while the kernel keeps the highest resident set of every phase; then
two more, as a new run, whose allocations PyTorch's profiler writes down one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from memplan.domain.bytes import Bytes
from memplan.domain.measurement import Comparison, Measurement
from memplan.domain.target import Target
from memplan.domain.workload import Attention, Task, Workload
from memplan.smoke.cpu import budget
from memplan.smoke.cpu.limits import refuse
from memplan.smoke.cpu.observation import Seen, observe
from memplan.smoke.cpu.prediction import measurement, on_top, predicted, with_resident
from memplan.smoke.cpu.surroundings import check_memory
from memplan.smoke.device import Asked
from memplan.smoke.libraries import require
from memplan.smoke.scaled import depths, extrapolated, shallower
from memplan.smoke.training import STEPS


class Cpu:
    """This machine's processor and its memory; ``scaled`` runs a deep model at two smaller depths."""

    name = "cpu"

    def __init__(self, *, scaled: bool = False) -> None:
        self.scaled = scaled

    def pieces(self, asked: Asked) -> int:
        """Every step, and those that are watched event by event; all of it twice for two depths."""
        return (asked.steps + STEPS) * (2 if self.scaled else 1)

    def compare(self, workload: Workload, _target: Target | None, asked: Asked) -> Comparison:
        """Predict, run, and put both side by side; the GPU it is meant for is of no consequence here.

        Raises:
            InputError: what the workload asks for does not run on a CPU, or takes more memory than is free.
            FieldError: it is not simulated.
        """
        refuse(workload)
        workload = replace(workload, framework=require(workload))
        expected = predicted(workload)
        if self.scaled:
            return self._scaled(workload, measurement(workload, expected), asked)
        check_memory(measurement(workload, expected).peak_allocated)
        seen = observe(workload, asked)
        found = Comparison(
            device=self.name,
            predicted=measurement(workload, expected, seen.baseline),
            measured=with_resident(measurement(workload, seen.trace), seen.phases),
            notes=tuple(_notes(workload, asked, seen)),
        )
        return (
            found
            if asked.budget is None
            else budget.within(found, workload, seen.trace, expected, asked.budget)
        )

    def _scaled(self, workload: Workload, expected: Measurement, asked: Asked) -> Comparison:
        """Run it at two smaller depths; the prediction stays that of the whole model."""
        found = depths(workload, lambda small: measurement(small, predicted(small)))
        smaller = [shallower(workload, layers) for layers in (found.fewer, found.more)]
        check_memory(measurement(smaller[1], predicted(smaller[1])).peak_allocated)
        seen = [observe(small, asked) for small in smaller]
        measured = [
            with_resident(measurement(small, one.trace), one.phases)
            for small, one in zip(smaller, seen, strict=True)
        ]
        said = (
            f"run with {found.fewer} and with {found.more} of {found.whole} layers; what was seen is scaled"
            " up from these (resident sets by what is allocated), the prediction is for all of them"
        )
        return Comparison(
            device=self.name,
            predicted=on_top(expected, seen[1].baseline),
            measured=extrapolated(measured[0], measured[1], found),
            notes=(said, *_notes(workload, asked, seen[1])),
        )


def _notes(workload: Workload, asked: Asked, seen: Seen) -> Iterator[str]:
    releases = workload.framework
    steps = "step" if asked.steps == 1 else "steps"
    what = "calls of generate" if workload.task is Task.GENERATE else f"optimizer {steps}"
    yield (
        f"{asked.steps} {what} with torch {releases.torch} and transformers {releases.transformers} on one"
        " thread, then more, allocation by allocation"
    )
    yield f"{Bytes(seen.baseline).rounded()} were resident before the model was loaded"
    if seen.scratch:
        yield f"what oneDNN took for itself is left out: {Bytes(seen.scratch).rounded()} in a product at most"
    if not seen.exact:
        yield "resident sets were read between phases: this system does not keep the highest"
    if workload.attention is Attention.SDPA:
        yield "scaled_dot_product_attention ran the kernel PyTorch has for a CPU, which is what was predicted"
    if workload.precision.autocast is not None:
        yield "autocast kept CUDA's lists of ops"
