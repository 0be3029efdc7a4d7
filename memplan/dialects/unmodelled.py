"""Settings that decide memory and are not simulated, each named with its place in the file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.domain.workload import Unmodelled

STATES = ("embeddings", "decoder_matrix", "blocks", "adapter", "gradients", "optimizer_state")
"""Components of the model and of what training keeps of it."""

STEP = ("activations", "logits_and_loss", "temporaries")
"""Components of one forward and backward pass."""

QUANTIZED = Unmodelled(
    reason="of quantizers bitsandbytes is simulated: the weights are counted unquantized",
    shrinks=("blocks",),
    grows=("blocks", *STEP),
)


def placed(value: Value, setting: Unmodelled) -> Unmodelled:
    """A setting with the place and the key that ask for it before its reason."""
    place = f"{value.source.path}:{value.location.line}"
    return replace(setting, reason=f"{place}: {value.key}: {setting.reason}")


def in_use(keys: Keys, settings: Mapping[str, Unmodelled], off: Collection[str]) -> Iterator[Unmodelled]:
    """The settings whose keys are there with another value than those that are ``off``."""
    for name, setting in settings.items():
        value = keys.get(name)
        if value is not None and value.written().lower() not in off:
            yield placed(value, setting)
