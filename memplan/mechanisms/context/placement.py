"""Which layers of a stack keep their activations, which run again in backward, and what that takes.

A stack is cut into segments. A segment that is kept holds what its layers save from its forward pass to its
backward pass. One that is recomputed holds its input alone, and runs again when backward comes to it; what
its layers save is there only while it is their turn. Segments that backward is done with hold nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from memplan.domain.errors import FieldError


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What one layer allocates, in bytes, and what running it again costs.

    ``forward`` and ``backward`` count all that is there beside the layer's input and what other layers hold:
    outputs, gradients, temporaries, and what the layer has saved by then.

    Args:
        input: the layer's input, which it saves for its backward pass.
        saved: what its forward pass leaves for backward beside the input.
        forward: the most during its forward pass.
        backward: the most during its backward pass.
        gradients: gradients of its parameters, made in its backward pass, which stay.
        recompute: cost of its forward pass, in any unit that is the same for all layers.
        passing: the most during a forward pass that keeps nothing; as much as ``forward`` if not given.
        again: the most until it has saved the last that it saves, where a segment that runs again stops; as
            much as ``forward`` if not given.

    Raises:
        FieldError: a number is not a whole one, or negative.
    """

    input: int
    saved: int
    forward: int = 0
    backward: int = 0
    gradients: int = 0
    recompute: int = 1
    passing: int | None = None
    again: int | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) is not None:
                require_whole(f"a layer's {name}", getattr(self, name))

    @property
    def held(self) -> int:
        """What it holds from forward to backward when it is kept."""
        return self.input + self.saved


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Layers in the order in which they run, and what there is beside them; bytes.

    Args:
        layers: first to last.
        output: the last one's output.
        head: the most there is beside what the layers hold from the end of the last one to the moment when
            backward reaches it: the output, what computes the loss, and its gradient.
        state: what a recomputed segment keeps beside its input, as the state of a random generator.
    """

    layers: tuple[Layer, ...]
    output: int = 0
    head: int = 0
    state: int = 0

    def __post_init__(self) -> None:
        if not self.layers:
            raise FieldError("a stack without layers", expected="at least one")
        for name in ("output", "head", "state"):
            require_whole(f"a stack's {name}", getattr(self, name))

    def __len__(self) -> int:
        return len(self.layers)

    def incoming(self, layer: int) -> int:
        """Bytes of the gradient that a layer's backward pass begins with."""
        return self.layers[layer + 1].input if layer + 1 < len(self) else self.output

    @cached_property
    def above(self) -> tuple[int, ...]:
        """Gradients of parameters that are there when each layer's backward pass begins, in bytes."""
        later = [layer.gradients for layer in reversed(self.layers)]
        return tuple(reversed([0, *accumulate(later)]))[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Layers ``start`` to ``stop`` (exclusive), recomputed or kept."""

    start: int
    stop: int
    recomputed: bool = True

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The segments of a stack, in order and without gaps.

    Raises:
        FieldError: a segment is empty, or does not begin where the one before ends.
    """

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        end = 0
        for segment in self.segments:
            if segment.start != end or segment.stop <= segment.start:
                raise FieldError(
                    f"a segment from layer {segment.start} to {segment.stop}, after {end} layers",
                    expected=f"segments of at least one layer, this one from {end} on",
                )
            end = segment.stop

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return self.segments[-1].stop if self.segments else 0

    @property
    def name(self) -> str:
        """Lengths of the segments in order: ``3+2+1 kept``."""
        return "+".join(f"{len(item)}{'' if item.recomputed else ' kept'}" for item in self.segments)


def held(stack: Stack, segment: Segment) -> int:
    """Bytes that a segment holds between its forward and its backward pass."""
    layers = stack.layers[segment.start : segment.stop]
    return layers[0].input + stack.state if segment.recomputed else sum(layer.held for layer in layers)


def need(stack: Stack, segment: Segment) -> int:
    """The most bytes beside what earlier segments hold, while this one runs forward or backward."""
    return needs(stack, segment.start, recomputed=segment.recomputed)[len(segment) - 1]


def needs(stack: Stack, start: int, *, recomputed: bool) -> tuple[int, ...]:
    """``need`` of the segments that begin at a layer, by length from 1 to the end of the stack."""
    found: list[int] = []
    forward = backward = 0
    before = stack.state if recomputed else 0
    first = before + stack.layers[start].input
    for number in range(start, len(stack)):
        layer = stack.layers[number]
        here = before + layer.input
        backward = max(backward, stack.above[number] + here + layer.backward)
        if recomputed:
            # The gradient that its backward pass begins with waits for it to run again, and so do those of
            # later layers' parameters and what the random generator is put back to.
            waiting = stack.above[number] + stack.incoming(number) + stack.state
            again = max(forward, here + _or(layer.again, layer.forward))
            passing = first + (layer.input if number > start else 0) + _or(layer.passing, layer.forward)
            backward = max(backward, passing)
            found.append(max(backward, waiting + again))
        forward = max(forward, here + layer.forward)
        if not recomputed:
            found.append(max(backward, forward))
        before += layer.held
    return tuple(found)


def _or(figure: int | None, otherwise: int) -> int:
    return otherwise if figure is None else figure


def peak(stack: Stack, placement: Placement) -> int:
    """The most bytes of inputs, activations, gradients and temporaries at any moment of a step.

    Raises:
        FieldError: the placement is for another number of layers.
    """
    if placement.layers != len(stack):
        raise FieldError(
            f"a placement of {placement.layers} layers for a stack of {len(stack)}",
            expected=f"segments that end at {len(stack)}",
        )
    most = before = 0
    for segment in placement.segments:
        most = max(most, before + need(stack, segment))
        before += held(stack, segment)
    return max(most, before + stack.head)


def recomputed(stack: Stack, placement: Placement) -> int:
    """What running layers again costs, in the unit of ``Layer.recompute``."""
    return sum(
        layer.recompute
        for segment in placement.segments
        if segment.recomputed
        for layer in stack.layers[segment.start : segment.stop]
    )


def require_whole(what: str, value: object, least: int = 0) -> None:
    """Refuse what is no whole number of at least so much, as infinities and fractions of bytes are."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise FieldError(f"{what} is {value!r}", expected=f"a whole number from {least} up")
