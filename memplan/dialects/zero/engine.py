"""A run under DeepSpeed's engine: what a config changes about it, and where the two disagree."""

from __future__ import annotations

import re
from dataclasses import replace
from os.path import join, normpath
from pathlib import Path

from memplan.dialects.contradiction import contradiction
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Companion, Document, Intake, Origin, Reading
from memplan.dialects.zero import batch
from memplan.dialects.zero.optimizers import optimizer
from memplan.dialects.zero.settings import settings
from memplan.dialects.zero.unmodelled import unmodelled
from memplan.documents import json
from memplan.documents.tree import MappingNode
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FileAccessError
from memplan.domain.finding import Finding
from memplan.domain.workload import Unmodelled, Workload
from memplan.domain.zero import Zero

STAGES = {0: "none", 1: "zero1", 2: "zero2", 3: "zero3"}
HALVES = {"bf16": Dtype.BF16, "fp16": Dtype.FP16}
_STAGE_IN_NAME = re.compile(r"(?:zero|stage|z)[-_]?([0-3])", re.ASCII)
LEFT = "what is left of train_batch_size"
"""The origin of a number of GPUs that a global batch implies."""

_FOLDERS_ABOVE = 6
_REPEATED = frozenset(("batch",))
_HELD = frozenset(("world",))
WITHOUT_ZERO = Unmodelled(
    reason="DeepSpeed without ZeRO: how its optimizer lays out fp32 copies is not simulated",
    grows=("gradients", "gradients"),
)
CHECKPOINTING = (
    "activation_checkpointing counts only in models that call deepspeed.checkpointing; those of transformers "
    "do not"
)


def joined(reading: Reading, value: Value, intake: Intake, folder: Path | None = None) -> Reading:
    """A reading together with the DeepSpeed config it names: a path, or the settings themselves.

    The path is looked for from ``folder``, by default that of the reading's file (see ``opened``).
    Where it is missing the stage is taken from its name, with a warning.

    Raises:
        FieldError, DocumentError: at what is wrong in the config.
    """
    if isinstance(value.node, MappingNode):
        return under(reading, value, intake, value)
    config = opened(value, folder or reading.document.path.parent, intake)
    if config is not None:
        return under(reading, config, intake, value)
    keys = Keys(root=value, origins=dict(reading.origins), warnings=list(reading.warnings))
    run = _by_name(keys, value, reading.workload)
    return replace(reading, workload=run, origins=keys.origins, warnings=tuple(keys.warnings))


def under(reading: Reading, config: Value, intake: Intake, named: Value | None = None) -> Reading:
    """A reading together with a DeepSpeed config, which becomes its companion.

    ``named`` is the place that asks for it. Where the two disagree there are findings.
    """
    keys = Keys(root=config, origins=dict(reading.origins), warnings=list(reading.warnings), lenient=True)
    gpus = known_gpus(reading, intake)
    found = [
        *_two_shardings(reading, named or config),
        *_precisions(keys, reading),
        *batch.contradictions(keys, reading, gpus),
    ]
    document = Document(path=Path(config.source.path), source=config.source, root=config.node)
    beside = Companion(dialect="deepspeed", document=document, holds=_HELD, repeats=_REPEATED)
    return replace(
        reading,
        workload=engine(keys, reading.workload, gpus),
        origins=keys.origins,
        warnings=tuple(keys.warnings),
        findings=(*reading.findings, *found),
        companions=(*reading.companions, beside),
    )


def engine(keys: Keys, workload: Workload, gpus: int | None) -> Workload:
    """The workload under DeepSpeed as its config says: sharding, one dtype, its own optimizer."""
    model = workload.model
    stage, zero = sharding(keys, model.hidden_size if isinstance(model, Architecture) else 0)
    workload = replace(workload, world=replace(workload.world, sharding=stage, zero=zero))
    total = batch.implied_gpus(batch.written(keys), workload.batch)
    if gpus is None and total is not None:
        keys.note("world.data_parallel", keys.get(batch.TOTAL), how=LEFT)
        workload = workload.changed("world.data_parallel", total)
    if (own := optimizer(keys, workload)) is not None:
        workload = replace(workload, optimizer=own)
    if (value := keys.get("activation_checkpointing")) is not None:
        keys.warn(value, CHECKPOINTING)
    workload = one_dtype(keys, workload)
    workload = replace(workload, unmodelled=(*workload.unmodelled, *unmodelled(keys)))
    if stage != "none" or not workload.precision.params.is_half:
        return workload
    precision = replace(workload.precision, master=Dtype.FP32)
    return replace(workload, precision=precision, unmodelled=(*workload.unmodelled, WITHOUT_ZERO))


