"""How axolotl spreads a run over GPUs without DeepSpeed: FSDP."""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.flat import flat
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
    found = World(
        data_parallel=size or 1,
        sharding=sharding,
        reshard_after_forward=not sharding.startswith("fsdp") or _reshards(keys, sharding),
    )
    inner = _inner(keys)
    return flat(found, lambda name: inner.get(f"fsdp_{name}") or inner.get(name))


def _fsdp(keys: Keys) -> str | None:
    """FSDP2, or FSDP1 in any of its kinds."""
    found = keys.get("fsdp") or keys.get("fsdp_config")
    if found is None:
        return None
    keys.origins["world.sharding"] = Origin(location=found.location, how="written")
    inner = _inner(keys)
    if any(
        name in inner and inner[name].written() == "true"
        for name in ("offload_params", "fsdp_offload_params")
    ):
        keys.warnings.append("fsdp_config: offload_params is not modelled; parameters are counted on the GPU")
    if "no_shard" in _strategies(keys):
        return "none"
    return "fsdp2" if keys.whole("fsdp_version") == 2 or (inner and "fsdp_version" in inner) else "fsdp1"


def _inner(keys: Keys) -> dict[str, Value]:
    config = keys.get("fsdp_config")
    return config.entries() if config is not None else {}


def _strategies(keys: Keys) -> list[str]:
    inner = _inner(keys)
    given = inner.get("sharding_strategy", inner.get("fsdp_sharding_strategy"))
    return [*_words(keys.get("fsdp")), given.written().lower() if given is not None else ""]


def _reshards(keys: Keys, sharding: str) -> bool:
    """``fsdp_config: reshard_after_forward``, which is true unless said otherwise; FSDP1's strategy."""
    if sharding == "fsdp1":
        return "shard_grad_op" not in _strategies(keys)
    inner = _inner(keys)
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
