"""The host's RAM, where it is what a plan fails at."""

from __future__ import annotations

from dataclasses import replace

from memplan.domain.bytes import Bytes
from memplan.domain.plan import Plan
from memplan.domain.target import Target


def short_of_ram(plan: Plan, target: Target) -> Plan:
    """An infeasible plan that says so if the host's RAM is not sure to be enough."""
    host = plan.after.host
    if plan.feasible or target.ram is None:
        return plan
    room = Bytes(target.ram - (plan.margin if target.host_only else 0))
    if host.high <= room:
        return plan
    if target.host_only:
        # That its memory is short is what the plan is about, and said.
        return replace(plan, blocking=host.largest().name)
    reason = host.shortage(room)
    offer = f"{reason}; {plan.offer}" if plan.offer else reason
    return replace(plan, blocking=host.largest().name, offer=offer)
