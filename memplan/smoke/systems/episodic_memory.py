"""An episodic memory beside a residual stream: each round reads and writes a batch of queries."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from memplan.domain.setting import Settings, whole, word
from memplan.domain.trace import Phase
from memplan.mechanisms import episodic
from memplan.smoke.meter import Meter, Named

NAME = "episodic_memory"


class _Rounds:
    """A full memory in inference; what it is shown is random, and so new to it."""

    def __init__(self, settings: Settings) -> None:
        self.shape = tuple(whole(settings, name) for name in ("batch", "sequence", "key_size"))
        memory = episodic.EpisodicMemory(
            episodic.Settings(
                capacity=whole(settings, "memory_size"),
                key_size=whole(settings, "key_size"),
                similarity=word(settings, "similarity"),
                write_chunk=whole(settings, "write_chunk") or None,
                read_chunk=whole(settings, "read_chunk") or None,
                neighbours=whole(settings, "neighbours"),
            )
        )
        self.layer = episodic.GatedMemory(memory).eval()
        with torch.no_grad():
            bank = memory.bank
            bank.keys.normal_()
            bank.values.normal_()
            bank.hits.fill_(1)
            bank.size = len(bank.hits)

    def tensors(self) -> Iterator[Named]:
        """The bank and the gate."""
        bank = self.layer.memory.bank
        for name in ("keys", "values", "hits", "last_used"):
            yield getattr(bank, name), "memory_bank", "bank", name
        for name, parameter in self.layer.gate.named_parameters():
            yield parameter, "gate", "gate", name

    def step(self, meter: Meter) -> None:
        """Read, then write."""
        meter.enter(Phase.FORWARD)
        with torch.no_grad():
            x = torch.randn(self.shape)
            meter.name([(x, "residual_stream", "", "input")])
            self.layer(x, remember=True)
        meter.leave(Phase.FORWARD)


def start(settings: Settings) -> _Rounds:
    """A memory of these sizes, full."""
    return _Rounds(settings)
