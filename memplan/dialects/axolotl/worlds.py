"""How axolotl spreads a run over GPUs: DeepSpeed and FSDP."""

from __future__ import annotations

import re
from pathlib import Path

from memplan.dialects.axolotl.deepspeed import settings
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Intake, Origin
from memplan.documents import json
from memplan.documents.tree import MappingNode, SequenceNode
from memplan.domain.errors import FileAccessError
from memplan.domain.workload import World
from memplan.domain.zero import Zero

_STAGES = {0: "none", 1: "zero1", 2: "zero2", 3: "zero3"}
_STAGE_IN_NAME = re.compile(r"zero([123])", re.ASCII)


def world(keys: Keys, folder: Path, intake: Intake, width: int) -> World:
    """How states of a model of a width are sharded; over how many GPUs only dp_shard_size says."""
    stage, zero = _deepspeed(keys, folder, intake, width)
    sharding = stage or _fsdp(keys) or "none"
    keys.origins.setdefault("world.sharding", Origin(how="default", note="axolotl's default: not sharded"))
    size = keys.whole("dp_shard_size")
    keys.note("world.data_parallel", "dp_shard_size", "counted as one GPU: the file does not say")
    return World(
        data_parallel=size or 1,
        sharding=sharding,
        zero=zero,
        reshard_after_forward=sharding != "fsdp2" or _reshards(keys),
    )


def _deepspeed(keys: Keys, folder: Path, intake: Intake, width: int) -> tuple[str | None, Zero]:
    value = keys.get("deepspeed")
    if value is None:
        return None, Zero()
    config = value if isinstance(value.node, MappingNode) else _file(value, folder, intake)
    if config is None:
        return _stage_in_name(keys, value), Zero()
    zero = config.entries().get("zero_optimization")
    stage = zero.entries().get("stage") if zero is not None else None
    keys.origins["world.sharding"] = Origin(location=(stage or config).location, how="written")
    if zero is None or stage is None:
        return "none", Zero()
    return _STAGES[stage.whole(0, 3)], settings(keys, config, zero, width)


def _file(value: Value, folder: Path, intake: Intake) -> Value | None:
    name = value.word()
    for path in (folder / name, Path(name)):
        try:
            source = intake.open(path)
        except FileAccessError:
            continue
        return Value(source=source, key="deepspeed", node=json.parse(source))
    return None


def _stage_in_name(keys: Keys, value: Value) -> str | None:
    match = _STAGE_IN_NAME.search(value.word())
    place = f"{value.source.path}:{value.location.line}"
    if match is None:
        keys.warnings.append(f"{place}: {value.word()} is not here to be read; sharding is not counted")
        return None
    note = f"{value.word()} is not here to be read; its name says stage {match[1]}"
    keys.warnings.append(f"{place}: {note}")
    keys.origins["world.sharding"] = Origin(location=value.location, how="assumed", note=note)
    return _STAGES[int(match[1])]


def _fsdp(keys: Keys) -> str | None:
    """FSDP2, or FSDP1 in any of its kinds."""
    strategies, config = keys.get("fsdp"), keys.get("fsdp_config")
    found = strategies or config
    if found is None:
        return None
    keys.origins["world.sharding"] = Origin(location=found.location, how="written")
    inner = config.entries() if config is not None else {}
    if any(
        name in inner and inner[name].written() == "true"
        for name in ("offload_params", "fsdp_offload_params")
    ):
        keys.warnings.append("fsdp_config: offload_params is not modelled; parameters are counted on the GPU")
    names = _words(strategies)
    given = inner.get("sharding_strategy", inner.get("fsdp_sharding_strategy"))
    names.append(given.written().lower() if given is not None else "")
    if "no_shard" in names:
        return "none"
    return "fsdp2" if keys.whole("fsdp_version") == 2 or (inner and "fsdp_version" in inner) else "fsdp1"


def _reshards(keys: Keys) -> bool:
    """``fsdp_config: reshard_after_forward``, which is true unless said otherwise."""
    config = keys.get("fsdp_config")
    inner = config.entries() if config is not None else {}
    names = ("reshard_after_forward", "fsdp_reshard_after_forward")
    value = next((inner[name] for name in names if name in inner), None)
    if value is None:
        return True
    keys.origins["world.reshard_after_forward"] = Origin(location=value.location, how="written")
    return value.flag()


def _words(value: Value | None) -> list[str]:
    if value is None:
        return []
    if isinstance(value.node, SequenceNode):
        return [item.written().lower() for item in value.items()]
    return value.written().lower().split()
