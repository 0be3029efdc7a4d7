"""The loop over tokens: one step is one pass over a random sequence."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from memplan.domain.setting import Settings, whole
from memplan.domain.trace import Phase
from memplan.mechanisms.buffers import (
    AllocatingLoop,
    BatchedLoop,
    PreallocatedLoop,
    TokenModel,
    TokenSizes,
)
from memplan.mechanisms.buffers.loop import TokenLoop
from memplan.smoke.meter import Meter, Named

NAME = "buffers"
TEMPERATURE = 0.8
"""Of sampled decoding: any takes the same memory."""

_COMPONENTS = {"embedding": "embeddings", "decoder": "decoder_matrix"}


def start(settings: Settings) -> Running:
    """A model with random weights, and a loop over as many tokens as the settings say."""
    return Running(settings)


class Running:
    """The loop with what its caller hands over."""

    def __init__(self, settings: Settings) -> None:
        names = ("vocabulary", "embedding", "state", "output")
        sizes = TokenSizes(**{name: whole(settings, name) for name in names})
        self.model = TokenModel.random(sizes)
        self.loop = _loop(self.model, settings)
        self.ids = torch.randint(sizes.vocabulary, (whole(settings, "tokens"),))
        self.out = torch.zeros_like(self.ids)
        self.state = torch.zeros(1, sizes.state)

    def tensors(self) -> Iterator[Named]:
        """Weights, tokens, the state, and buffers where there are any."""
        for name in self.model.__dataclass_fields__:
            yield getattr(self.model, name), _COMPONENTS.get(name, "blocks"), name, "parameter"
        yield self.ids, "tokens", "ids", "ids"
        yield self.out, "tokens", "out", "out"
        yield self.state, "state", "state", "state"
        if isinstance(self.loop, PreallocatedLoop):
            with torch.no_grad(), self.loop.buffers.lent() as lent:
                for name in self.loop.buffers.shapes:
                    yield lent[name], "buffers", name, "buffer"

    def step(self, meter: Meter) -> None:
        """One pass over the sequence."""
        meter.enter(Phase.DECODE)
        self.loop(self.ids, self.state, out=self.out)
        meter.leave(Phase.DECODE)


def _loop(model: TokenModel, settings: Settings) -> TokenLoop:
    temperature = TEMPERATURE if settings["decoding"] == "sampled" else None
    if settings["buffers"] == "batched":
        return BatchedLoop(model, temperature=temperature, chunk=whole(settings, "chunk") or None)
    kind = PreallocatedLoop if settings["buffers"] == "preallocated" else AllocatingLoop
    return kind(model, temperature=temperature)
