"""A decoder that trains on a window and reads a long context through a cache, in memory or in files."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from memplan.domain.bytes import Bytes
from memplan.domain.setting import Settings, whole, word
from memplan.domain.trace import Phase
from memplan.mechanisms.context import Merger, Windows
from memplan.mechanisms.context.decoder import Decoder
from memplan.mechanisms.context.mapped import MappedCache
from memplan.mechanisms.context.rows import Row
from memplan.programs.large_context import work
from memplan.smoke.meter import Meter, Named
from memplan.smoke.systems.readback import Witness

NAME = "large_context"

MOST = 10**12
"""Operations that a CPU does in some ten seconds."""

SMALL = {
    "layers": 2,
    "heads": 1,
    "head_dim": 32,
    "hidden": 128,
    "vocab": 1024,
    "context": 32768,
    "window": 2048,
    "stride": 1024,
    "interval": 2,
}
"""What a run is scaled down to at the most."""

_BITS = {"int8": 8, "int4": 4}


class _Rounds:
    """Random tokens, a new cache each round."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        sides = {name: whole(settings, name) for name in ("layers", "heads", "head_dim", "hidden", "vocab")}
        self.decoder = Decoder(**sides, interval=whole(settings, "interval"))
        self.window = whole(settings, "window") or whole(settings, "context")
        self.optimizer = torch.optim.AdamW(self.decoder.parameters(), foreach=False)
        self.disk = Bytes(0)
        self.proof = ""

    def tensors(self) -> Iterator[Named]:
        """Parameters, and what the optimizer keeps of them."""
        for name, parameter in self.decoder.named_parameters():
            component = {"embedding": "embeddings", "head": "decoder_matrix"}.get(
                name.split(".")[0], "blocks"
            )
            yield parameter, component, name, "parameter"
            for kept in ("exp_avg", "exp_avg_sq"):
                if kept in self.optimizer.state.get(parameter, {}):
                    yield self.optimizer.state[parameter][kept], "optimizer_state", name, kept

    def step(self, meter: Meter) -> None:
        """Train on a window, then read the context."""
        if self.settings["training"]:
            self._train(meter)
        if self.settings["reading"] != "none":
            self._read(meter)

    def _train(self, meter: Meter) -> None:
        meter.enter(Phase.FORWARD)
        tokens = torch.randint(whole(self.settings, "vocab"), (self.window,))
        logits = self.decoder(tokens)
        meter.enter(Phase.LOSS)
        loss = functional.cross_entropy(logits, tokens)
        del logits
        meter.enter(Phase.BACKWARD)
        loss.backward()
        del loss
        meter.enter(Phase.OPTIMIZER)
        self.optimizer.step()
        self.optimizer.zero_grad()
        meter.leave(Phase.OPTIMIZER)

    def _read(self, meter: Meter) -> None:
        settings = self.settings
        stored, context = word(settings, "stored"), whole(settings, "context")
        meter.enter(Phase.PREFILL)
        tokens = torch.randint(whole(settings, "vocab"), (context,))
        in_windows = settings["reading"] == "windows"
        with MappedCache(
            layers=whole(settings, "layers"),
            bits=_BITS.get(stored, 0),
            in_memory=settings["cache"] == "memory",
        ) as cache:
            cache.reserve(self.window if in_windows else context, self._row(stored))
            witness = Witness(cache)
            hidden = self._in_windows(tokens, cache) if in_windows else self._part(tokens, cache)
            meter.enter(Phase.DECODE)
            with torch.no_grad():
                self.decoder.head(hidden[-1:])
            self.disk = max(self.disk, cache.disk)
            if not in_windows:
                self.proof = witness.compare()
        meter.leave(Phase.DECODE)

    def _row(self, stored: str) -> Row:
        width = whole(self.settings, "head_dim")
        like = torch.empty(
            (1, whole(self.settings, "heads"), 0, width),
            dtype=torch.bfloat16 if stored == "bf16" else torch.float32,
        )
        return Row.of(like, like, bits=_BITS.get(stored, 0))

    def _part(self, tokens: torch.Tensor, cache: MappedCache) -> torch.Tensor:
        stored = torch.bfloat16 if self.settings["stored"] == "bf16" else torch.float32
        return self.decoder.read(tokens, cache, chunk=whole(self.settings, "chunk"), stored=stored)

    def _in_windows(self, tokens: torch.Tensor, cache: MappedCache) -> torch.Tensor:
        windows = Windows(
            length=len(tokens), width=self.window, stride=whole(self.settings, "stride") or None
        )
        merger = Merger(windows)
        for window in windows:
            cache.truncate(0)
            merger.add(self._part(tokens[window.tokens], cache))
        return merger.result()


def start(settings: Settings) -> _Rounds:
    """A decoder of these sizes with random weights."""
    return _Rounds(settings)


def scaled(settings: Settings) -> Settings:
    """A small decoder and 32,768 tokens, where what is asked for takes more than ``MOST`` operations."""
    if work(settings) <= MOST:
        return settings
    found = dict(settings)
    for name, most in SMALL.items():
        found[name] = min(whole(settings, name), most)
    if settings["training"]:
        found["window"] = min(whole(settings, "window") or SMALL["window"], SMALL["window"])
    return found
