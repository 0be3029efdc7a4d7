"""What windows say of the same tokens put together, one window at a time.

Collecting the outputs of all windows first holds each token as often as windows cover it, and the merged
result beside them: three times the result at an overlap of one half. Merged as they come, there is the result
and one window.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import torch
from torch import Tensor

from memplan.domain.errors import FieldError, InputError
from memplan.mechanisms.context.scaling import is_finite
from memplan.mechanisms.context.windows import Window, Windows


class Merge(StrEnum):
    """What becomes of a token that several windows cover.

    ``MEAN`` averages, ``MAX`` takes the largest of each channel, ``FIRST`` keeps what the first window says,
    which of all has the most tokens before it. Where the function looks at single tokens, all three give what
    it says of the whole sequence; where it looks back a bounded number of tokens and the overlap is as long,
    only ``FIRST`` does.
    """

    MEAN = "mean"
    MAX = "max"
    FIRST = "first"


class Merger:
    """The merged output of windows, shape ``(..., length, channels)``, grown window by window.

    The mean is a running one (mean += (new - mean) / count), since then equal values stay what they are to
    the bit, which a sum divided in the end does not promise. Half precision is averaged in fp32.

    Args:
        windows: the windows, in whose order outputs are added.
        rule: what becomes of tokens that several of them cover.

    Raises:
        FieldError: there is no such rule.
    """

    def __init__(self, windows: Windows, rule: Merge = Merge.MEAN) -> None:
        if rule not in list(Merge):
            raise FieldError(f"windows merged by {rule!r}", expected=", ".join(Merge))
        self.windows = windows
        self.rule = Merge(rule)
        self._waiting = iter(windows)
        self._seen = 0
        self._merged: Tensor | None = None
        self._counts: Tensor | None = None
        self._dtype: torch.dtype | None = None

    def add(self, output: Tensor) -> None:
        """Merge the output of the next window, shape ``(..., width, channels)``.

        Raises:
            InputError: all windows are in already, or the output has another shape, is not of floating
                point, or holds a number that is not finite.
        """
        window = next(self._waiting, None)
        if window is None:
            raise InputError(
                f"an output after the last of {len(self.windows)} windows", expected="one output per window"
            )
        self._check(output)
        if self._merged is None:
            self._allocate(output)
        self._seen += 1
        self._merge(window, output.detach())

    def result(self) -> Tensor:
        """The merged output, in the dtype of the windows' outputs.

        Raises:
            InputError: windows are missing.
        """
        if self._merged is None or self._seen < len(self.windows):
            raise InputError(
                f"{self._seen} of {len(self.windows)} windows are merged", expected="one output per window"
            )
        return self._merged.to(self._dtype)

    def _check(self, output: Tensor) -> None:
        where = f"the output of window {self._seen + 1} of {len(self.windows)}"
        if output.dim() < 2 or output.shape[-2] != self.windows.width:
            raise InputError(
                f"{where} has the shape {tuple(output.shape)}",
                expected=f"(..., {self.windows.width}, channels)",
            )
        if not output.is_floating_point():
            raise InputError(f"{where} is of {output.dtype}", expected="floating point")
        if self._merged is not None:
            wanted = (*self._merged.shape[:-2], self.windows.width, self._merged.shape[-1])
            if (tuple(output.shape), output.dtype) != (wanted, self._dtype):
                raise InputError(
                    f"{where} is {tuple(output.shape)} of {output.dtype}",
                    expected=f"{wanted} of {self._dtype}, as the first",
                )
        if not is_finite(output):
            raise InputError(
                f"{where} holds numbers that are not finite",
                hint="a merged mean or maximum would hide in which window they arose",
            )

    def _allocate(self, output: Tensor) -> None:
        self._dtype = output.dtype
        averaged = self.rule is Merge.MEAN and output.element_size() < 4
        shape = (*output.shape[:-2], self.windows.length, output.shape[-1])
        dtype = torch.float32 if averaged else output.dtype
        start = float("-inf") if self.rule is Merge.MAX else 0.0
        self._merged = torch.full(shape, start, dtype=dtype, device=output.device)
        if self.rule is Merge.MEAN:
            self._counts = torch.zeros((self.windows.length, 1), dtype=dtype, device=output.device)

    def _merge(self, window: Window, output: Tensor) -> None:
        assert self._merged is not None
        into = self._merged[..., window.tokens, :]
        if self.rule is Merge.FIRST:
            known = window.fresh - window.start
            into[..., known:, :].copy_(output[..., known:, :])
        elif self.rule is Merge.MAX:
            torch.maximum(into, output, out=into)
        else:
            assert self._counts is not None
            counts = self._counts[window.tokens]
            counts += 1
            # The difference is the one temporary of a window's size; no product or quotient has its own.
            difference = output - into
            into += difference.div_(counts)


def over_windows(
    function: Callable[[Tensor], Tensor],
    tokens: Tensor,
    windows: Windows,
    *,
    rule: Merge = Merge.MEAN,
    axis: int = -1,
) -> Tensor:
    """``function`` of a long sequence, window by window.

    Args:
        function: takes a window of ``tokens`` and gives ``(..., width, channels)``. It sees nothing of where
            the window lies; loop over ``windows`` and a ``Merger`` yourself where positions matter.
        tokens: the sequence, ``(batch, length)`` of ids, or embeddings with ``axis=-2``.
        windows: where windows begin and end.
        rule: what becomes of tokens that several windows cover.
        axis: which of the axes of ``tokens`` counts them.

    Returns:
        ``(..., length, channels)``, without a graph.

    Raises:
        FieldError: ``tokens`` is not as long as the windows say, or there is no such rule.
        InputError: an output cannot be merged.
    """
    if tokens.shape[axis] != windows.length:
        raise FieldError(
            f"windows over {windows.length:,} tokens for a sequence of {tokens.shape[axis]:,}",
            expected=f"Windows(length={tokens.shape[axis]}, ...)",
        )
    merger = Merger(windows, rule)
    with torch.no_grad():
        for window in windows:
            merger.add(function(tokens.narrow(axis, window.start, len(window))))
    return merger.result()
