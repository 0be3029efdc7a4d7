"""Gemma 3 with a vision tower, trained on text: the tower takes memory, and no part in the step.

The forward pass follows ``Gemma3ForConditionalGeneration`` (transformers 5.x, modeling_gemma3.py), given no
images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Attention, Workload
from memplan.families import attention_block, gemma3, siglip
from memplan.families.config import Config, Where
from memplan.families.gemma3 import Gemma3
from memplan.simulator.blocks import Store
from memplan.simulator.tensor import Tape

PROJECTIONS = tuple(dict.fromkeys((*attention_block.PROJECTIONS, *siglip.LINEARS)))
"""Linear layers of the blocks of either part: adapters find both by their names."""

DEFAULTS: dict[str, Mapping[str, object]] = {
    "gemma3": {"text_config": {}, "vision_config": {}, "tie_word_embeddings": True}
}
"""Class defaults of transformers 5.x: Gemma3Config. The parts have their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictured(Architecture):
    """A language model and the vision tower that feeds it."""

    vision: siglip.Vision


def architecture(config: Mapping[str, object], where: Where) -> Pictured:
    """Read a ``config.json``.

    Raises:
        FieldError: a value has the wrong type or range, or contradicts another.
    """
    read = Config(config, DEFAULTS["gemma3"], where)
    text = gemma3.architecture(read.within("text_config").values, lambda _: where("text_config"))
    vision = Config(read.within("vision_config").values, siglip.VISION, lambda _: where("vision_config"))
    # Its own ``forward`` applies no cap to the logits.
    text = replace(
        text,
        model_type="gemma3",
        tie_word_embeddings=read.flag("tie_word_embeddings"),
        logit_softcap=False,
    )
    shared = {item.name: getattr(text, item.name) for item in fields(text)}
    return Pictured(**shared, vision=siglip.vision_of(vision))


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Gemma3Vision:
    """Load the model (and its adapters) in the simulator."""
    return Gemma3Vision(tape, shape, workload, kind)


class Gemma3Vision(Gemma3):
    """``Gemma3ForConditionalGeneration`` without images."""

    def __init__(self, tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> None:
        super().__init__(tape, shape, workload, kind)
        if workload.adapter is not None:
            adapters = Store(tape, workload.adapter.dtype, trainable=True)
            self.tower.adapt(workload.adapter, adapters)
            self.leaves = adapters.leaves + self.leaves

    def make_positions(self, store: Store) -> None:
        """The tower, and the projector to the width of the text."""
        shape = self.shape
        assert isinstance(shape, Pictured)
        super().make_positions(store)
        self.tower = siglip.Tower(store, shape.vision)
        projector = "multi_modal_projector"
        sides = (shape.vision.hidden, shape.hidden_size)
        store.parameter(f"{projector}.mm_input_projection_weight", sides)
        store.parameter(f"{projector}.mm_soft_emb_norm.weight", sides[:1])

    def mask_types(self) -> tuple[str, ...]:
        """Those that a block uses."""
        return tuple(dict.fromkeys(self.shape.layer_types))
