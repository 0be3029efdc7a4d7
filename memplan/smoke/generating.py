"""Text that is generated: transformers' ``generate``, greedy, from a random prompt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from memplan.domain.trace import Phase
from memplan.domain.workload import Workload
from memplan.smoke.batches import prompt
from memplan.smoke.cuda import TORCH
from memplan.smoke.labels import Labels
from memplan.smoke.meter import Meter, Named


class Generating:
    """One model that generates; ``meter`` is told when the prompt is read, and when tokens follow."""

    def __init__(self, meter: Meter, workload: Workload, labels: Labels) -> None:
        self.meter = meter
        self.workload = workload
        self.labels = labels
        self.model = labels.model.eval()
        self.inner = labels.inner

    def step(self) -> None:
        """One call of ``generate``."""
        self.meter.begin_step()
        self.meter.enter(Phase.PREFILL)
        tokens = prompt(self.inner, self.workload).to(self.inner.device)
        dtype = self.workload.precision.autocast
        region = torch.autocast(tokens.device.type, dtype=TORCH[dtype]) if dtype else nullcontext()
        with self._phases(), _experts_as_on_a_gpu(self.inner), torch.no_grad(), region:
            self.model.generate(tokens, **self._wanted())
        self.meter.leave(Phase.DECODE)

    def states(self) -> Iterator[Named]:
        """Nothing outlives a call."""
        return iter(())

    def _wanted(self) -> dict[str, Any]:
        asked = self.workload.generate
        wanted: dict[str, Any] = {
            "max_new_tokens": asked.new_tokens,
            "do_sample": False,
            "eos_token_id": None,
            "pad_token_id": 0,
            "logits_to_keep": int(asked.logits == "last"),
        }
        if asked.cache == "static":
            wanted["cache_implementation"] = "static"
        return wanted

    @contextmanager
    def _phases(self) -> Iterator[None]:
        """The first forward pass reads the prompt, each that follows makes a token."""
        passes = 0

        def begins(*_: Any) -> None:
            nonlocal passes
            passes += 1
            if passes > 1:
                self.meter.enter(Phase.DECODE)

        def ends(_: Any, __: Any, outputs: Any) -> None:
            self.meter.name(_cached(outputs.past_key_values))

        handles = (self.inner.register_forward_pre_hook(begins), self.inner.register_forward_hook(ends))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _cached(cache: Any) -> Iterator[Named]:
    """The keys and values of every layer, as transformers' caches keep them."""
    for layer in cache.layers:
        for name in ("keys", "values"):
            if isinstance(getattr(layer, name, None), torch.Tensor):
                yield getattr(layer, name), "kv_cache", "layers.*", name


@contextmanager
def _experts_as_on_a_gpu(model: Any) -> Iterator[None]:
    """Decoding gives every token a copy of its experts' weights, as ``_optimize_model_for_decode`` does on a
    GPU; for a CPU it leaves that out.
    """
    if "grouped_mm" not in model.get_experts_implementation().values():
        yield
        return

    @contextmanager
    def decoding() -> Iterator[None]:
        model.set_experts_implementation("batched_mm")
        yield
        model.set_experts_implementation("grouped_mm")

    model._optimize_model_for_decode = decoding
    try:
        yield
    finally:
        del model._optimize_model_for_decode
