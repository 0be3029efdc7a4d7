"""What a profile file holds once it is read: a model of the hub, a named profile of a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

AllowedHarm = Literal["exact", "numeric", "behaviour"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """A model on the hub: the fields of its ``config.json`` that decide memory, and its size.

    ``parameters`` is the exact number of weights, tied matrices counted once; of a model type that is not
    simulated, the number its publisher gives.
    """

    id: str
    architecture: str
    config: Mapping[str, object]
    parameters: int
    source: str
    date: str

    @property
    def model_type(self) -> str:
        """The type of its ``config.json``."""
        return str(self.config.get("model_type"))

    @property
    def layers(self) -> int | None:
        """Blocks of the language model; an encoder's where there are two stacks."""
        return self._first("num_hidden_layers", "n_layer", "n_layers", "num_layers")

    @property
    def context(self) -> int | None:
        """The longest sequence it has positions for, where its config says."""
        return self._first("max_position_embeddings", "n_positions", "max_seq_len", "model_max_length")

    def _first(self, *names: str) -> int | None:
        text = self.config.get("text_config")
        for said in (self.config, text if isinstance(text, Mapping) else {}):
            for name in names:
                if isinstance(found := said.get(name), int):
                    return found
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedProfile:
    """How boldly to plan for one GPU, under a name a user can choose.

    ``margin`` is the fraction of the usable memory to keep free, ``allow`` the worst harm for values
    not declared tunable. ``rungs`` are values for a manifest's tunable names, in order of preference:
    the first rung that fits with the margin is taken.
    """

    name: str
    gpu: str
    summary: str
    margin: float
    allow: AllowedHarm
    rungs: tuple[Mapping[str, int], ...]
    default: bool
