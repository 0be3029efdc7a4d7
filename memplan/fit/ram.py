"""The host's RAM, where it is what a plan fails at."""

from __future__ import annotations

from dataclasses import replace

from memplan.domain.plan import Plan
from memplan.domain.target import Target


def short_of_ram(plan: Plan, target: Target) -> Plan:
    """An infeasible plan that says so if the host's RAM is not sure to be enough."""
    host = plan.after.host
    if plan.feasible or target.ram is None or host.high <= target.ram:
        return plan
    largest = max(host.components, key=lambda part: part.bytes)
    needs = f"{host.peak.rounded()}, at most {host.high.rounded()}"
    reason = f"host RAM of {target.ram.rounded()} is not enough: phase {host.peak_phase} needs {needs}"
    offer = f"{reason}; {plan.offer}" if plan.offer else reason
    return replace(plan, blocking=largest.name, offer=offer)
