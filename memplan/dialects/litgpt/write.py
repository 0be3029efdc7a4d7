"""Changed values as edits of a litgpt file, or advice where it has no key for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from memplan.dialects import table
from memplan.dialects.components import fuses, optimizer_class
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.litgpt import settings
from memplan.dialects.reading import FieldChange, Reading
from memplan.dialects.table import Writer, put
from memplan.documents.tree import ScalarNode
from memplan.domain.architecture import Architecture
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Adapter, Workload


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """The changes as edits; every key is one that litgpt has had since 0.4."""
    return table.edits(reading, changes, _WRITERS, "litgpt")


def _batch(reading: Reading, after: Workload) -> list[Edit]:
    """The micro-batch alone: accumulation follows from the global batch, which stays."""
    before, asked = reading.workload.batch, after.batch
    if asked == before:
        return []
    keys = Keys(root=Value(source=reading.document.source, key="", node=reading.document.root))
    what = settings.command(keys)
    size = settings.devices(keys, reading.given.gpus)
    total = keys.get(settings.GLOBAL)
    share = (settings.SIZES[what][0] if total is None else total.whole()) // size
    if share // asked.micro != asked.accumulation:
        raise EditRefusedError(
            f"accumulation follows from {settings.GLOBAL}, of which a GPU's share is {share}",
            location=None if total is None else total.location,
        )
    return put(reading, (settings.MICRO,), asked.micro, ("global_batch_size",))


def _sequence(reading: Reading, after: Workload) -> list[Edit]:
    if after.sequence == reading.workload.sequence:
        return []
    return put(reading, (settings.LENGTH,), after.sequence.length, ("micro_batch_size", "global_batch_size"))


def _optimizer(reading: Reading, after: Workload) -> list[Edit]:
    """Another class, by its path or its name, or the same one fused."""
    keys = Keys(root=Value(source=reading.document.source, key="", node=reading.document.root))
    before, quantized = reading.workload.optimizer, reading.workload.quantization is not None
    named = keys.get("optimizer.class_path", "optimizer")
    path = named.word() if named is not None and isinstance(named.node, ScalarNode) else None
    if not quantized and fuses(before, after.optimizer, path):
        return put(reading, ("optimizer.init_args.fused",), True)
    usual = "fused" if settings.command(keys) is settings.Command.PRETRAIN else "foreach"
    path = optimizer_class(before, after.optimizer, usual)
    if path is None:
        return []
    if quantized:
        raise EditRefusedError("a quantized model has bitsandbytes' paged AdamW whatever the file names")
    for name in ("fused", "foreach"):
        value = keys.get(f"optimizer.init_args.{name}")
        if value is not None:
            raise EditRefusedError(
                f"{name} is an argument of PyTorch's optimizers: remove it", location=value.location
            )
    return put(reading, ("optimizer.class_path", "optimizer"), path)


def _adapter(reading: Reading, after: Workload) -> list[Edit]:
    before, adapter = reading.workload.adapter, after.adapter
    if before is None or adapter is None:
        raise EditRefusedError("adapters are another command: litgpt finetune_lora")
    if (adapter.kind, adapter.dtype, adapter.dora) != (before.kind, before.dtype, before.dora):
        raise EditRefusedError("litgpt's adapters have the dtype of the parameters")
    return [
        *table.writer(settings.RANK, settings.DROPOUT, beside=("lora_alpha", "lora_r"))(reading, after),
        *(_targets(reading, adapter) if adapter.targets != before.targets else ()),
    ]


def _targets(reading: Reading, adapter: Adapter) -> list[Edit]:
    """The switches that have to turn for just these layers to be adapted."""
    model = reading.workload.model
    assert isinstance(model, Architecture)
    keys = Keys(root=Value(source=reading.document.source, key="", node=reading.document.root))
    layers = {switch: settings.layers(switch, model.linears) for switch in settings.SWITCHES}
    wanted = {switch for switch, names in layers.items() if set(names) <= set(adapter.targets)}
    if {name for switch in wanted for name in layers[switch]} != set(adapter.targets):
        raise EditRefusedError(f"litgpt adapts {', '.join(settings.SWITCHES)}, each as a whole")
    turned = [switch for switch in layers if settings.on(keys, switch) is not (switch in wanted)]
    return [
        edit
        for switch in turned
        for edit in put(reading, (switch,), switch in wanted, ("lora_dropout", "lora_alpha", "lora_r"))
    ]


def _host(reading: Reading, after: Workload) -> list[Edit]:
    """The workers of the data module, where the file says how many: not every module takes them."""
    keys = Keys(root=Value(source=reading.document.source, key="", node=reading.document.root))
    before, wanted = reading.workload.host, after.host
    if replace(before, workers=wanted.workers) != wanted:
        raise EditRefusedError("of the host only DataLoader workers are written")
    if wanted.workers == before.workers:
        return []
    if keys.get(*settings.WORKERS) is None:
        raise EditRefusedError("not every data module takes num_workers")
    return put(reading, settings.WORKERS, wanted.workers)


_WRITERS: Mapping[str, Writer] = {
    "batch": _batch,
    "host": _host,
    "sequence": _sequence,
    "optimizer": _optimizer,
    "adapter": _adapter,
}
