"""Small workloads really run on this machine's processor, beside what the CPU's rules predict of them.

    python benchmarks/smoke_matrix.py [WORD]...     those whose name has every word; default: all

Each is a line: what was allocated at the peak, and resident, as predicted and as seen. The exit code is 1 if
one is further off than 0.5 % of what was allocated or 6 % of what was resident.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from memplan.domain.dtype import Dtype
from memplan.domain.measurement import Comparison, error
from memplan.domain.workload import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Generate,
    Optimizer,
    Precision,
    Sequence,
    Task,
    Workload,
)
from memplan.families import architecture, linear_names
from memplan.smoke import on_cpu
from memplan.smoke.device import Asked

ALLOCATED, RESIDENT = 0.5, 6.0
"""Percent by which predictions may be off."""

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 4000,
}
ENCODER = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
}
DECODERS: dict[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt2", "n_embd": 256, "n_layer": 4, "n_head": 8, "vocab_size": 4000},
    "llama": LLAMA,
    "qwen3": LLAMA | {"model_type": "qwen3", "head_dim": 32},
    "gemma2": LLAMA | {"model_type": "gemma2", "head_dim": 32, "sliding_window": 64},
    "mixtral": LLAMA
    | {"model_type": "mixtral", "intermediate_size": 304, "num_local_experts": 8, "num_experts_per_tok": 2},
}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": ENCODER | {"model_type": "bert", "vocab_size": 4000, "architectures": ["BertForMaskedLM"]},
    "t5": {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "d_model": 256,
        "d_kv": 32,
        "d_ff": 688,
        "num_layers": 3,
        "num_heads": 8,
        "vocab_size": 4000,
        "decoder_start_token_id": 0,
    },
    "vit": ENCODER | {"model_type": "vit", "architectures": ["ViTForImageClassification"], "num_labels": 10},
}
MODELS = DECODERS | ENCODERS

ATTENTION_LAYERS = ("q_proj", "v_proj", "query", "value", "c_attn", "q", "v")
EAGER_ONLY = ("gemma2", "t5")
"""Models without a fused attention on a CPU."""

SETTINGS: dict[str, dict[str, Any]] = {
    "full, adamw": {},
    "lora, checkpointed, sgd": {
        "lora": True,
        "checkpointing": Checkpointing(every=1),
        "optimizer": Optimizer(name="sgd", momentum=0.9),
    },
    "full, checkpointed, accumulated, adamw": {
        "checkpointing": Checkpointing(every=1),
        "batch": Batch(micro=2, accumulation=2),
    },
    "full, accumulated, sgd, eager": {
        "optimizer": Optimizer(name="sgd"),
        "batch": Batch(micro=2, accumulation=4),
        "attention": Attention.EAGER,
    },
}
CACHES = ("dynamic", "static")


def workload(model: str, lora: bool = False, **settings: Any) -> Workload:
    """A model in fp32 in a setting."""
    config: Mapping[str, Any] = MODELS[model]
    targets = tuple(name for name in linear_names(config["model_type"]) if name in ATTENTION_LAYERS)
    plain: dict[str, Any] = {
        "precision": Precision(params=Dtype.FP32),
        "batch": Batch(micro=2),
        "sequence": Sequence(length=128),
        "attention": Attention.EAGER if model in EAGER_ONLY else Attention.SDPA,
        "adapter": Adapter(rank=8, targets=targets) if lora else None,
    }
    return Workload(model=architecture(config, lambda _: None), **(plain | settings))


def cases() -> Iterator[tuple[str, Workload]]:
    """Every workload with its name."""
    for model in MODELS:
        for name, settings in SETTINGS.items():
            yield f"{model}, {name}", workload(model, **settings)
    for model in DECODERS:
        for cache in CACHES:
            asked = Generate(prompt=96, new_tokens=16, cache=cache)
            yield f"{model}, generates, {cache} cache", workload(model, task=Task.GENERATE, generate=asked)


def line(name: str, found: Comparison) -> str:
    """One row of the table."""
    predicted, measured = found.predicted, found.measured
    assert predicted.rss is not None
    assert measured.rss is not None
    return (
        f"{name:48} {_mib(predicted.peak_allocated)} {_mib(measured.peak_allocated)}"
        f" {_error(predicted.peak_allocated, measured.peak_allocated):+9.4f}"
        f" {_mib(predicted.rss)} {_mib(measured.rss)} {_error(predicted.rss, measured.rss):+7.2f}"
    )


def fits(found: Comparison) -> bool:
    """Whether both peaks, and the peak of each phase, are as near as they are to be."""
    predicted, measured = found.predicted, found.measured
    phases = dict(predicted.phases)
    pairs = [(phases[phase], seen) for phase, seen in measured.phases]
    pairs.append((predicted.peak_allocated, measured.peak_allocated))
    near = all(abs(_error(before, after)) <= ALLOCATED for before, after in pairs)
    return near and abs(_error(predicted.rss or 0, measured.rss or 0)) <= RESIDENT


def _error(predicted: int, measured: int) -> float:
    found = error(predicted, measured)
    assert found is not None
    return found


def _mib(amount: int) -> str:
    return f"{amount / 2**20:9.2f}"


def main(words: list[str]) -> int:
    """Run and print them, one after the other."""
    print(
        f"{'MiB and percent':48} {'predicted':>9} {'seen':>9} {'error':>9} {'resident':>9} {'seen':>9}   error"
    )
    far, count, began = 0, 0, time.monotonic()
    for name, case in cases():
        if all(word in name for word in words):
            found = on_cpu(case, Asked(steps=2))
            count += 1
            far += not fits(found)
            print(line(name, found), "" if fits(found) else "  too far", flush=True)
    seconds = time.monotonic() - began
    print(
        f"{count} workloads in {seconds:.0f} s; {far} further off than {ALLOCATED} % of what was allocated in"
        f" any phase, or {RESIDENT:g} % of what was resident"
    )
    return 1 if far else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
