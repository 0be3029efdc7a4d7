"""What a training step of equilibrium propagation allocates is foretold to the byte, by every method."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.domain.harm import Harm
from memplan.domain.setting import Scalar
from memplan.domain.trace import Phase, Trace
from memplan.mechanisms.equilibrium import Method
from memplan.programs import equilibrium_propagation as program
from memplan.simulator.replay import replay
from memplan.simulator.tensor import HOST, Tape
from memplan.smoke.cpu.conditions import plain_cpu
from memplan.smoke.cpu.events import Events
from memplan.smoke.cpu.surroundings import use_libraries
from memplan.smoke.systems import equilibrium_propagation as runner

WIDTH, BATCH = 64, 32
STATE = WIDTH * BATCH * 4
LAYER = (WIDTH * WIDTH + WIDTH) * 4
METHODS = tuple(Method)
SCALARS = 32


def values(**given: Any) -> dict[str, Scalar]:
    defaults = {item.name: item.default for item in program.SETTINGS if item.default is not None}
    return {**defaults, "width": WIDTH, "batch": BATCH, **given}


def foretold(**given: Any) -> Trace:
    tape = Tape(HOST)
    tape.trace.enter(Phase.LOAD)
    alive = program.run(values(**given), tape)
    trace = tape.trace.closed()
    del alive
    return trace


def seen(**given: Any) -> Trace:
    with plain_cpu(onednn=True):
        use_libraries()
        made = runner.start(values(**given))
        made.step(Events())
        events = Events()
        with events.watching(made.tensors()) as found:
            made.step(events)
    return found[0]


def peaks(trace: Trace) -> dict[Phase, int]:
    return {phase: peak.allocated for phase, peak in replay(trace, exact=True).phases.items()}


def test_methods_are_those_of_the_mechanism() -> None:
    (setting,) = (item for item in program.SETTINGS if item.name == "method")
    assert setting.choices == tuple(method.value for method in Method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("depth", [1, 2, 7, 100])
def test_every_phase_has_the_peak_that_was_foretold(method: Method, depth: int) -> None:
    assert peaks(foretold(depth=depth, method=method)) == peaks(seen(depth=depth, method=method))


@pytest.mark.parametrize("momentum", [False, True])
def test_without_momentum_there_are_no_buffers(momentum: bool) -> None:
    chosen = {"depth": 9, "momentum": momentum}
    assert peaks(foretold(**chosen)) == peaks(seen(**chosen))


@given(
    depth=st.integers(1, 9),
    width=st.integers(1, 40),
    batch=st.integers(1, 40),
    method=st.sampled_from(METHODS),
)
@settings(max_examples=12, deadline=None)
def test_any_size_is_foretold_but_for_single_numbers(
    depth: int, width: int, batch: int, method: Method
) -> None:
    """Looking whether numbers are finite takes a few bytes, which only the smallest sizes show."""
    chosen = {"depth": depth, "width": width, "batch": batch, "method": method}
    expected, measured = peaks(foretold(**chosen)), peaks(seen(**chosen))
    assert expected.keys() == measured.keys()
    assert all(abs(expected[phase] - measured[phase]) <= SCALARS for phase in expected)


@pytest.mark.parametrize("depth", [100, 500, 1000, 2000, 5000, 10000])
def test_the_transient_of_settling_is_flat_and_the_total_is_not(depth: int) -> None:
    """Weights, states and momentum grow with every layer, and nothing else does."""
    found = replay(foretold(depth=depth), exact=True).phases[Phase.BACKWARD].allocated
    assert found == depth * (LAYER + 2 * STATE) + 2 * STATE + 3 * STATE


def test_the_graph_of_the_whole_energy_grows_by_two_more_states_per_layer() -> None:
    few, many = (peaks(foretold(depth=depth, method=Method.AUTOGRAD)) for depth in (100, 1000))
    assert many[Phase.BACKWARD] - few[Phase.BACKWARD] == 900 * (LAYER + 4 * STATE)


def test_states_cost_more_than_checkpoints_once_batches_are_large() -> None:
    """Backpropagation holds gradients of all weights, which learning by hand never makes."""

    def peak(method: Method, batch: int) -> int:
        return max(peaks(foretold(depth=1000, method=method, batch=batch)).values())

    assert peak(Method.MANUAL, 32) < peak(Method.CHECKPOINTED, 32)
    assert peak(Method.MANUAL, 256) > 4 * peak(Method.CHECKPOINTED, 256)
    assert peak(Method.MANUAL, 256) > 1.7 * peak(Method.BACKPROP, 256)


def test_options_go_from_exact_to_another_experiment() -> None:
    offered = {
        (name, value): option.harm
        for kind in program.options(values(depth=10, method="autograd"))
        for option in kind
        for name, value in option.changes.items()
    }
    assert offered["method", "manual"] is Harm.EXACT
    assert offered["method", "checkpointed"] is Harm.BEHAVIOUR
    assert offered["momentum", False] is Harm.BEHAVIOUR
    assert offered["batch", BATCH // 2] is Harm.BEHAVIOUR
    (methods, _) = program.options(values(depth=10, method="backprop"))
    assert [(option.changes["method"], option.harm) for option in methods] == [("checkpointed", Harm.EXACT)]


def test_work_grows_with_what_is_done() -> None:
    def work(**given: Any) -> float:
        return program.work(values(**{"depth": 10, **given}))

    assert work(method="checkpointed") > work(method="backprop")
    assert work(method="autograd") > work(method="manual") > work(method="backprop")
    assert work(depth=20) == pytest.approx(2 * work())
    assert work(steps=60) > work(steps=30)
