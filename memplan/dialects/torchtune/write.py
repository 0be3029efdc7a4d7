"""Changed values as edits of a torchtune file, or advice where it has no key for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from memplan.dialects import table
from memplan.dialects.components import fuses, optimizer_class
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import FieldChange, Reading
from memplan.dialects.table import Writer, put, writer
from memplan.dialects.torchtune import settings
from memplan.dialects.torchtune.adapters import ATTENTION, HEAD, MLP
from memplan.dialects.torchtune.recipe import Kind, kind
from memplan.documents.tree import ScalarNode, SequenceNode
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.host import ActivationOffload
from memplan.domain.workload import Adapter, Checkpointing, Task, Workload

_UNTRAINED = "nothing is trained"
_BESIDE = ("enable_activation_checkpointing", "gradient_accumulation_steps", "batch_size", "dtype")


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """The changes as edits; keys are inserted that every training recipe since 0.1 reads."""
    return table.edits(reading, changes, _WRITERS, "torchtune")


def _batch(reading: Reading, after: Workload) -> list[Edit]:
    steps = after.batch.accumulation != reading.workload.batch.accumulation
    if reading.batch_harm is not None and steps:
        raise EditRefusedError(reading.batch_reason)
    if reading.workload.task is Task.TRAIN:
        return writer(settings.MICRO, settings.ACCUMULATION, beside=("batch_size", "epochs"))(reading, after)
    if kind(_keys(reading)) is Kind.GENERATE:
        raise EditRefusedError("the recipe generates from one prompt")
    if after.batch.accumulation != 1:
        raise EditRefusedError(_UNTRAINED)
    return writer(settings.MICRO, beside=("max_seq_length",))(reading, after)


def _evaluation(reading: Reading, after: Workload) -> list[Edit]:
    before, wanted = reading.workload.evaluation, after.evaluation
    if before is None or wanted is None or replace(before, batch=wanted.batch) != wanted:
        raise EditRefusedError("of a validation the size of its batches is written")
    return put(reading, ("batch_size_val",), wanted.batch)


def _sequence(reading: Reading, after: Workload) -> list[Edit]:
    if reading.workload.task is not Task.TRAIN:
        raise EditRefusedError(_UNTRAINED)
    return writer(settings.LENGTH, beside=("path", "_component_"))(reading, after)


def _checkpointing(reading: Reading, after: Workload) -> list[Edit]:
    if reading.workload.task is not Task.TRAIN:
        raise EditRefusedError(_UNTRAINED)
    if after.checkpointing == reading.workload.checkpointing:
        return []
    if _written(reading, "ac_mode"):
        return _selective(reading, after)
    if after.checkpointing not in (Checkpointing(every=0), Checkpointing(every=1)):
        raise EditRefusedError("torchtune checkpoints every block or none where ac_mode is not written")
    if not after.checkpointing.every and after.activation_offload is not ActivationOffload.NONE:
        raise EditRefusedError("activations are offloaded, which needs checkpointing")
    return put(reading, (settings.CHECKPOINTING,), after.checkpointing.every == 1, _BESIDE)


def _selective(reading: Reading, after: Workload) -> list[Edit]:
    """Edits of ``ac_mode`` and ``ac_option``, which count only while the other switch is off."""
    wanted = after.checkpointing
    if _keys(reading).flag(settings.CHECKPOINTING):
        raise EditRefusedError(f"ac_mode and {settings.CHECKPOINTING} turn each other off")
    if wanted != Checkpointing(every=wanted.every, start=max(0, wanted.every - 1)):
        raise EditRefusedError("torchtune checkpoints the last of every few blocks")
    if reading.workload.adapter is not None or reading.workload.world.sharding == "none":
        raise EditRefusedError("ac_mode counts in full finetuning on several GPUs alone")
    found = put(reading, ("ac_mode",), {0: "none", 1: "full"}.get(wanted.every, "selective"))
    if wanted.every > 1:
        found += put(reading, ("ac_option",), wanted.every, ("ac_mode",))
    return found


def _activation_offload(reading: Reading, after: Workload) -> list[Edit]:
    if reading.workload.task is not Task.TRAIN:
        raise EditRefusedError(_UNTRAINED)
    offload = after.activation_offload
    if offload is reading.workload.activation_offload:
        return []
    if offload is ActivationOffload.SAVE_ON_CPU:
        raise EditRefusedError("torchtune has no key for it")
    if offload is not ActivationOffload.NONE and not after.checkpointing.every:
        raise EditRefusedError("torchtune refuses to offload activations without checkpointing")
    found = put(reading, (settings.OFFLOADING,), offload is not ActivationOffload.NONE, _BESIDE)
    streams = offload is not ActivationOffload.SINGLE_STREAM
    if offload is not ActivationOffload.NONE and (not streams or _written(reading, settings.STREAMS)):
        found += put(reading, (settings.STREAMS,), streams, (settings.OFFLOADING, *_BESIDE))
    return found


def _loss(reading: Reading, after: Workload) -> list[Edit]:
    """The number of pieces, or the component that makes pieces in place of the whole one.

    Raises:
        EditRefusedError: the file does not show that its release has it, or other losses go with this one.
    """
    before, loss = reading.workload.loss, after.loss
    if loss == before:
        return []
    keys = _keys(reading)
    if loss.kind != "chunked" or keys.word("loss._component_") is None:
        raise EditRefusedError(f"of losses those in pieces are written, such as {settings.CHUNKED}")
    if before.kind == "chunked":
        return put(reading, ("loss.num_output_chunks",), loss.chunks)
    value, other = keys.get("loss"), keys.get("kd_loss")
    if keys.word("loss._component_") != settings.WHOLE or other is not None:
        raise EditRefusedError(
            "another loss than cross-entropy stays", location=(other or keys.root).location
        )
    if len(value.entries() if value is not None else ()) != 1:
        raise EditRefusedError("the loss has arguments of its own")
    if not keys.has(settings.OFFLOADING, settings.STREAMS):
        raise EditRefusedError("torchtune before 0.3 has no loss in pieces: write it by hand if yours has")
    found = put(reading, ("loss._component_",), settings.CHUNKED)
    if loss.chunks != settings.PIECES:
        found += put(reading, ("loss.num_output_chunks",), loss.chunks, ("loss._component_",))
    return found


def _optimizer(reading: Reading, after: Workload) -> list[Edit]:
    """Another class, if it takes the arguments that are there, or the same one fused."""
    before, keys = reading.workload.optimizer, _keys(reading)
    if fuses(before, after.optimizer, keys.word("optimizer._component_")):
        return _fused(keys, reading)
    usual = "foreach" if reading.workload.world.sharding == "none" else "for_loop"
    path = optimizer_class(before, after.optimizer, usual)
    if path is None:
        return []
    for name in ("fused", "foreach", "capturable"):
        value = keys.get(f"optimizer.{name}")
        if value is not None:
            raise EditRefusedError(
                f"{name} is an argument of PyTorch's optimizers: remove it", location=value.location
            )
    return put(reading, ("optimizer._component_",), path)


def _fused(keys: Keys, reading: Reading) -> list[Edit]:
    """PyTorch's own argument.

    Raises:
        EditRefusedError: foreach is asked for, or parameters lie on the host, where torchtune refuses it.
    """
    for name in ("optimizer.foreach", "fsdp_cpu_offload"):
        if keys.flag(name):
            raise EditRefusedError(f"fused and {name} exclude each other", location=keys.root.location)
    return put(reading, ("optimizer.fused",), True, ("_component_",))


def _adapter(reading: Reading, after: Workload) -> list[Edit]:
    before, adapter = reading.workload.adapter, after.adapter
    if before is None or adapter is None:
        raise EditRefusedError("adapters are another builder (lora_…) and another recipe (lora_finetune_…)")
    if (adapter.kind, adapter.dtype, adapter.dora) != (before.kind, before.dtype, before.dora):
        raise EditRefusedError("torchtune's adapters have the dtype of the run")
    found: list[Edit] = []
    if adapter.rank != before.rank:
        found += put(reading, ("model.lora_rank",), adapter.rank)
    if adapter.dropout != before.dropout:
        found += put(reading, ("model.lora_dropout",), adapter.dropout, ("lora_alpha", "lora_rank"))
    return found + (_targets(reading, adapter) if adapter.targets != before.targets else [])


def _targets(reading: Reading, adapter: Adapter) -> list[Edit]:
    """The three keys that name layers; order does not matter, and MLPs are adapted whole."""
    asked, mlp = set(adapter.targets), set(MLP)
    if asked & mlp not in (set(), mlp) or not asked <= {*ATTENTION.values(), *mlp, HEAD}:
        raise EditRefusedError(f"torchtune adapts {', '.join(ATTENTION)}, all of an MLP, and the output")
    attention = [name for name, layer in ATTENTION.items() if layer in asked]
    found = _listed(reading, attention)
    for key, wanted in (("apply_lora_to_mlp", mlp <= asked), ("apply_lora_to_output", HEAD in asked)):
        if wanted or _written(reading, f"model.{key}"):
            found += put(reading, (f"model.{key}",), wanted, ("lora_attn_modules",))
    return found


def _listed(reading: Reading, names: list[str]) -> list[Edit]:
    """``lora_attn_modules`` in one line, with the quotes that its names had."""
    value = _keys(reading).get("model.lora_attn_modules")
    node = None if value is None else value.node
    if value is None or not isinstance(node, SequenceNode) or not node.flow or node.fixed is not None:
        return put(reading, ("model.lora_attn_modules",), names)
    first = next((item.text for item in node.items if isinstance(item, ScalarNode)), "")
    quote = first[:1] if first[:1] in ("'", '"') else ""
    before = value.source.text[node.span.start : node.span.end]
    after = f"[{', '.join(f'{quote}{name}{quote}' for name in names)}]"
    return [
        Edit(
            path=value.source.path,
            span=node.span,
            replacement=after,
            line=value.location.line,
            before=before,
            after=after,
        )
    ]


def _written(reading: Reading, name: str) -> bool:
    return _keys(reading).has(name)


def _keys(reading: Reading) -> Keys:
    document = reading.document
    return Keys(root=Value(source=document.source, key="", node=document.root))


_WRITERS: Mapping[str, Writer] = {
    "batch": _batch,
    "evaluation": _evaluation,
    "sequence": _sequence,
    "checkpointing": _checkpointing,
    "activation_offload": _activation_offload,
    "loss": _loss,
    "optimizer": _optimizer,
    "adapter": _adapter,
}
