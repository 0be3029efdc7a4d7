"""How long a training step takes, roughly: a model that ranks plans and promises nothing else.

A step is the sum of its parts, each after what frameworks do and at rates their vendors state: matrix
products (``products``), attention and kernels that only move bytes (``kernels``), the loss (``loss``), the
optimizer (``update``), and copies to the host (``offload``) and between GPUs (``sharding``), which overlap
with the rest. Full training needs 6·N operations per token (Kaplan et al., arXiv:2001.08361, §2.1), LoRA
4·N and those of its adapters (Hu et al., arXiv:2106.09685, §4.2), a recomputed block its forward pass again.

No constant is fitted to a measured run; ``benchmarks/throughput.py`` compares the model with published ones.
Left out: compilation, and how far kernels stay below the stated rates, which affects plans
for the same model alike. That is why ratios are used and times are not.

Laws (tests/property/test_cost.py): a workload is as fast as itself; recomputing more, smaller micro-batches,
offloading and sharding more are never faster; and the fastest option of a lever is the fastest whatever the
other levers do, those in ``UNRANKED`` excepted.
"""

from __future__ import annotations

from memplan.domain.architecture import Architecture, DeclaredModel
from memplan.domain.target import Target
from memplan.domain.workload import Task, Workload
from memplan.levers.cost.generation import seconds_per_generated
from memplan.levers.cost.rates import rates_of
from memplan.levers.cost.training import seconds_per_token

__all__ = ["slowdown", "token_seconds"]

_LAST: list[tuple[Workload, Target | None, float]] = []


def slowdown(before: Workload, after: Workload, target: Target | None) -> float:
    """Time per token of ``after`` relative to ``before``: 1.3 is 30 % slower.

    Of a mechanism it is the time of a round; 1.0 for tensors that somebody declared.
    """
    if before.task is not after.task:
        return 1.0
    if isinstance(before.model, DeclaredModel) and isinstance(after.model, DeclaredModel):
        return _of_mechanism(before.model, after.model)
    reference = _reference(before, target)
    seconds = reference if after is before else token_seconds(after, target)
    return seconds / reference if seconds and reference else 1.0


def _of_mechanism(before: DeclaredModel, after: DeclaredModel) -> float:
    if before.mechanism is None or after.mechanism != before.mechanism:
        return 1.0
    from memplan import programs

    program = programs.find(before.mechanism)
    return program.work(dict(after.values)) / program.work(dict(before.values))


def token_seconds(workload: Workload, target: Target | None) -> float:
    """Modelled seconds per token trained on, or generated, by one GPU; 0.0 for a declared model."""
    if not isinstance(workload.model, Architecture):
        return 0.0
    rates = rates_of(target)
    if workload.task is Task.GENERATE:
        return seconds_per_generated(workload, workload.model, rates)
    return seconds_per_token(workload, workload.model, rates)


def _reference(workload: Workload, target: Target | None) -> float:
    """What everything is compared with: the same workload many thousand times over."""
    if _LAST and _LAST[0][0] is workload and _LAST[0][1] is target:
        return _LAST[0][2]
    seconds = token_seconds(workload, target)
    _LAST[:] = [(workload, target, seconds)]
    return seconds
