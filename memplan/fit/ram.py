"""The host's RAM, which a plan has to fit as well."""

from __future__ import annotations

from dataclasses import replace

from memplan.domain.estimate import Verdict
from memplan.domain.plan import Plan
from memplan.domain.target import Target


def within_ram(plan: Plan, target: Target) -> Plan:
    """The plan, infeasible if it is not sure to fit the target's RAM, as far as that is known."""
    host = plan.after.host
    if target.ram is None or host.verdict(target.ram) is Verdict.FITS:
        return plan
    largest = max(host.components, key=lambda part: part.bytes)
    needs = f"{host.peak.rounded()}, at most {host.high.rounded()}"
    return replace(
        plan,
        feasible=False,
        blocking=largest.name,
        offer=f"host RAM of {target.ram.rounded()} is not enough: phase {host.peak_phase} needs {needs}",
    )
