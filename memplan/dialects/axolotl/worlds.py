"""How axolotl spreads a run over GPUs without DeepSpeed: FSDP."""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Origin
from memplan.documents.tree import SequenceNode
from memplan.domain.workload import World


def world(keys: Keys) -> World:
    """How FSDP shards states; over how many GPUs only dp_shard_size says."""
    sharding = _fsdp(keys) or "none"
    keys.origins.setdefault("world.sharding", Origin(how="default", note="axolotl's default: not sharded"))
    size = keys.whole("dp_shard_size")
    keys.note("world.data_parallel", "dp_shard_size", "counted as one GPU: the file does not say")
    return World(
        data_parallel=size or 1,
        sharding=sharding,
        reshard_after_forward=sharding != "fsdp2" or _reshards(keys),
    )


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
