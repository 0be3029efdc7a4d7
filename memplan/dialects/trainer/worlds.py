"""How the Trainer spreads a run over GPUs without DeepSpeed: FSDP in its newer and older spelling, or DDP.

Source: ``_process_fsdp_args`` and ``_apply_legacy_fsdp_to_config`` in transformers (5.23)
src/transformers/training_args.py; ``fsdp2_prepare_model`` in accelerate src/accelerate/utils/fsdp_utils.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from memplan.dialects.fields import Value
from memplan.dialects.flat import flat
from memplan.dialects.keys import Keys, truth
from memplan.dialects.reading import Origin
from memplan.dialects.trainer.arguments import Arguments
from memplan.documents.tree import MappingNode, SequenceNode
from memplan.domain.workload import World

_OFF = ("", "false", "no", "none")
_NEWER = ("fsdp_version", "fsdp_config.version", "fsdp_config.fsdp_version")
_OFFLOADS = ("cpu_offload", "offload_params")
_RESHARDS = ("reshard_after_forward",)


def world(keys: Keys, arguments: Arguments) -> World:
    """How states are sharded if not by DeepSpeed; over how many GPUs no file of the Trainer says."""
    sharding = _fsdp(keys, arguments) or "none"
    keys.origins.setdefault("world.sharding", Origin(how="default", note=f"{arguments.default}: not sharded"))
    keys.note("world.data_parallel", None, "counted as one GPU: the file does not say")
    bucket = keys.get(*arguments.names("ddp_bucket_cap_mb"))
    found = World(
        sharding=sharding,
        bucket_cap_mb=keys.whole(*arguments.names("ddp_bucket_cap_mb")) if bucket is not None else None,
        reshard_after_forward=not sharding.startswith("fsdp") or _reshards(keys, arguments),
        hybrid=any(word.startswith("hybrid") for word in _words(keys.get(*arguments.names("fsdp")))),
    )
    return flat(found, lambda name: next(_inside(keys, arguments, name), None))


def _fsdp(keys: Keys, arguments: Arguments) -> str | None:
    """FSDP2, or FSDP1 in any of its kinds, if ``fsdp`` is on; ``fsdp_config`` alone does nothing."""
    value = keys.get(*arguments.names("fsdp"))
    words = _words(value)
    if value is None or not set(words) - set(_OFF):
        return None
    keys.origins["world.sharding"] = Origin(location=value.location, how="written")
    for key in _inside(keys, arguments, *_OFFLOADS):
        if truth(key):
            keys.warn(key, "fsdp_config: parameters on the host are not modelled; counted on the GPU")
    if "offload" in words:
        keys.warn(value, "fsdp: offload is not modelled; parameters are counted on the GPU")
    if "no_shard" in words:
        return "none"
    return _version(keys, arguments, words)


def _version(keys: Keys, arguments: Arguments, words: list[str]) -> str:
    """Version 2 unless the file says 1; ``fsdp_`` prefixes and layer classes are older than version 2."""
    version = keys.get(*arguments.names(*_NEWER))
    if version is not None:
        return "fsdp1" if version.written() == "1" else "fsdp2"
    return "fsdp2" if words == ["true"] else "fsdp1"


def _reshards(keys: Keys, arguments: Arguments) -> bool:
    """``reshard_after_forward``, which is true unless said otherwise."""
    value = next(_inside(keys, arguments, *_RESHARDS), None)
    if value is None:
        words = _words(keys.get(*arguments.names("fsdp")))
        return not {"shard_grad_op", "hybrid_shard_zero2"} & set(words)
    keys.origins["world.reshard_after_forward"] = Origin(location=value.location, how="written")
    return truth(value) if value.written().lower() not in ("full_shard", "hybrid_shard") else True


def _inside(keys: Keys, arguments: Arguments, *names: str) -> Iterator[Value]:
    for name in names:
        for prefix in ("", "fsdp_"):
            value = keys.get(*arguments.names(f"fsdp_config.{prefix}{name}"))
            if value is not None:
                yield value


def _words(value: Value | None) -> list[str]:
    if value is None or isinstance(value.node, MappingNode):
        return []
    if isinstance(value.node, SequenceNode):
        return [item.written().lower() for item in value.items()]
    return value.written().lower().split()
