"""How axolotl spreads a run over GPUs: DeepSpeed and FSDP."""

from __future__ import annotations

import re
from pathlib import Path

from memplan.dialects.axolotl.keys import Keys
from memplan.dialects.fields import Value
from memplan.dialects.reading import Intake, Origin
from memplan.documents import json
from memplan.documents.tree import MappingNode, SequenceNode
from memplan.domain.errors import FileAccessError
from memplan.domain.workload import World

_STAGES = {0: "none", 1: "zero1", 2: "zero2", 3: "zero3"}
_STAGE_IN_NAME = re.compile(r"zero([123])", re.ASCII)


def world(keys: Keys, folder: Path, intake: Intake) -> World:
    """How states are sharded. The file does not say over how many GPUs, unless by dp_shard_size."""
    sharding = _deepspeed(keys, folder, intake) or _fsdp(keys) or "none"
    keys.origins.setdefault("world.sharding", Origin(how="default", note="axolotl's default: not sharded"))
    size = keys.whole("dp_shard_size")
    keys.note("world.data_parallel", "dp_shard_size", "counted as one GPU: the file does not say")
    return World(data_parallel=size or 1, sharding=sharding)


def _deepspeed(keys: Keys, folder: Path, intake: Intake) -> str | None:
    value = keys.get("deepspeed")
    if value is None:
        return None
    config = value if isinstance(value.node, MappingNode) else _file(value, folder, intake)
    if config is None:
        return _stage_in_name(keys, value)
    zero = config.entries().get("zero_optimization")
    stage = zero.entries().get("stage") if zero is not None else None
    keys.origins["world.sharding"] = Origin(location=(stage or config).location, how="written")
    if zero is not None and any(name.startswith("offload_") for name in zero.entries()):
        keys.warnings.append(
            f"{config.source.path}: offloading to the host is not modelled; counted on the GPU"
        )
    return _STAGES[stage.whole(0, 3)] if stage is not None else "none"


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
    """FSDP2 and FSDP1's full_shard shard like zero3, shard_grad_op like zero2."""
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
    if "shard_grad_op" in names:
        return "zero2"
    return "fsdp2" if keys.whole("fsdp_version") == 2 or (inner and "fsdp_version" in inner) else "zero3"


def _words(value: Value | None) -> list[str]:
    if value is None:
        return []
    if isinstance(value.node, SequenceNode):
        return [item.written().lower() for item in value.items()]
    return value.written().lower().split()
