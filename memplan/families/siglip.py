"""SigLIP's vision tower as far as text-only training meets it: parameters that are there and do nothing.

Names and shapes are those of ``SiglipVisionModel`` (transformers 5.x, models/siglip/modeling_siglip.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.workload import Adapter
from memplan.families.config import Config
from memplan.families.decoder import Projection
from memplan.simulator.adapters import adapt
from memplan.simulator.blocks import Linear, Store

LINEARS = ("k_proj", "v_proj", "q_proj", "out_proj", "fc1", "fc2")
"""Linear layers of a block, in load order."""

VISION: dict[str, object] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "vision_use_head": True,
}
"""Class defaults of transformers 5.x: SiglipVisionConfig."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vision:
    """A vision tower: its widths, its blocks, the pixels of an image and of a patch, and a pooling head."""

    hidden: int
    inner: int
    blocks: int
    channels: int
    image: int
    patch: int
    head: bool


def vision_of(read: Config) -> Vision:
    """The keys of a ``vision_config``.

    Raises:
        FieldError: a value has the wrong type or range.
    """
    return Vision(
        hidden=read.size("hidden_size"),
        inner=read.size("intermediate_size"),
        blocks=read.size("num_hidden_layers"),
        channels=read.size("num_channels"),
        image=read.size("image_size"),
        patch=read.size("patch_size"),
        head=read.flag("vision_use_head"),
    )


class Tower:
    """The parameters of a tower. Adapters wrap the linear layers of its blocks and of its head."""

    __slots__ = ("blocks", "vision")

    def __init__(self, store: Store, vision: Vision) -> None:
        self.vision = vision
        hidden, patch = vision.hidden, vision.patch
        embeddings = "vision_tower.embeddings"
        store.parameter(f"{embeddings}.patch_embedding.weight", (hidden, vision.channels, patch, patch))
        store.parameter(f"{embeddings}.patch_embedding.bias", (hidden,))
        store.parameter(f"{embeddings}.position_embedding.weight", ((vision.image // patch) ** 2, hidden))
        self.blocks = [self._block(store) for _ in range(vision.blocks)]
        self._norm(store, "vision_tower.post_layernorm")
        if vision.head:
            self.blocks.append(self._head(store))

    def adapt(self, adapter: Adapter, adapters: Store) -> None:
        """Give adapters to the layers whose name is a target."""
        self.blocks = [adapt(block, adapter, adapters) for block in self.blocks]

    def _block(self, store: Store) -> dict[str, Projection]:
        hidden, inner = self.vision.hidden, self.vision.inner
        name = "vision_tower.encoder.layers.*"
        self._norm(store, f"{name}.layer_norm1")
        linears: dict[str, Projection] = {
            linear: Linear(store, f"{name}.self_attn.{linear}", hidden, hidden, bias=True)
            for linear in LINEARS[:4]
        }
        self._norm(store, f"{name}.layer_norm2")
        linears["fc1"] = Linear(store, f"{name}.mlp.fc1", hidden, inner, bias=True)
        linears["fc2"] = Linear(store, f"{name}.mlp.fc2", inner, hidden, bias=True)
        return linears

    def _head(self, store: Store) -> dict[str, Projection]:
        hidden, inner = self.vision.hidden, self.vision.inner
        name = "vision_tower.head"
        store.parameter(f"{name}.probe", (1, 1, hidden))
        store.parameter(f"{name}.attention.in_proj_weight", (3 * hidden, hidden))
        store.parameter(f"{name}.attention.in_proj_bias", (3 * hidden,))
        projected = Linear(store, f"{name}.attention.out_proj", hidden, hidden, bias=True)
        self._norm(store, f"{name}.layernorm")
        return {
            "out_proj": projected,
            "fc1": Linear(store, f"{name}.mlp.fc1", hidden, inner, bias=True),
            "fc2": Linear(store, f"{name}.mlp.fc2", inner, hidden, bias=True),
        }

    def _norm(self, store: Store, name: str) -> None:
        store.parameter(f"{name}.weight", (self.vision.hidden,))
        store.parameter(f"{name}.bias", (self.vision.hidden,))
