"""Native names of everything a workload holds, and how each value is read.

One table serves the native dialect and ``--set``: every leaf has a path as written
(``loop.outputs``), a path in the workload (``outputs``) and a reader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from memplan.dialects import checkpointing_schema
from memplan.dialects.allocator_schema import ALLOCATOR, allocator
from memplan.dialects.fields import Value
from memplan.dialects.zero_schema import ZERO
from memplan.domain.architecture import EXPERT_PARAMETERS
from memplan.domain.dtype import Dtype
from memplan.domain.host import LOADINGS, ActivationOffload
from memplan.domain.kernels import LIGER
from memplan.domain.workload import (
    Adapter,
    Attention,
    Evaluation,
    Loss,
    Outputs,
    Quantization,
    Task,
)

OPTIMIZERS = (
    "adamw",
    "adam",
    "sgd",
    "adafactor",
    "muon",
    "lion",
    "lion_8bit",
    "paged_lion_8bit",
    "paged_lion_32bit",
    "adamw_8bit",
    "adamw_4bit",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
)
IMPLEMENTATIONS = ("foreach", "fused", "for_loop")
SHARDINGS = ("none", "zero1", "zero2", "zero3", "fsdp1", "fsdp2")
QUANTIZATIONS = ("nf4", "fp4", "int8")
COPIED = ("embed_tokens", "lm_head")
"""Modules that PEFT may copy and train whole (``modules_to_save``)."""

LOSSES = ("cross_entropy", "fused_linear", "liger_cross_entropy", "cut_cross_entropy", "log_probs")
CODES = ("transformers", "litgpt", "torchtune")
"""Libraries whose model classes are simulated."""

CACHES = ("dynamic", "static", "quantized")
"""Caches of generation; the quantized one is transformers' with quanto and its defaults."""

