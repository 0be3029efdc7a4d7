"""Settings of a torchtune recipe that are one key each, and those that a few keys decide together."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects import table
from memplan.dialects.checkpointing_schema import DEEPEST
from memplan.dialects.components import OPTIMIZERS
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Origin
from memplan.dialects.table import Setting
from memplan.dialects.torchtune.recipe import Kind
from memplan.domain.dtype import Dtype
from memplan.domain.host import ActivationOffload, Saving
from memplan.domain.workload import Checkpointing, Evaluation, Generate, Loss, Optimizer, World

MICRO = Setting(
    field="batch.micro",
    keys=("batch_size",),
    read=table.whole,
    default=1,
    says="assumed",
)
ANSWERED = replace(MICRO, default=8, says="default of eleuther_eval: 8")
ACCUMULATION = Setting(
    field="batch.accumulation",
    keys=("gradient_accumulation_steps",),
    read=table.whole,
    default=1,
    says="every micro-batch is a step",
)
LENGTH = Setting(
    field="sequence.length",
    keys=("tokenizer.max_seq_len",),
    read=table.whole,
    default=2048,
    says="assumed: without tokenizer.max_seq_len the longest sample decides",
)
CHECKPOINTING = "enable_activation_checkpointing"
OFFLOADING = "enable_activation_offloading"
STREAMS = "activation_offloading_use_streams"
PIECES = 8
"""``num_output_chunks`` of torchtune's losses."""

CHUNKED = "torchtune.modules.loss.CEWithChunkedOutputLoss"
WHOLE = "torch.nn.CrossEntropyLoss"


def dtype(keys: Keys) -> Dtype:
    """``dtype``, which everything has: parameters, adapters, gradients and the states of optimizers.

    Raises:
        FieldError: fp16, which the recipes refuse.
    """
    value = keys.get("dtype")
    keys.note("precision.params", value, "assumed: bf16")
    if value is None:
        return Dtype.BF16
    found = value.dtype()
    if found is Dtype.FP16:
        raise value.fail("torchtune's recipes refuse to run in fp16", expected="bf16 or fp32")
    return found


def length(keys: Keys, most: int) -> int:
    """Tokens of a sample, of at most so many.

    Raises:
        FieldError: samples are packed to a length that nobody gives.
    """
    packed = keys.get("dataset.packed")
    given = keys.get(*LENGTH.keys)
    if packed is not None and packed.flag() and given is None:
        raise packed.fail("needs tokenizer.max_seq_len", expected="tokenizer: {max_seq_len: 2048}")
    found: int = table.settle(keys, (LENGTH,))[LENGTH.field]
    if given is not None:
        return found
    found = min(found, most)
    keys.origins[LENGTH.field] = Origin(how="assumed", note=LENGTH.says)
    place = keys.get("tokenizer") or keys.root
    keys.warn(place, f"no tokenizer.max_seq_len: the longest sample decides; counted with {found} tokens")
    return found


def optimizer(keys: Keys, *, sharded: bool) -> Optimizer:
    """The optimizer that ``_component_`` names.

    PyTorch takes FSDP2's tensors one by one unless told otherwise (``_default_to_fused_or_foreach`` in
    torch/optim/optimizer.py).
    """
    value, clipped = keys.get("optimizer._component_"), keys.get("clip_grad_norm")
    keys.note("optimizer.name", value)
    keys.note("optimizer.clipping", clipped, "torchtune's default: gradients are not clipped")
    if value is None:
        return Optimizer()
    component = value.word()
    name = OPTIMIZERS.get(component)
    if name is None:
        name = component.lower()
        keys.warn(value, f"optimizer {component} is not modelled")
    return Optimizer(
        name=name,
        implementation=_implementation(keys, component, sharded=sharded),
        momentum=0.0 if (found := keys.get("optimizer.momentum")) is None else found.number(0, 1),
        clipping=clipped is not None,
    )


def _implementation(keys: Keys, component: str, *, sharded: bool) -> str:
    keys.note(
        "optimizer.implementation", keys.get("optimizer.fused", "optimizer.foreach"), "PyTorch's default"
    )
    if not component.startswith("torch."):
        return "for_loop"
    if keys.flag("optimizer.fused"):
        return "fused"
    asked = keys.flag("optimizer.foreach")
    return "foreach" if asked or (asked is None and not sharded) else "for_loop"


def loss(keys: Keys) -> Loss:
    """In pieces, whether of logits (``CEWithChunkedOutputLoss``) or of hidden states; or whole."""
    value, pieces = keys.get("loss._component_"), keys.get("loss.num_output_chunks")
    keys.note("loss", value)
    name = "" if value is None else value.word()
    if "rlhf" in name or value is None:
        return Loss()
    if name.startswith("torchtune.modules.loss."):
        keys.note("loss.chunks", pieces, f"torchtune's default: {PIECES}")
        return Loss(kind="chunked", chunks=PIECES if pieces is None else pieces.whole(1, 2**20))
    if name != WHOLE:
        keys.warn(value, f"{name} is counted as cross-entropy on whole logits")
    return Loss()


