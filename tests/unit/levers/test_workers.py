"""The lever of loader workers: host RAM alone, and only where that is known to be short."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from memplan.domain.bytes import Bytes
from memplan.domain.host import HostUse
from memplan.domain.target import Target
from memplan.domain.workload import Task, Workload
from memplan.estimate import estimate
from memplan.levers import workers
from tests.planning import workload

SHORT = Target.of_amount(Bytes.parse("24GiB"), ram=Bytes.parse("8GiB"))


def run(**use: Any) -> Workload:
    return workload(micro=2, length=512).changed("host", HostUse(**use))


def offered(what: Workload, target: Target | None = SHORT) -> list[dict[str, Any]]:
    return [dict(option.changes) for option in workers.options(what, target)]


def test_batches_ahead_come_before_workers_and_workers_before_pinned_memory() -> None:
    assert offered(run(workers=5, prefetch=4)) == [
        {"host.prefetch": 2},
        {"host.workers": 2, "host.prefetch": 2},
        {"host.workers": 1, "host.prefetch": 2},
        {"host.workers": 0, "host.prefetch": 2},
        {"host.workers": 0, "host.prefetch": 2, "host.pinned": False},
    ]
    assert offered(run(workers=1, pinned=False)) == [{"host.workers": 0}]
    assert offered(run()) == [{"host.pinned": False}]


@pytest.mark.parametrize(
    ("what", "target"),
    [
        (run(workers=4), None),
        (run(workers=4), Target.of_amount(Bytes.parse("24GiB"))),
        (run(workers=4).changed("task", Task.GENERATE), SHORT),
        (run(workers=0, pinned=False), SHORT),
    ],
    ids=["no target", "RAM unknown", "generation", "nothing left"],
)
def test_nothing_is_offered_where_host_ram_is_not_asked_for(what: Workload, target: Target | None) -> None:
    assert offered(what, target) == []


def test_every_option_takes_less_host_ram_and_as_much_of_the_gpu() -> None:
    what = run(workers=4, prefetch=64)
    found = [what]
    for option in workers.options(what, SHORT):
        after = what
        for field, value in option.changes.items():
            after = after.changed(field, value)
        found.append(after)
    estimates = [estimate(each, SHORT) for each in found]
    peaks = [each.host.peak for each in estimates]
    assert all(later < earlier for earlier, later in pairwise(peaks))
    assert len({each.device.process for each in estimates}) == 1
