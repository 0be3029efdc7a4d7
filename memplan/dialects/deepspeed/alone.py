"""A DeepSpeed config by itself: a run of a model that the command line names."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects import assumed, models
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Document, Intake, Origin, Reading
from memplan.dialects.zero import batch
from memplan.dialects.zero.engine import HALVES, engine, half
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Batch, Workload


def read(document: Document, intake: Intake) -> Reading:
    """Full training of the model given, as the config says; what it leaves open is assumed, and said so.

    Raises:
        FieldError: no model is given, DeepSpeed would refuse the batch sizes, or a value is wrong.
    """
    root = models.required_mapping(Value(source=document.source, key="", node=document.root))
    architecture = assumed.model(document, intake)
    keys = Keys(root=root, lenient=True)
    run = assumed.workload(architecture, _dtype(keys, architecture))
    keys.origins |= assumed.origins(run)
    keys.origins["model"] = Origin(how="written", note=assumed.BY_OPTION)
    origin = keys.origins.get("precision.params")
    gpus = intake.given.gpus
    run = replace(run, batch=_batch(keys, gpus))
    run = run.changed("world.data_parallel", gpus or 1)
    run = engine(keys, _clipped(keys, run), gpus)
    if origin is not None:
        keys.origins["precision.params"] = origin
    keys.warnings.append(
        f"{document.source.path} describes no whole run: assumed full training, "
        f"{run.sequence.length} tokens, no checkpointing; change it with --set"
    )
    return keys.reading(document, "deepspeed", run)


def _dtype(keys: Keys, architecture: Architecture) -> Dtype:
    """16 bits where they are on; ``auto`` is for a Trainer to say, and taken for the weights' own dtype."""
    path = "precision.params"
    on = half(keys)
    for name in HALVES:
        value = keys.get(f"{name}.enabled")
        if value is None:
            continue
        if on is HALVES[name]:
            keys.note(path, value)
            return on
        if on is None and value.written() == "auto":
            found = assumed.dtype_of(architecture.config) or Dtype.BF16
            keys.origins[path] = Origin(
                location=value.location, how="assumed", note=f"auto, which the Trainer fills: {found}"
            )
            keys.warn(value, f"{name} is auto, which the training config decides; assumed {found}")
            return found
    keys.note(path, None, "DeepSpeed's default: neither bf16 nor fp16")
    return Dtype.FP32


def _batch(keys: Keys, gpus: int | None) -> Batch:
    """The batch as DeepSpeed works it out; ``auto`` sizes are assumed to be 1."""
    sizes = batch.written(keys)
    count = gpus or 1
    if not sizes or set(sizes) == {batch.ACCUMULATION}:
        return _left_open(keys, sizes)
    found = batch.derived(sizes, count)
    place = next(value for name in batch.SIZES if (value := keys.get(name)) is not None)
    if found is None:
        raise place.fail(
            f"{place.described()} leaves nothing for each of {count} GPUs",
            expected="train_batch_size = micro-batch x accumulation x GPUs",
            hint="give --gpus N",
        )
    for field, name in (("batch.micro", batch.MICRO), ("batch.accumulation", batch.ACCUMULATION)):
        value = keys.get(name) if name in sizes else None
        keys.note(field, value or place, how=None if value else f"worked out from {place.key}, {count} GPUs")
    total, product = sizes.get(batch.TOTAL), found.micro * found.accumulation
    if total is not None and len(sizes) == 3 and total != product * (gpus or total // product or 1):
        raise place.fail(
            f"{total} is not {found.micro} x {found.accumulation} x {gpus or 'GPUs'}",
            expected="micro-batch x accumulation x GPUs",
        )
    return found


def _left_open(keys: Keys, sizes: dict[str, int]) -> Batch:
    """Batch sizes that a training config decides: of one sequence, where nobody says."""
    value = next((found for name in batch.SIZES if (found := keys.get(name)) is not None), None)
    accumulation = sizes.get(batch.ACCUMULATION, 1)
    if accumulation > 1:
        keys.note("batch.accumulation", keys.get(batch.ACCUMULATION))
    if value is not None:
        keys.warn(value, "batch sizes are auto, which the training config decides; assumed 1 a GPU")
    return Batch(micro=1, accumulation=accumulation)


def _clipped(keys: Keys, run: Workload) -> Workload:
    """Gradients are clipped at 1.0 unless ``gradient_clipping`` is 0 (``GRADIENT_CLIPPING_DEFAULT``)."""
    value = keys.get("gradient_clipping")
    keys.note("optimizer.clipping", value, "DeepSpeed's default: clipped at 1.0")
    off = value is not None and value.written() != "auto" and value.number(0, 1e12) == 0
    return run.changed("optimizer.clipping", not off)
