"""What a run becomes when its framework is told to train low-rank adapters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from memplan.domain.dtype import Dtype

if TYPE_CHECKING:
    from memplan.domain.workload import Adapter, Quantization


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapting:
    """The habits of one framework: which adapters it makes, and what else of a run changes with them.

    ``plain`` is the adapter over weights as they are, ``quantized`` the one over weights in 4 bits, which
    ``quantization`` describes (None: the framework has none, or the run cannot have it). Their ranks and
    targets are those of the file, for whoever asks to replace. ``params`` is the dtype that frozen weights
    are loaded in, ``quantized_params`` that of what stays unquantized beside 4-bit weights, and
    ``quantized_loading`` how these come in (``memplan.domain.host``); None: as the others.
    """

    plain: Adapter
    params: Dtype
    quantized: Adapter | None = None
    quantization: Quantization | None = None
    quantized_params: Dtype | None = None
    quantized_loading: str | None = None

    def cast(self, dtype: Callable[[Dtype], Dtype]) -> Adapting:
        """The habits where everything that is not quantized has one dtype, found from that of the weights."""
        over = self.quantized_params or self.params
        quantized = None if self.quantized is None else replace(self.quantized, dtype=dtype(over))
        return replace(
            self,
            plain=replace(self.plain, dtype=dtype(self.params)),
            params=dtype(self.params),
            quantized=quantized,
            quantized_params=dtype(over),
        )