LOGITS = ("all", "last")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One value of the native dialect: where it goes in the workload, and its reader."""

    field: str
    read: Callable[[Value], Any]


def _whole(value: Value) -> int:
    return value.whole()


def _optional_whole(value: Value) -> int | None:
    return None if value.is_null else value.whole()


def _optional_dtype(value: Value) -> Dtype | None:
    return None if value.is_null or value.written() == "none" else value.dtype()


def _dtype_or_params(value: Value) -> Dtype | None:
    return None if value.is_null or value.written() == "params" else value.dtype()


def _names(value: Value) -> tuple[str, ...]:
    names = tuple(item.word() for item in value.items())
    if not names:
        raise value.fail("names nothing to adapt", expected="module names such as [q_proj, v_proj]")
    if len(set(names)) != len(names):
        raise value.fail("names a module twice")
    return names


def _modules(value: Value) -> tuple[str, ...]:
    return tuple(item.choice(COPIED) for item in value.items())


def _liger(value: Value) -> tuple[str, ...]:
    return tuple(item.choice(LIGER) for item in value.items())


def parameters(value: Value) -> tuple[str, ...]:
    """Paths of parameters that hold experts: ``[mlp.experts.gate_up_proj]``."""
    found = []
    for item in value.items():
        if item.word().rpartition(".")[2] not in EXPERT_PARAMETERS:
            raise item.fail("names no parameter of experts", expected=", ".join(EXPERT_PARAMETERS))
        found.append(item.word())
    return tuple(found)


def _one_of(*names: str) -> Callable[[Value], str]:
    return lambda value: value.choice(names)


def adapter(value: Value) -> Adapter | None:
    """``none``, or ``{kind: lora, rank, targets, dtype, dropout, dora, modules_to_save, …}``."""
    if value.is_null or value.written() == "none":
        return None
    entries = value.entries(tuple(ADAPTER))
    return Adapter(**{name: ADAPTER[name](entry) for name, entry in entries.items()})


def quantization(value: Value) -> Quantization | None:
    """``none``, or ``{kind: nf4, double, compute}``."""
    if value.is_null or value.written() == "none":
        return None
    entries = value.entries(tuple(QUANTIZATION))
    if "kind" not in entries:
        raise value.fail("says nothing of the kind", expected=f"kind: {' | '.join(QUANTIZATIONS)}")
    return Quantization(**{name: QUANTIZATION[name](entry) for name, entry in entries.items()})


def loss(value: Value) -> Loss:
    """``cross_entropy``, ``fused_linear``, ``cut_cross_entropy`` or ``{chunked: 16}``."""
    if value.written():
        return Loss(kind=value.choice(LOSSES))
    entries = value.entries(("chunked",))
    if "chunked" not in entries:
        raise value.fail("says nothing", expected=f"{', '.join(LOSSES)} or {{chunked: 16}}")
    return Loss(kind="chunked", chunks=entries["chunked"].whole(1, 2**20))


def evaluation(value: Value) -> Evaluation | None:
    """``none``, or ``{batch: 8, kept: 0, skip_logits: true}``."""
    if value.is_null or value.written() == "none":
        return None
    entries = value.entries(tuple(EVALUATION))
    return Evaluation(**{name: EVALUATION[name](entry) for name, entry in entries.items()})


EVALUATION: Mapping[str, Callable[[Value], Any]] = {
    "batch": lambda value: value.whole(0),
    "kept": lambda value: value.whole(0),
    "skip_logits": Value.flag,
}
ADAPTER: Mapping[str, Callable[[Value], Any]] = {
    "kind": _one_of("lora"),
    "rank": lambda value: value.whole(1, 2**16),
    "targets": _names,
    "dtype": Value.dtype,
    "dropout": lambda value: value.number(0, 1),
    "prepare_kbit": Value.flag,
    "half_embeddings": Value.flag,
    "dora": Value.flag,
    "modules_to_save": _modules,
    "parameters": parameters,
}
QUANTIZATION: Mapping[str, Callable[[Value], Any]] = {
    "kind": _one_of(*QUANTIZATIONS),
    "double": Value.flag,
    "compute": Value.dtype,
    "readers": lambda value: None if value.is_null or value.written() == "none" else value.whole(0, 64),
}

SECTIONS: Mapping[str, Mapping[str, Leaf]] = {
    "precision": {
        "params": Leaf(field="precision.params", read=Value.dtype),
        "autocast": Leaf(field="precision.autocast", read=_optional_dtype),
        "gradients": Leaf(field="precision.gradients", read=_dtype_or_params),
        "optimizer_state": Leaf(field="precision.optimizer_state", read=_dtype_or_params),
        "master": Leaf(field="precision.master", read=_optional_dtype),
    },
    "batch": {
        "micro": Leaf(field="batch.micro", read=_whole),
        "accumulation": Leaf(field="batch.accumulation", read=_whole),
    },
    "sequence": {"length": Leaf(field="sequence.length", read=_whole)},
    "optimizer": {
        "name": Leaf(field="optimizer.name", read=_one_of(*OPTIMIZERS)),
        "implementation": Leaf(field="optimizer.implementation", read=_one_of(*IMPLEMENTATIONS)),
        "set_to_none": Leaf(field="optimizer.set_to_none", read=Value.flag),
        "momentum": Leaf(field="optimizer.momentum", read=lambda value: value.number(0, 1)),
        "clipping": Leaf(field="optimizer.clipping", read=Value.flag),
    },
    "generate": {
        "prompt": Leaf(field="generate.prompt", read=_whole),
        "new_tokens": Leaf(field="generate.new_tokens", read=_whole),
        "cache": Leaf(field="generate.cache", read=_one_of(*CACHES)),
        "logits": Leaf(field="generate.logits", read=_one_of(*LOGITS)),
    },
    "world": {
        "data_parallel": Leaf(field="world.data_parallel", read=lambda value: value.whole(1, 2**20)),
        "sharding": Leaf(field="world.sharding", read=_one_of(*SHARDINGS)),
        "no_sync": Leaf(field="world.no_sync", read=Value.flag),
        "bucket_cap_mb": Leaf(field="world.bucket_cap_mb", read=_optional_whole),
        "gradient_as_bucket_view": Leaf(field="world.gradient_as_bucket_view", read=Value.flag),
        "reshard_after_forward": Leaf(field="world.reshard_after_forward", read=Value.flag),
        "param_dtype": Leaf(field="world.param_dtype", read=_dtype_or_params),
        "reduce_dtype": Leaf(field="world.reduce_dtype", read=_dtype_or_params),
        "hybrid": Leaf(field="world.hybrid", read=Value.flag),
        "backward_prefetch": Leaf(field="world.backward_prefetch", read=_one_of("pre", "post", "none")),
        "forward_prefetch": Leaf(field="world.forward_prefetch", read=Value.flag),
        "use_orig_params": Leaf(field="world.use_orig_params", read=Value.flag),
    },
    "kernels": {"liger": Leaf(field="kernels.liger", read=_liger)},
    "zero": {name: Leaf(field=f"world.zero.{name}", read=read) for name, read in ZERO.items()},
    "framework": {
        "torch": Leaf(field="framework.torch", read=Value.version),
        "transformers": Leaf(field="framework.transformers", read=Value.version),
        "code": Leaf(field="framework.code", read=_one_of(*CODES)),
        "litgpt": Leaf(field="framework.litgpt", read=Value.version),
        "liger": Leaf(field="framework.liger", read=Value.version),
    },
    "host": {
        "loading": Leaf(field="host.loading", read=_one_of(*LOADINGS)),
        "published": Leaf(field="host.published", read=_dtype_or_params),
        "workers": Leaf(field="host.workers", read=lambda value: value.whole(0, 1024)),
        "prefetch": Leaf(field="host.prefetch", read=lambda value: value.whole(1, 1024)),
        "pinned": Leaf(field="host.pinned", read=Value.flag),
    },
    "saving": {
        "kept": Leaf(field="saving.kept", read=lambda value: value.whole(0, 2**20)),
        "optimizer": Leaf(field="saving.optimizer", read=Value.flag),
    },
    "loop": {
        "outputs": Leaf(field="outputs", read=lambda value: value.member(Outputs)),
    },
}
SINGLES: Mapping[str, Leaf] = {
    "task": Leaf(field="task", read=lambda value: value.member(Task)),
    "adapter": Leaf(field="adapter", read=adapter),
    "quantization": Leaf(field="quantization", read=quantization),
    "attention": Leaf(field="attention", read=lambda value: value.member(Attention)),
    "checkpointing": Leaf(field="checkpointing", read=checkpointing_schema.read),
    "activation_offload": Leaf(
        field="activation_offload", read=lambda value: value.member(ActivationOffload)
    ),
    "loss": Leaf(field="loss", read=loss),
    "attention_mask": Leaf(field="causal_mask", read=Value.flag),
    "allocator": Leaf(field="allocator", read=allocator),
    "evaluation": Leaf(field="evaluation", read=evaluation),
}


def leaves() -> dict[str, Leaf]:
    """Every value that ``--set`` can give, by its path as written."""
    found = dict(SINGLES)
    for section, entries in SECTIONS.items():
        found |= {f"{section}.{name}": leaf for name, leaf in entries.items()}
    found |= {f"adapter.{name}": Leaf(field=f"adapter.{name}", read=read) for name, read in ADAPTER.items()}
    found |= {
        f"allocator.{name}": Leaf(field=f"allocator.{name}", read=read) for name, read in ALLOCATOR.items()
    }
    found |= {
        f"evaluation.{name}": Leaf(field=f"evaluation.{name}", read=read) for name, read in EVALUATION.items()
    }
    return found | {
        f"quantization.{name}": Leaf(field=f"quantization.{name}", read=read)
        for name, read in QUANTIZATION.items()
    }


def spelled(field: str) -> str:
    """The path as written of a workload field: ``loop.outputs`` for ``outputs``."""
    return next((path for path, leaf in leaves().items() if leaf.field == field), field)
