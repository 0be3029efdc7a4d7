"""litgpt's key/value cache: buffers of full length from the start, for every query head.

Source: ``KVCache`` and ``build_kv_cache`` in litgpt/model.py. Releases from 0.5.5 keep grouped keys as they
are.
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator.tensor import Tape, Tensor


class KeyValues:
    """Keys and values of one layer (B, H, S, D); updated in place."""

    __slots__ = ("key", "value")

    def __init__(self, tape: Tape, shape: tuple[int, int, int, int], dtype: Dtype) -> None:
        component, tape.component = tape.component, "kv_cache"
        scope, tape.scope = tape.scope, "h.*.attn.kv_cache"
        self.key = tape.empty(shape, dtype, "zeros")
        self.value = tape.empty(shape, dtype, "zeros")
        tape.component, tape.scope = component, scope

    def update(self, _key: Tensor, _value: Tensor, /) -> tuple[Tensor, Tensor]:
        """Copy new keys and values to their places (``index_copy_``); attention then reads everything."""
        return self.key.detach(), self.value.detach()
