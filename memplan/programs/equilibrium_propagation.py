"""Equilibrium propagation in a deep network of equal dense layers: what a training step holds, by method.

``manual`` is ``memplan.mechanisms.equilibrium`` as it is meant: weights, one state per layer, as much again
for momentum, and three tensors more. ``autograd`` gets the same gradients from a graph of the whole energy;
``backprop`` and ``checkpointed`` train the same network without states. A network's depth decides how much
there is of weights and states, and of nothing else that ``manual`` holds.
"""

from __future__ import annotations

from math import isqrt

from memplan.domain.estimate import Component
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.setting import Setting, Settings, device, whole, word
from memplan.programs import equilibrium_graphs, equilibrium_states
from memplan.programs.equilibrium_network import Sizes, load
from memplan.simulator.tensor import Tape

NAME = "equilibrium_propagation"
SUMMARY = "deep networks that learn by settling, with gradients written out by hand"

MANUAL, AUTOGRAD, BACKPROP, CHECKPOINTED = "manual", "autograd", "backprop", "checkpointed"
SETTINGS: tuple[Setting, ...] = (
    Setting(name="depth", summary="dense layers, each with a state", most=20_000),
    Setting(name="width", summary="numbers in a state, and in a sample", most=2**20),
    Setting(name="batch", summary="samples at once", most=2**24),
    Setting(
        name="method",
        summary="where gradients come from",
        default=MANUAL,
        choices=(MANUAL, AUTOGRAD, BACKPROP, CHECKPOINTED),
    ),
    Setting(name="momentum", summary="whether states settle with momentum", default=True),
    Setting(name="steps", summary="steps of settling in each batch", default=30, most=10_000),
    device("cuda"),
)

BY_HAND = "the same gradients, written out: no graph, and no gradient of a weight, is ever there"
FEWER = "of each stretch of √depth layers only the input is kept, and the rest run again"
STILL = "states settle without a buffer of their own: other steps on the same way down"
GRADIENT = "the gradient that small nudges approach, without states: another rule of learning"
SMALLER = "half of the samples at once: every state is half as large"

_OPERATIONS_PER_BYTE = 23
"""A GTX 1650's: 2.98 TFLOPS of fp32 over 128 GB/s. Ranks methods, and nothing else."""

_PASSES = {MANUAL: 8, AUTOGRAD: 13, BACKPROP: 2, CHECKPOINTED: 3}
"""Kernels that go through a state once, per layer: of a step of settling, or of a batch.

By hand: sub, tanh, mul_, add_, mul_, addcmul_, sub_, sub_. By autograd: sub, tanh, pow, sum, pow, mul, mul,
neg, tanh_backward, add_, mul_, add_, sub_. Backpropagation: tanh, tanh_backward; checkpoints add a tanh.
"""

_PRODUCTS = {MANUAL: 2, AUTOGRAD: 2, BACKPROP: 3, CHECKPOINTED: 4}
"""Matrix products, likewise: forward, to the input, to the weight, and forward again."""


def problem(settings: Settings) -> tuple[str, str] | None:
    """Every combination makes sense."""
    del settings
    return None


def run(settings: Settings, tape: Tape) -> object:
    """Load the network and a batch of samples and targets, and make a training step."""
    sizes = Sizes(
        depth=whole(settings, "depth"),
        width=whole(settings, "width"),
        batch=whole(settings, "batch"),
        momentum=bool(settings["momentum"]),
        # Every further step of settling does to memory what the second did.
        steps=min(whole(settings, "steps"), 2),
    )
    network = load(tape, sizes)
    method = word(settings, "method")
    if method == MANUAL:
        equilibrium_states.run(tape, network, sizes)
    elif method == AUTOGRAD:
        equilibrium_graphs.settle_and_learn(tape, network, sizes)
    else:
        segment = isqrt(sizes.depth - 1) + 1 if method == CHECKPOINTED else None
        equilibrium_graphs.backpropagate(tape, network, segment)
    return network


def disk(settings: Settings) -> tuple[Component, ...]:
    """None is used."""
    del settings
    return ()


def mapped(settings: Settings) -> int:
    """Nothing is."""
    del settings
    return 0


def options(settings: Settings) -> tuple[tuple[Option, ...], ...]:
    """Another method, no momentum, fewer samples at once."""
    return tuple(kind for kind in (_methods(settings), _momentum(settings), _batches(settings)) if kind)


def work(settings: Settings) -> float:
    """Time of a sample: products and passes over states, at a GPU's ratio of operations to bytes."""
    method = word(settings, "method")
    width, steps = whole(settings, "width"), whole(settings, "steps")
    rounds = steps if method in (MANUAL, AUTOGRAD) else 1
    # In passes over a state, each of which reads and writes four bytes of every number.
    product = 2 * width / _OPERATIONS_PER_BYTE / 8
    layer = rounds * (_PRODUCTS[method] * product + _PASSES[method])
    if rounds > 1:
        # The free phase, and the contrast: a product for the states and one for the weights.
        layer += 3 * product + 2
    return whole(settings, "depth") * layer


def _methods(settings: Settings) -> tuple[Option, ...]:
    method = word(settings, "method")
    found = []
    if method == AUTOGRAD:
        found.append(Option(changes={"method": MANUAL}, harm=Harm.EXACT, reason=BY_HAND))
    if method == BACKPROP:
        found.append(Option(changes={"method": CHECKPOINTED}, harm=Harm.EXACT, reason=FEWER))
    if method in (AUTOGRAD, MANUAL):
        found.append(Option(changes={"method": CHECKPOINTED}, harm=Harm.BEHAVIOUR, reason=GRADIENT, degree=3))
    return tuple(found)


def _momentum(settings: Settings) -> tuple[Option, ...]:
    if not settings["momentum"] or word(settings, "method") in (BACKPROP, CHECKPOINTED):
        return ()
    return (Option(changes={"momentum": False}, harm=Harm.BEHAVIOUR, reason=STILL, degree=1),)


def _batches(settings: Settings) -> tuple[Option, ...]:
    batch = whole(settings, "batch")
    return tuple(
        Option(changes={"batch": batch >> halvings}, harm=Harm.BEHAVIOUR, reason=SMALLER, degree=1 + halvings)
        for halvings in range(1, min(batch.bit_length(), 11))
    )
