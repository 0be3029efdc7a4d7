"""Record what training steps of torchtune 0.6 allocate: ``python -m tests.oracle.record_torchtune``.

Needs torchtune, which the tests do not: they read ``torchtune_events.json``. Attention is replaced by a
stand-in that allocates what FlashAttention-2 does, as in ``record_litgpt``.
"""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from tests.oracle.record_litgpt import SMALLEST, Attention
from tests.oracle.torchtune_cases import CASES, EVENTS, LENGTH, MICRO, RANK, SIDES, Case


def model(case: Case) -> Any:
    """The model of a case in training mode."""
    builders = importlib.import_module("torchtune.models.llama3")
    torch.set_default_dtype(torch.bfloat16)
    if case.adapted:
        attention = [name for name in case.adapted if name != "mlp"]
        adapters = {"lora_attn_modules": attention, "apply_lora_to_mlp": "mlp" in case.adapted}
        found = builders.lora_llama3(**SIDES, **adapters, lora_rank=RANK, lora_alpha=16)
        peft = importlib.import_module("torchtune.modules.peft")
        peft.set_trainable_params(found, peft.get_adapter_params(found))
    else:
        found = builders.llama3(**SIDES)
    torch.set_default_dtype(torch.float32)
    if case.checkpointed:
        layer = importlib.import_module("torchtune.modules").TransformerSelfAttentionLayer
        importlib.import_module("torchtune.training").set_activation_checkpointing(
            found, auto_wrap_policy={layer}
        )
    return found.train()


def recipe(trained: Any, case: Case) -> Iterator[None]:
    """Two optimizer steps of the single-device recipes; pauses between them."""
    cross_entropy: Any = torch.nn.CrossEntropyLoss(ignore_index=-100)
    if case.chunks:
        cross_entropy = importlib.import_module("torchtune.modules.loss").CEWithChunkedOutputLoss(case.chunks)
        trained.set_num_output_chunks(case.chunks)
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, foreach=True)
    ignored = torch.full((MICRO, 1), -100)
    for step in range(2):
        batch = {name: torch.zeros((MICRO, LENGTH), dtype=torch.int64) for name in ("tokens", "labels")}
        loss = _loss_step(trained, cross_entropy, batch, ignored) * MICRO * LENGTH
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if not step:
            yield


def _loss_step(
    trained: Any, cross_entropy: Any, batch: dict[str, torch.Tensor], ignored: torch.Tensor
) -> torch.Tensor:
    labels = batch.pop("labels")
    logits = trained(**batch)
    labels = torch.hstack((labels[..., 1:], ignored))
    if not isinstance(logits, list):
        labels = labels.reshape(-1)
        logits = logits.reshape(-1, logits.size(-1))
    loss: torch.Tensor = cross_entropy(logits, labels)
    del logits
    return loss


def events(case: Case) -> list[int]:
    """Allocations (positive) and frees (negative) of the second step, in bytes, in order."""
    steps = recipe(model(case), case)
    next(steps)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        next(steps, None)
    found = profile.profiler.kineto_results.events()
    return [event.nbytes() for event in found if event.name() == "[memory]"]


def main() -> None:
    """Write the events of every case."""
    torch.set_num_threads(1)
    torch.backends.mkldnn.set_flags(_enabled=False)
    torch.nn.functional.scaled_dot_product_attention = lambda q, k, v, **_: Attention.apply(q, k, v)
    recorded = {
        name: [size for size in events(case) if abs(size) >= SMALLEST] for name, case in CASES.items()
    }
    lines = [f"{json.dumps(name)}: {json.dumps(found)}" for name, found in recorded.items()]
    EVENTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
