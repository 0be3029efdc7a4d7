"""Settings of litgpt's commands that are one key each, and those that a few keys decide together."""

from __future__ import annotations

from enum import StrEnum

from memplan.dialects import table
from memplan.dialects.components import OPTIMIZERS
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Origin
from memplan.dialects.table import Setting
from memplan.documents.tree import MappingNode
from memplan.domain.dtype import Dtype
from memplan.domain.workload import (
    Adapter,
    Batch,
    Optimizer,
    Precision,
    Quantization,
    Unmodelled,
    World,
)


class Command(StrEnum):
    """The commands that take these files."""

    LORA = "finetune_lora"
    FULL = "finetune_full"
    PRETRAIN = "pretrain"


PRECISIONS: dict[str, tuple[Dtype, Dtype | None]] = {
    "bf16-true": (Dtype.BF16, None),
    "16-true": (Dtype.FP16, None),
    "32-true": (Dtype.FP32, None),
    "32": (Dtype.FP32, None),
    "bf16-mixed": (Dtype.FP32, Dtype.BF16),
    "16-mixed": (Dtype.FP32, Dtype.FP16),
}
"""Fabric's precisions: the dtype of parameters, and of autocast."""

QUANTIZED = {
    "bnb.nf4": ("nf4", False),
    "bnb.nf4-dq": ("nf4", True),
    "bnb.fp4": ("fp4", False),
    "bnb.fp4-dq": ("fp4", True),
    "bnb.int8-training": ("int8", False),
}
SWITCHES = {
    "lora_query": ("query", ("q_proj",), True),
    "lora_key": ("key", ("k_proj",), False),
    "lora_value": ("value", ("v_proj",), True),
    "lora_projection": ("projection", ("o_proj",), False),
    "lora_mlp": ("mlp", ("gate_proj", "up_proj", "down_proj"), False),
    "lora_head": ("head", ("lm_head",), False),
}
"""Which layers each switch adapts: litgpt's name, those of Llama-like models, and the switch's default."""

RANK = Setting(
    field="adapter.rank", keys=("lora_r",), read=table.whole, default=8, says="litgpt's default: 8"
)
DROPOUT = Setting(
    field="adapter.dropout",
    keys=("lora_dropout",),
    read=lambda _, value: value.number(0, 1),
    default=0.05,
    says="litgpt's default: 0.05",
)
MICRO = "train.micro_batch_size"
GLOBAL = "train.global_batch_size"
LENGTH = "train.max_seq_length"
SIZES = {Command.LORA: (16, 1), Command.FULL: (16, 1), Command.PRETRAIN: (512, 4)}
"""Defaults of the global and the micro-batch."""

ASSUMED = 2048
"""Tokens of a sample when the longest decides."""


def command(keys: Keys) -> Command:
    """Which command the keys are arguments of.

    Raises:
        FieldError: one whose adapters are not simulated.
    """
    if keys.has("model_name", "model_config", "initial_checkpoint_dir", "tokenizer_dir"):
        return Command.PRETRAIN
    if keys.has("lora_r", "lora_alpha", "lora_dropout", *SWITCHES):
        return Command.LORA
    quantize = keys.get("quantize")
    if quantize is not None:
        raise quantize.fail("without lora_r this is finetune_adapter, which is not modelled")
    return Command.FULL


def devices(keys: Keys, gpus: int | None) -> int:
    """GPUs in all nodes, unless the command line says so; ``auto`` is counted as one."""
    if gpus is not None:
        keys.note("world.data_parallel", None, "given by --gpus")
        return gpus
    value, nodes = keys.get("devices"), keys.whole("num_nodes") or 1
    path = "world.data_parallel"
    if value is None or value.written() in ("auto", "-1"):
        keys.note(path, None, "counted as one GPU: the file does not say")
        return nodes
    keys.note(path, value)
    return value.whole() * nodes


def world(what: Command, size: int) -> World:
    """FSDP of one kind or the other on several GPUs."""
    if size == 1:
        return World()
    return World(data_parallel=size, sharding="fsdp2" if what is Command.LORA else "fsdp1")


def batch(keys: Keys, what: Command, size: int) -> Batch:
    """Accumulation follows from the global batch (``TrainArgs.gradient_accumulation_iters``).

    Raises:
        FieldError: a GPU's share of the global batch is smaller than the micro-batch.
    """
    whole, part = keys.get(GLOBAL), keys.get(MICRO)
    default = SIZES[what]
    total = default[0] if whole is None else whole.whole()
    micro = default[1] if part is None else part.whole()
    keys.note("batch.micro", part, f"litgpt's default: {default[1]}")
    keys.note("batch.accumulation", whole, "follows from the global batch", "follows from the global batch")
    accumulation = total // size // micro
    if not accumulation:
        raise (part or whole or keys.root).fail(
            f"{micro} sequences at a time on {size} GPUs are more than a global batch of {total}",
            expected=f"at most {max(total // size, 1)}",
        )
    return Batch(micro=micro, accumulation=accumulation)


