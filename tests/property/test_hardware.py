"""Law: whatever the levers make of a run, it asks for nothing a GPU lacks but what its config asked for."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from memplan import profiles
from memplan.domain.dtype import Dtype
from memplan.domain.hardware import lacking
from memplan.domain.target import Target
from memplan.domain.workload import Adapter, Attention, Evaluation, Task, Workload, World
from memplan.levers import LEVERS
from tests.planning import workload

halves = st.sampled_from([Dtype.FP32, Dtype.FP16, Dtype.BF16])
targets = st.sampled_from(["gtx1650", "t4", "v100-16gb", "rtx3090", "a100-80g-sxm"]).map(profiles.target)
workloads = st.builds(
    lambda params, autocast, attention, adapter, size, evaluation, task: (
        workload(micro=6)
        .changed("precision.params", params)
        .changed("precision.autocast", autocast)
        .changed("attention", attention)
        .changed("adapter", adapter)
        .changed("world", World(data_parallel=size))
        .changed("evaluation", evaluation)
        .changed("task", task)
    ),
    halves,
    st.none() | halves,
    st.sampled_from(Attention),
    st.none() | st.builds(Adapter, dtype=halves),
    st.sampled_from([1, 1, 4]),
    st.none() | st.builds(Evaluation, batch=st.sampled_from([0, 8])),
    st.sampled_from([Task.TRAIN, Task.TRAIN, Task.GENERATE]),
)


@settings(max_examples=150, deadline=None)
@given(what=workloads, target=targets, data=st.data())
def test_no_combination_of_options_asks_for_more_than_the_config_did(
    what: Workload, target: Target, data: st.DataObject
) -> None:
    asked = {lack.what for lack in lacking(what, target)}
    after = what
    for lever in LEVERS:
        option = data.draw(st.sampled_from((None, *lever.options(what, target))), label=lever.NAME)
        for field, value in option.changes.items() if option is not None else ():
            after = after.changed(field, value)
    assert {lack.what for lack in lacking(after, target)} <= asked