def sharding(keys: Keys, width: int) -> tuple[str, Zero]:
    """What ``zero_optimization`` says for a model of a width; stage 0, the default, shards nothing."""
    zero, value = keys.get("zero_optimization"), keys.get("zero_optimization.stage")
    keys.note("world.sharding", value or zero or keys.root)
    if zero is None or value is None:
        return "none", Zero()
    return STAGES[value.whole(0, 3)], settings(keys, zero, width)


def one_dtype(keys: Keys, workload: Workload) -> Workload:
    """A run under DeepSpeed's engine: the whole model and its adapters in one dtype, without autocast.

    Source: ``native_amp`` in accelerate src/accelerate/accelerator.py, which DeepSpeed is excepted from.
    """
    dtype = workload.precision.autocast or workload.precision.params
    before = keys.origins.get("precision.autocast")
    keys.origins["precision.autocast"] = Origin(
        location=before.location if before is not None else None,
        how="default",
        note="DeepSpeed keeps the whole model in one dtype, without autocast",
    )
    precision = replace(workload.precision, params=dtype, autocast=None)
    adapter = replace(workload.adapter, dtype=dtype) if workload.adapter is not None else None
    half = workload.precision.autocast
    adapting = workload.adapting
    adapting = adapting.cast(lambda weights: half or weights) if adapting is not None else None
    return replace(workload, precision=precision, adapter=adapter, adapting=adapting)


def both_zero(before: str, after: str) -> bool:
    """Whether both shardings are stages of ZeRO."""
    return before.startswith("zero") and after.startswith("zero")


def stage_of(sharding: str) -> int:
    """The number of a stage."""
    return next(number for number, name in STAGES.items() if name == sharding)


def half(keys: Keys) -> Dtype | None:
    """The 16-bit dtype that is switched on; ``auto`` and off are None."""
    for name, dtype in HALVES.items():
        value = keys.get(f"{name}.enabled")
        if value is not None and value.written() != "auto" and keys.flag(f"{name}.enabled"):
            return dtype
    return None


def known_gpus(reading: Reading, intake: Intake) -> int | None:
    """The number of GPUs if the command line or a file says it."""
    origin = reading.origins.get("world.data_parallel")
    written = origin is not None and origin.how == "written"
    return intake.given.gpus or (reading.workload.world.data_parallel if written else None)


def opened(value: Value, folder: Path, intake: Intake) -> Value | None:
    """The JSON that a path names; None if it is not there.

    It is looked for beside the config, from where one stands, and from the folders above the config: training
    frameworks name it from the root of their own repository.
    """
    name = value.word()
    ups = range(1, _FOLDERS_ABOVE + 1)
    above = [Path(normpath(join(folder, *([".."] * count), name))) for count in ups]
    for path in (folder / name, Path(name), *above):
        try:
            source = intake.open(path)
        except FileAccessError:
            continue
        return Value(source=source, key="", node=json.parse(source))
    return None


def _by_name(keys: Keys, value: Value, workload: Workload) -> Workload:
    """The stage that the name of a missing file says."""
    match = _STAGE_IN_NAME.search(value.word())
    if match is None:
        keys.warn(value, f"{value.word()} is not here to be read; sharding is not counted")
        return workload
    note = f"{value.word()} is not here to be read; its name says stage {match[1]}"
    keys.warn(value, note)
    keys.origins["world.sharding"] = Origin(location=value.location, how="assumed", note=note)
    stage = STAGES[int(match[1])]
    return one_dtype(keys, replace(workload, world=replace(workload.world, sharding=stage)))


def _two_shardings(reading: Reading, value: Value) -> list[Finding]:
    """DeepSpeed and FSDP both: accelerate takes DeepSpeed (``AcceleratorState`` in accelerate state.py)."""
    stage, origin = reading.workload.world.sharding, reading.origins.get("world.sharding")
    if not stage.startswith("fsdp") or origin is None:
        return []
    return [contradiction(value.location, "DeepSpeed is set", origin.location, "FSDP", "DeepSpeed counts")]


def _precisions(keys: Keys, reading: Reading) -> list[Finding]:
    """16 bits that are on here and not there, or off here and on there: the Trainer refuses to start.

    Source: ``trainer_config_process`` in transformers src/transformers/integrations/deepspeed.py.
    """
    trained, origin = reading.workload.precision.params, reading.origins.get("precision.autocast")
    place = origin.location if origin is not None else None
    found = []
    for name, dtype in HALVES.items():
        value = keys.get(f"{name}.enabled")
        if value is None or value.written() == "auto":
            continue
        on = bool(keys.flag(f"{name}.enabled"))
        if on is (trained is dtype) or (not on and place is None):
            continue
        found.append(
            contradiction(
                value.location,
                f"{name} is {'on' if on else 'off'}",
                place,
                f"the run trains in {trained}",
                "the Trainer refuses to start",
                refused=True,
                fix=f'write "{name}": {{"enabled": "auto"}}',
            )
        )
    return found