def length(keys: Keys, what: Command, most: int) -> int:
    """Tokens of a sample: the longest, cut to ``max_seq_length``; pretraining fills the whole context."""
    value = keys.get(LENGTH)
    keys.note("sequence.length", value, "the model's context")
    if value is not None:
        return value.whole()
    if what is Command.PRETRAIN:
        return most
    found = min(ASSUMED, most)
    keys.origins["sequence.length"] = Origin(how="assumed", note="the longest sample decides")
    keys.warn(keys.get("train") or keys.root, f"no max_seq_length: counted with {found} tokens")
    return found


def precision(keys: Keys) -> Precision:
    """``precision``; without it litgpt takes mixed bf16 where the GPU has it."""
    value = keys.get("precision")
    says = "litgpt's default on a GPU with bf16: bf16-mixed"
    keys.note("precision.params", value, says)
    keys.note("precision.autocast", value, says)
    name = "bf16-mixed" if value is None else value.written()
    if value is not None and name not in PRECISIONS:
        raise value.fail(f"{value.described()} is not one of its values", expected=", ".join(PRECISIONS))
    params, autocast = PRECISIONS[name]
    return Precision(params=params, autocast=autocast)


def quantization(keys: Keys, what: Command, numbers: Precision, size: int) -> Quantization | None:
    """``quantize``, which needs one GPU and a precision that is not mixed.

    Raises:
        FieldError: litgpt refuses the combination.
    """
    value = keys.get("quantize")
    keys.note("quantization", value, "litgpt's default: none")
    if value is None or what is not Command.LORA:
        return None
    kind, double = QUANTIZED[value.choice(QUANTIZED)]
    if numbers.autocast is not None or size > 1:
        raise value.fail("litgpt quantizes on one GPU only, and not in mixed precision")
    return Quantization(kind=kind, double=double, compute=numbers.params, readers=0)


def adapter(keys: Keys, what: Command, dtype: Dtype, linears: tuple[str, ...]) -> Adapter | None:
    """LoRA in the dtype of the parameters.

    Raises:
        FieldError: all switches are off.
    """
    if what is not Command.LORA:
        return None
    found = table.settle(keys, (RANK, DROPOUT))
    keys.note("adapter", keys.get("lora_r"), "litgpt's default")
    targets = tuple(name for switch in SWITCHES if on(keys, switch) for name in layers(switch, linears))
    keys.note("adapter.targets", next(filter(None, map(keys.get, SWITCHES)), None), "litgpt's default")
    if not targets:
        raise (keys.get("lora_query") or keys.root).fail("adapts nothing", expected="lora_query: true")
    return Adapter(rank=found[RANK.field], dropout=found[DROPOUT.field], targets=targets, dtype=dtype)


def on(keys: Keys, switch: str) -> bool:
    """Whether a switch is on."""
    asked = keys.flag(switch)
    return SWITCHES[switch][2] if asked is None else asked


def layers(switch: str, linears: tuple[str, ...]) -> tuple[str, ...]:
    """What a switch adapts, under the model's own names where they are Llama's."""
    own, usual, _ = SWITCHES[switch]
    return usual if set(usual) <= {*linears, "lm_head"} else (own,)


def optimizer(keys: Keys, what: Command, *, quantized: bool) -> Optimizer:
    """A class of ``torch.optim`` or another by its path; bitsandbytes' paged AdamW for quantized models.

    Source: ``instantiate_torch_optimizer`` and ``instantiate_bnb_optimizer`` in litgpt/utils.py.
    """
    value = keys.get("optimizer.class_path", "optimizer")
    keys.note("optimizer.name", value, "litgpt's default: AdamW")
    if quantized:
        return Optimizer(name="paged_adamw_32bit", implementation="for_loop")
    path = "AdamW" if value is None or isinstance(value.node, MappingNode) else value.word()
    path = path if "." in path else f"torch.optim.{path}"
    name = OPTIMIZERS.get(path)
    if name is None and value is not None:
        keys.warn(value, f"optimizer {path} is not modelled")
    return Optimizer(
        name=name or path.lower(),
        implementation=_implementation(keys, path, what),
        clipping=what is Command.PRETRAIN,
    )


def _implementation(keys: Keys, path: str, what: Command) -> str:
    if not path.startswith("torch."):
        return "for_loop"
    asked = keys.flag("optimizer.init_args.fused")
    if asked or what is Command.PRETRAIN:
        return "fused"
    return "for_loop" if keys.flag("optimizer.init_args.foreach") is False else "foreach"


def unmodelled(keys: Keys, what: Command) -> tuple[Unmodelled, ...]:
    """What pretraining does beyond finetuning."""
    if what is not Command.PRETRAIN:
        return ()
    found = [
        Unmodelled(
            reason="litgpt compiles the model to pretrain it: it keeps other activations than counted",
            shrinks=("activations", "logits_and_loss", "temporaries"),
        )
    ]
    if keys.flag("train.tie_embeddings"):
        found.append(
            Unmodelled(
                reason="train.tie_embeddings: embeddings and head are counted as two matrices",
                shrinks=("decoder_matrix", "gradients", "optimizer_state"),
            )
        )
    return tuple(found)


WORKERS = ("data.init_args.num_workers", "data.num_workers")


def workers(keys: Keys) -> int:
    """DataLoader workers, 4 unless ``data`` says otherwise."""
    value: Value | None = keys.get(*WORKERS)
    keys.note("host.workers", value, "litgpt's default: 4")
    return 4 if value is None else value.whole(0, 1024)
