"""Where to checkpoint, segments being alike: the rule of the square root, and the best interval there is.

The rule (Chen et al., arXiv:1604.06174) cuts n layers into √n segments. It is the optimum of
``n / k · input + k · layer`` only where a layer's activations are as large as its input. A transformer block
saves fifteen times its input and more, so that segments of one layer take the least. ``sqrt_interval`` knows
the ratio; ``best_uniform`` tries all intervals, and ``optimum`` knows better than segments that are alike.
"""

from __future__ import annotations

from math import isqrt

from memplan.domain.errors import FieldError
from memplan.mechanisms.context.placement import (
    Placement,
    Segment,
    Stack,
    peak,
    recomputed,
    require_whole,
)


def sqrt_interval(layers: int, *, input_bytes: int = 1, layer_bytes: int = 1) -> int:
    """Layers in a segment, by the rule: √(layers · input / layer), rounded up, at least 1.

    Args:
        layers: of the stack.
        input_bytes: what a segment holds.
        layer_bytes: what a layer saves, its input with it; without both, the rule as it is usually told.

    Raises:
        FieldError: a number is not a whole positive one.
    """
    for what, number in (("layers", layers), ("input_bytes", input_bytes), ("layer_bytes", layer_bytes)):
        require_whole(what, number, 1)
    whole = -(-layers * input_bytes // layer_bytes)
    root = isqrt(whole)
    return min(layers, root if root * root == whole else root + 1)


def uniform(layers: int, interval: int, *, keep_last: bool = False) -> Placement:
    """Segments of ``interval`` layers, the last with what remains.

    ``keep_last`` keeps the last segment, which takes as much either way: backward begins with it.

    Raises:
        FieldError: the interval is not between 1 and the number of layers.
    """
    require_whole("layers", layers, 1)
    require_whole("the interval", interval, 1)
    if interval > layers:
        raise FieldError(
            f"an interval of {interval} in a stack of {layers} layers", expected=f"at most {layers}"
        )
    return Placement(
        segments=tuple(
            Segment(
                start=start,
                stop=min(start + interval, layers),
                recomputed=not (keep_last and start + interval >= layers),
            )
            for start in range(0, layers, interval)
        )
    )


def kept(layers: int) -> Placement:
    """No checkpointing: every layer keeps what it saves."""
    return Placement(segments=(Segment(start=0, stop=layers, recomputed=False),))


def best_uniform(stack: Stack, budget: int | None = None) -> Placement | None:
    """The uniform interval with the least recomputation within ``budget`` bytes, then the lowest peak.

    All are tried: no checkpointing, and every interval with and without a kept last segment. Without a budget
    it is the lowest peak that counts, then the least recomputation. None if nothing fits.
    """
    if budget is not None:
        require_whole("the budget", budget)
    count = len(stack)
    tried = [kept(count)] + [
        uniform(count, interval, keep_last=last) for interval in range(1, count + 1) for last in (False, True)
    ]
    rated = [(peak(stack, item), recomputed(stack, item), item) for item in tried]
    if budget is None:
        return min(rated, key=lambda found: found[:2])[2]
    fitting = [found for found in rated if found[0] <= budget]
    return min(fitting, key=lambda found: (found[1], found[0]))[2] if fitting else None