def checkpointing(keys: Keys, *, selective: bool) -> Checkpointing:
    """Every block, or the last of every so many (``ac_mode: selective``, of full finetuning on several GPUs).

    ``checkpoint_wrapper`` in torchtune/training/activations.py counts from one.
    """
    value, mode = keys.get(CHECKPOINTING), keys.get("ac_mode")
    asked = bool(keys.flag(CHECKPOINTING))
    keys.note("checkpointing", value, "torchtune's default: off")
    if not selective or mode is None:
        return Checkpointing(every=int(asked))
    keys.note("checkpointing", mode)
    if asked:
        keys.warn(mode, f"ac_mode and {CHECKPOINTING} turn each other off: nothing is checkpointed")
        return Checkpointing()
    every = _stride(keys, mode)
    return Checkpointing(every=every, start=max(0, every - 1))


def _stride(keys: Keys, mode: Value) -> int:
    name = mode.choice(("none", "full", "selective"))
    option = keys.get("ac_option")
    if name != "selective":
        return int(name == "full")
    if option is None:
        raise mode.fail("selective checkpointing needs ac_option", expected="ac_option: 2")
    return option.whole(0, DEEPEST) or 1


def activation_offload(keys: Keys) -> ActivationOffload:
    """``OffloadActivations``, with a second stream unless told otherwise.

    Raises:
        FieldError: without checkpointing, which the recipes refuse.
    """
    value = keys.get(OFFLOADING)
    keys.note("activation_offload", value, "torchtune's default: off")
    if value is None or not keys.flag(OFFLOADING):
        return ActivationOffload.NONE
    if not keys.flag(CHECKPOINTING):
        raise value.fail(
            "torchtune refuses to offload activations without checkpointing",
            expected=f"{CHECKPOINTING}: True",
        )
    alone = keys.flag(STREAMS) is False
    return ActivationOffload.SINGLE_STREAM if alone else ActivationOffload.STREAMS


def evaluation(keys: Keys) -> Evaluation | None:
    """Batches of a validation; one that follows ``batch_size`` never holds more than training."""
    value = keys.get("batch_size_val")
    own = value is not None and value.node.fixed is None
    keys.note("evaluation", value, "torchtune's default: none")
    if value is None or not own or keys.get("run_val_every_n_steps") is None:
        return None
    return Evaluation(batch=value.whole())


def world(keys: Keys, *, several: bool) -> World:
    """FSDP2 over as many GPUs as the command line starts, unless the file says how many."""
    size = keys.get("data_parallel_shard_dim")
    given = size is not None and size.written() != "-1"
    reshard = keys.get("fsdp_reshard_after_forward")
    keys.note("world.data_parallel", size if given else None, "counted as one GPU: the file does not say")
    if not several:
        return World()
    keys.note("world.reshard_after_forward", reshard, "torchtune's default")
    return World(
        data_parallel=size.whole() if size is not None and given else 1,
        sharding="fsdp2",
        reshard_after_forward=reshard is None or reshard.flag(),
    )


def generate(keys: Keys, kind: Kind, most: int) -> Generate:
    """What is generated from a prompt (a token per byte at most), or answered of an evaluation's tasks."""
    longest, new = keys.get("max_seq_length"), keys.get("max_new_tokens")
    if kind is Kind.EVALUATE:
        keys.note("generate.prompt", longest, "torchtune's default: 4096")
        prompt = 4096 if longest is None else longest.whole()
        return Generate(prompt=min(prompt, most), new_tokens=1, cache="static")
    keys.note("generate.new_tokens", new, "torchtune's default: 300")
    value = keys.get("prompt")
    text = "" if value is None else value.source.text[value.node.span.start : value.node.span.end]
    keys.note("generate.prompt", value, how="a token per byte, and some of the template")
    return Generate(
        prompt=min(len(text.encode()) + 32, most),
        new_tokens=300 if new is None else new.whole(),
        cache="static",
        logits="last",
    )


def saving(keys: Keys) -> Saving:
    """A checkpoint after every epoch, with the optimizer's state but for the last."""
    epochs, kept = keys.get("epochs"), keys.get("checkpointer.keep_last_n_checkpoints")
    keys.note("saving.kept", kept or epochs, "one")
    number = 1 if epochs is None else epochs.whole()
    return Saving(kept=number if kept is None else min(number, kept.whole()), optimizer=number > 1)
