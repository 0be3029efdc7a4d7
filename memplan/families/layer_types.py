"""Models whose blocks differ in how far they look: everything before, or a sliding window."""

from __future__ import annotations

from collections.abc import Callable

from memplan.families.config import Config
from memplan.families.decoder import Decoder
from memplan.simulator.tensor import Tensor

FULL, SLIDING = "full_attention", "sliding_attention"


def layer_types(read: Config, slides: Callable[[int], bool]) -> tuple[str, ...]:
    """The type of every block: ``layer_types`` if it is written, else whether the one at a depth slides.

    Raises:
        FieldError: the list is not one of ``full_attention`` and ``sliding_attention`` for every block.
    """
    count = read.size("num_hidden_layers")
    written = read.get("layer_types")
    if written is None:
        return tuple(SLIDING if slides(index) else FULL for index in range(count))
    words = written if isinstance(written, list | tuple) else ()
    if len(words) != count or any(word not in (FULL, SLIDING) for word in words):
        raise read.wrong("layer_types", f"a list of {count} words, each {FULL} or {SLIDING}")
    return tuple(str(word) for word in words)


def late_windows(read: Config, window: int | None) -> tuple[str, ...]:
    """Qwen's pattern: blocks from ``max_window_layers`` on slide, if there is a window at all."""
    first = read.count("max_window_layers")
    return layer_types(read, lambda index: window is not None and index >= first)


class ByLayerType(Decoder):
    """A decoder that makes a mask for every type of layer, the full one always.

    Its forward pass collects the masks' arguments, the embeddings among them, in a dictionary that lives as
    long as the pass does (``mask_kwargs`` in transformers src/transformers/models/qwen2/modeling_qwen2.py).
    """

    def mask_types(self) -> tuple[str, ...]:
        """Full attention first."""
        return tuple(dict.fromkeys((FULL, *self.shape.layer_types)))

    def mask_arguments(self, inputs_embeds: Tensor) -> dict[str, Tensor]:
        """The embeddings."""
        return {"inputs_embeds": inputs_embeds}
