"""Lightning CLI: a Trainer, and a model and data that are Python classes with arguments.

What the Trainer does is in the file; what the model is, only where an argument names a model of the hub or
``--model`` does. Facts come from lightning/pytorch 2.5: trainer/trainer.py, strategies/ and
fabric/connector.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memplan.dialects import assumed, models, table, vocabulary
from memplan.dialects.components import OPTIMIZERS
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Document, FieldChange, Intake, Origin, Reading
from memplan.documents.tree import MappingNode, ScalarNode, SequenceNode
from memplan.domain.architecture import Architecture
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.harm import Harm
from memplan.domain.workload import Batch, Optimizer, Precision, Unmodelled, Workload, World
from memplan.domain.workload import Sequence as Tokens
from memplan.domain.zero import Place, Zero

NAME = "lightning"
_ACCUMULATION = "trainer.accumulate_grad_batches"
_LIMIT = "limit_train_batches"
_FSDP = ("fsdp", "FSDPStrategy", "ModelParallelStrategy")
_REASON = "the loss of each micro-batch is averaged by itself, and the model is code of its own"
_COUNTED = "counts micro-batches, of which an epoch then has more"


def recognises(document: Document) -> int:
    """A ``trainer`` beside a model with its class; surer where the model is named."""
    root = document.root
    model = root.get("model") if isinstance(root, MappingNode) else None
    if not isinstance(root, MappingNode) or not isinstance(model, MappingNode):
        return 0
    if model.item("class_path") is None or root.item("trainer") is None:
        return 0
    return 4 if vocabulary.names_model(model) else 2


def read(document: Document, intake: Intake) -> Reading:
    """The training run of a config whose model is known.

    Raises:
        FieldError: nothing names a model, or a value is wrong or not simulated.
        AmbiguousKeyError: two batch sizes or lengths differ.
    """
    keys = Keys(root=models.required_mapping(Value(source=document.source, key="", node=document.root)))
    architecture = _model(keys, document, intake)
    params, autocast = vocabulary.precision(keys, "trainer.precision")
    workload = Workload(
        model=architecture,
        precision=Precision(params=params, autocast=autocast),
        batch=_batch(keys),
        sequence=_length(keys, architecture),
        optimizer=_optimizer(keys),
        world=_world(keys, intake),
        unmodelled=(_code(keys),),
    )
    if workload.world.sharding.startswith("zero"):
        workload = replace(workload, precision=Precision(params=autocast or params))
    keys.origins["task"] = Origin(how="default", note="Lightning trains")
    limit = keys.get(f"trainer.{_LIMIT}")
    counted = limit is not None and isinstance(limit.node, ScalarNode) and isinstance(limit.node.value, int)
    return keys.reading(
        document,
        NAME,
        workload,
        Harm.BEHAVIOUR if counted else Harm.NUMERIC,
        f"{_LIMIT} {_COUNTED}" if counted else _REASON,
    )


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """Batch sizes, where the file has one for the data; the rest is for the classes it names."""
    return table.edits(reading, changes, {"batch": _write_batch}, "Lightning")


def _model(keys: Keys, document: Document, intake: Intake) -> Architecture:
    named = vocabulary.model(keys, "model")
    if named is not None and intake.given.model is None:
        keys.note("model", named)
        return models.of_name(named, intake, document.path.parent)
    if intake.given.model is not None:
        keys.origins["model"] = Origin(how="written", note=assumed.BY_OPTION)
        return assumed.named(intake.given.model, intake)
    value = keys.get("model.class_path") or keys.root
    raise value.fail(
        f"{value.described()} is a Python class, and nothing here names a model that memplan knows",
        expected="an argument of the model such as model_name: a hub id",
        hint="give --model ID|DIR if it wraps one; else declare its tensors in a memplan.yaml",
    )


def _code(keys: Keys) -> Unmodelled:
    value = keys.get("model.class_path") or keys.root
    return Unmodelled(
        reason=f"{value.source.path}:{value.location.line}: {value.described()} is counted as a loop around "
        "transformers' model, which its own code may not be",
        shrinks=("activations", "logits_and_loss"),
        unbounded=True,
    )


def _batch(keys: Keys) -> Batch:
    value, accumulation = vocabulary.whole(keys, vocabulary.MICRO, "data"), keys.get(_ACCUMULATION)
    keys.note("batch.accumulation", accumulation, "Lightning's default: no accumulation")
    keys.note("batch.micro", value)
    if value is None:
        keys.origins["batch.micro"] = Origin(how="assumed", note="the data name no batch size: one sequence")
        keys.warnings.append(f"{keys.root.source.path}: the data name no batch size; assumed one sequence")
    return Batch(
        micro=1 if value is None else value.whole(),
        accumulation=1 if accumulation is None else accumulation.whole(),
    )


def _length(keys: Keys, architecture: Architecture) -> Tokens:
    """A length that the data or else the model are given."""
    for within in ("data", "model"):
        value = vocabulary.whole(keys, vocabulary.LENGTH, within)
        if value is not None:
            keys.note("sequence.length", value)
            return Tokens(length=value.whole())
    length = min(assumed.LENGTH, architecture.max_position_embeddings)
    keys.origins["sequence.length"] = Origin(how="assumed", note=f"the file names no length: {length}")
    keys.warnings.append(f"{keys.root.source.path}: names no length of sequences; assumed {length}")
    return Tokens(length=length)


def _optimizer(keys: Keys) -> Optimizer:
    """``optimizer`` of the CLI; what a model makes for itself is not in the file."""
    value, limit = keys.get("optimizer.class_path", "optimizer"), keys.get("trainer.gradient_clip_val")
    keys.note("optimizer.clipping", limit, "Lightning's default: gradients are not clipped")
    clipping = limit is not None and limit.number(0, 1e9) > 0
    if value is None or not isinstance(value.node, ScalarNode):
        keys.origins["optimizer.name"] = Origin(how="assumed", note="the model makes it: AdamW")
        return Optimizer(clipping=clipping)
    keys.note("optimizer.name", value)
    name = value.word()
    known = OPTIMIZERS.get(name) or OPTIMIZERS.get(f"torch.optim.{name}")
    if known is None:
        keys.warn(value, f"optimizer {name} is not modelled")
    fused = known in ("adamw", "adam", "sgd") and bool(keys.flag("optimizer.init_args.fused"))
    plain = known in ("adamw", "adam", "sgd")
    implementation = "fused" if fused else "foreach" if plain else "for_loop"
    return Optimizer(
        name=known or name.rpartition(".")[2].lower(), implementation=implementation, clipping=clipping
    )


def _world(keys: Keys, intake: Intake) -> World:
    """``devices`` times ``num_nodes``, and what the strategy shards."""
    value, nodes = keys.get("trainer.devices"), keys.whole("trainer.num_nodes") or 1
    count = _count(value)
    keys.note("world.data_parallel", value if count else None, "counted as one GPU: the file does not say")
    sharding, zero = _strategy(keys)
    return World(data_parallel=intake.given.gpus or (count or 1) * nodes, sharding=sharding, zero=zero)


def _count(value: Value | None) -> int | None:
    """A number of GPUs or a list of them; ``auto`` and -1 are as many as there are."""
    if value is None:
        return None
    if isinstance(value.node, SequenceNode):
        return max(1, len(value.node.items))
    digits = value.written()
    return (
        int(digits) if digits.isascii() and digits.isdigit() and 0 < len(digits) < 6 and int(digits) else None
    )


def _strategy(keys: Keys) -> tuple[str, Zero]:
    """``deepspeed_stage_3_offload`` and the like, or a strategy's class with its ``stage``."""
    value = keys.get("trainer.strategy.class_path", "trainer.strategy")
    keys.note("world.sharding", value, "Lightning's default: not sharded")
    name = value.written().rpartition(".")[2] if value is not None else "auto"
    if name.startswith(_FSDP):
        return "fsdp1" if not name.startswith("ModelParallel") else "fsdp2", Zero()
    if not name.lower().startswith("deepspeed"):
        return "none", Zero()
    stage = keys.get("trainer.strategy.init_args.stage")
    digits = [sign for sign in name if sign in "123"]
    number = stage.whole(1, 3) if stage is not None else int(digits[0]) if digits else 2
    place = Place.CPU if "offload" in name else Place.GPU
    parameters = place if number == 3 else Place.GPU
    return f"zero{number}", Zero(optimizer=place, parameters=parameters)


def _write_batch(reading: Reading, after: Workload) -> list[Edit]:
    """Both keys; where accumulation is not written, it goes to the trainer."""
    keys = Keys(root=Value(source=reading.document.source, key="", node=reading.document.root))
    before, wanted = reading.workload.batch, after.batch
    value = vocabulary.whole(keys, vocabulary.MICRO, "data")
    found: list[Edit] = []
    if wanted.micro != before.micro:
        if value is None:
            raise EditRefusedError("the data are given no batch size")
        found += table.put(reading, (value.key,), wanted.micro)
    if wanted.accumulation != before.accumulation:
        found += table.put(
            reading, (_ACCUMULATION,), wanted.accumulation, ("max_epochs", "precision", "devices")
        )
    return found
