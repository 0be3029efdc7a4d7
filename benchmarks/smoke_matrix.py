"""Small workloads really run on this machine's processor, beside what the CPU's rules predict of them.

    python benchmarks/smoke_matrix.py [WORD]...     those whose name has every word; default: all

Each is a line: what was allocated at the peak, and resident, as predicted and as seen. The exit code is 1 if
one is further off than 0.5 % of what was allocated in any phase, or 6 % of what was resident. Each runs in a
process of its own, forked when the libraries are loaded, so that the resident set is its own.

    python benchmarks/smoke_matrix.py --update      also writes smoke_matrix.txt beside this file
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from memplan.domain.dtype import Dtype
from memplan.domain.measurement import Comparison, error
from memplan.domain.workload import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Evaluation,
    Generate,
    Loss,
    Optimizer,
    Precision,
    Quantization,
    Sequence,
    Task,
    Workload,
)
from memplan.families import architecture, linear_names
from memplan.smoke import on_cpu
from memplan.smoke.device import Asked
from memplan.smoke.environment import prepare

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

HALF = Precision(params=Dtype.BF16)
MIXED = Precision(params=Dtype.BF16, autocast=Dtype.BF16)

EVALUATED: dict[str, tuple[str, dict[str, Any]]] = {
    "evaluates": ("llama", {"evaluation": Evaluation(batch=6)}),
    "lora, evaluates, logits of 4 batches kept": (
        "qwen3",
        {"lora": True, "evaluation": Evaluation(batch=4, kept=4)},
    ),
    "evaluates under autocast, logits of 2 batches kept": (
        "gpt2",
        {
            "precision": Precision(params=Dtype.FP32, autocast=Dtype.BF16),
            "evaluation": Evaluation(batch=4, kept=2),
        },
    ),
}

CHUNKED: dict[str, tuple[str, dict[str, Any]]] = {
    "full, loss in 8 pieces": ("llama", {"precision": HALF, "loss": Loss(kind="chunked", chunks=8)}),
    "lora, checkpointed, loss in 5 pieces": (
        "gemma2",
        {"lora": True, "checkpointing": Checkpointing(every=1), "loss": Loss(kind="chunked", chunks=5)},
    ),
    "autocast, loss in 4 pieces": (
        "gpt2",
        {
            "precision": Precision(params=Dtype.FP32, autocast=Dtype.BF16),
            "loss": Loss(kind="chunked", chunks=4),
        },
    ),
}

BITSANDBYTES: dict[str, tuple[str, dict[str, Any]]] = {
    f"{model}, qlora, {name}": (model, {"lora": True, "prepared": True, **settings})
    for model in DECODERS
    for name, settings in {
        "nf4": {"precision": HALF, "quantization": Quantization(kind="nf4")},
        "fp4 double, autocast, checkpointed": {
            "precision": MIXED,
            "quantization": Quantization(kind="fp4", double=True),
            "checkpointing": Checkpointing(every=1),
        },
        "int8": {"precision": HALF, "quantization": Quantization(kind="int8")},
    }.items()
}
BITSANDBYTES |= {
    f"{model}, full, {name}": (model, {"optimizer": Optimizer(name=name), "precision": precision})
    for model, name, precision in (
        ("llama", "adamw_8bit", Precision(params=Dtype.FP32)),
        ("gpt2", "paged_adamw_32bit", HALF),
        ("qwen3", "lion_8bit", HALF),
        ("bert", "lion", Precision(params=Dtype.FP32)),
    )
}
BITSANDBYTES |= {
    f"llama, {kind} weights, generates": (
        "llama",
        {
            "precision": HALF,
            "quantization": Quantization(kind=kind, double=kind == "nf4"),
            "task": Task.GENERATE,
            "generate": Generate(prompt=96, new_tokens=16),
        },
    )
    for kind in ("nf4", "fp4")
}
"""What takes bitsandbytes."""


UPDATE = "--update"
TABLE = Path(__file__).with_suffix(".txt")
HEADING = f"{'MiB and percent':58} predicted      seen     error  resident      seen   error"


def workload(model: str, lora: bool = False, prepared: bool = False, **settings: Any) -> Workload:
    """A model in a setting, in fp32 unless that says otherwise."""
    config: Mapping[str, Any] = MODELS[model]
    targets = tuple(name for name in linear_names(config["model_type"]) if name in ATTENTION_LAYERS)
    plain: dict[str, Any] = {
        "precision": Precision(params=Dtype.FP32),
        "batch": Batch(micro=2),
        "sequence": Sequence(length=128),
        "attention": Attention.EAGER if model in EAGER_ONLY else Attention.SDPA,
        "adapter": Adapter(rank=8, targets=targets, prepare_kbit=prepared) if lora else None,
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
    for name, (model, settings) in (EVALUATED | CHUNKED).items():
        yield f"{model}, {name}", workload(model, **settings)
    if find_spec("bitsandbytes") is not None:
        for name, (model, settings) in BITSANDBYTES.items():
            yield name, workload(model, **settings)


def line(name: str, found: Comparison) -> str:
    """One row of the table."""
    predicted, measured = found.predicted, found.measured
    assert predicted.rss is not None
    assert measured.rss is not None
    return (
        f"{name:58} {_mib(predicted.peak_allocated)} {_mib(measured.peak_allocated)}"
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
    wanted = [case for case in cases() if all(word in case[0] for word in words if word != UPDATE)]
    said = [HEADING]
    print(HEADING)
    far = 0
    for name, case in wanted:
        found = alone(case)
        far += not fits(found)
        said.append(line(name, found) + ("" if fits(found) else "  too far"))
        print(said[-1], flush=True)
    said.append(
        f"{len(wanted)} workloads; {far} further off than {ALLOCATED} % of what was allocated in any phase,"
        f" or {RESIDENT:g} % of what was resident"
    )
    print(said[-1])
    if UPDATE in words:
        TABLE.write_text("\n".join(said) + "\n", encoding="utf-8")
    return 1 if far else 0


def alone(case: Workload) -> Comparison:
    """One workload, in a process of its own."""
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def run() -> None:
        theirs.send(on_cpu(case, Asked(steps=2)))

    process = context.Process(target=run)
    process.start()
    # With its end open here too, reading would go on for ever if the process died.
    theirs.close()
    found: Comparison = ours.recv()
    process.join()
    return found


def _load() -> None:
    """What every process finds loaded; nothing may have run yet, since threads do not survive a fork."""
    prepare()
    from memplan.smoke.bitsandbytes import load_bitsandbytes

    load_bitsandbytes()
    import peft  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401


if __name__ == "__main__":
    _load()
    sys.exit(main(sys.argv[1:]))
