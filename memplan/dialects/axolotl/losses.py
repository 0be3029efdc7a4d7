"""The loss of an axolotl file, and Liger's kernels: both need their plugin as well as their flag.

Source: axolotl src/axolotl/integrations/liger/plugin.py (``pre_model_load``) and args.py beside it.
"""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Reading
from memplan.dialects.table import put
from memplan.documents.tree import SequenceNode
from memplan.domain import liger
from memplan.domain.architecture import Architecture
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.kernels import GLU, RMS_NORM, ROPE, Kernels
from memplan.domain.workload import Loss, Workload

CHUNKS = 8
"""``chunked_cross_entropy_num_chunks`` when the file does not say."""

_LIGER = "axolotl.integrations.liger"
_CCE = "axolotl.integrations.cut_cross_entropy"
_FLAGS = {
    "liger_rms_norm": RMS_NORM,
    "liger_glu_activation": GLU,
    "liger_swiglu": GLU,
    "liger_rope": ROPE,
}
_WRITTEN = {RMS_NORM: "liger_rms_norm", GLU: "liger_glu_activation", ROPE: "liger_rope"}
_LOSSES = {"fused_linear": "liger_fused_linear_cross_entropy", "liger_cross_entropy": "liger_cross_entropy"}
_CHUNKED = "chunked_cross_entropy"
_PLUGIN = f"{_LIGER}.LigerPlugin"
_BESIDE = ("plugins", "base_model")
_HOSTILE = ("rl", "tiled_mlp", "tensor_parallel_size", "unsloth_cross_entropy_loss", "reward_model")
"""Keys of runs whose loss is another, or which Liger's plugin refuses to go with (``LigerArgs``)."""


def loss(keys: Keys, model: Architecture) -> Loss:
    """The loss whose flag is on and whose plugin is there; a flag alone is warned about."""
    keys.note("loss", None, "full logits and cross entropy")
    plugged = _plugged(keys, _LIGER)
    for key, found in (
        ("liger_fused_linear_cross_entropy", Loss(kind="fused_linear")),
        ("liger_cross_entropy", liger.in_place(model.model_type)),
    ):
        if keys.flag(key) and plugged:
            keys.note("loss", key, "")
            return found
        if keys.flag(key):
            keys.warnings.append(f"{key} has no effect without plugins: [{_LIGER}.LigerPlugin]")
    if _plugged(keys, _CCE) and keys.flag("cut_cross_entropy") is not False:
        keys.note("loss", "plugins", "")
        return Loss(kind="cut_cross_entropy")
    if keys.flag("chunked_cross_entropy"):
        keys.note("loss", "chunked_cross_entropy", "")
        return Loss(kind="chunked", chunks=keys.whole("chunked_cross_entropy_num_chunks") or CHUNKS)
    return Loss()


def kernels(keys: Keys) -> Kernels:
    """Liger's kernels within blocks."""
    written = [key for key in _FLAGS if keys.flag(key)]
    keys.note("kernels.liger", written[0] if written else None, "the model's own ops")
    if written and not _plugged(keys, _LIGER):
        keys.warnings.append(f"{written[0]} has no effect without plugins: [{_LIGER}.LigerPlugin]")
        return Kernels()
    return Kernels(liger=tuple(dict.fromkeys(_FLAGS[key] for key in written)))


def _plugged(keys: Keys, name: str) -> bool:
    plugins = keys.get("plugins")
    return plugins is not None and any(item.word().startswith(name) for item in plugins.items())


def write(reading: Reading, after: Workload) -> list[Edit]:
    """Edits for another loss: of Liger's the flag and the plugin, of chunks the flag where it is written.

    Raises:
        EditRefusedError: the loss that is there has a plugin of its own, or the run is not for Liger's.
    """
    before, wanted = reading.workload.loss, after.loss
    if wanted == before:
        return []
    keys = _keys(reading)
    if before.kind not in ("cross_entropy", "chunked", *_LOSSES):
        raise EditRefusedError("the plugin of the present loss comes before: remove it")
    if wanted.kind == "chunked":
        return _chunks(keys, reading, wanted)
    if wanted.kind not in _LOSSES:
        raise EditRefusedError("of losses Liger's and chunks are written")
    _refuse_hostile(keys)
    off = [_CHUNKED] if before.kind == "chunked" else []
    off += [_LOSSES[before.kind]] if before.kind in _LOSSES else []
    return [
        *_plugin(keys, reading),
        *put(reading, (_LOSSES[wanted.kind],), True, _BESIDE),
        *(edit for name in off for edit in put(reading, (name,), False)),
    ]


def along(reading: Reading, after: Workload) -> list[Edit]:
    """Edits of the flags of Liger's kernels, with the plugin unless another loss brings it.

    Raises:
        EditRefusedError: kernels are to go, or adapters are trained, for which axolotl has its own.
    """
    before, wanted = reading.workload.kernels.liger, after.kernels.liger
    if wanted == before:
        return []
    keys = _keys(reading)
    _refuse_hostile(keys)
    if not set(before) <= set(wanted) or after.adapter is not None:
        raise EditRefusedError("of Liger's kernels more are written, and none beside adapters")
    new = [name for name in wanted if name not in before]
    return [
        *(_plugin(keys, reading) if after.loss == reading.workload.loss else ()),
        *(edit for name in new for edit in put(reading, (_WRITTEN[name],), True, _BESIDE)),
    ]


def _chunks(keys: Keys, reading: Reading, wanted: Loss) -> list[Edit]:
    """Only where the key is written already: the file does not say whether its release has it."""
    if reading.workload.loss != Loss() or not keys.has(_CHUNKED):
        raise EditRefusedError(f"{_CHUNKED} is not written, and older releases do not know it")
    found = put(reading, (_CHUNKED,), True)
    if wanted.chunks != (keys.whole(f"{_CHUNKED}_num_chunks") or CHUNKS):
        found += put(reading, (f"{_CHUNKED}_num_chunks",), wanted.chunks, (_CHUNKED,))
    return found


def _plugin(keys: Keys, reading: Reading) -> list[Edit]:
    """Liger's plugin among the others, unless it is there."""
    if _plugged(keys, _LIGER):
        return []
    value = keys.get("plugins")
    if value is None:
        return put(reading, ("plugins",), [_PLUGIN], _BESIDE)
    if not isinstance(value.node, SequenceNode):
        raise EditRefusedError("plugins is no list", location=value.location)
    from memplan.documents import sequences

    return [sequences.append(value.source, value.node, _PLUGIN)]


def _refuse_hostile(keys: Keys) -> None:
    for name in _HOSTILE:
        value = keys.get(name)
        if value is not None and value.written().lower() not in ("false", "1"):
            raise EditRefusedError(f"{name} does not go with Liger's kernels", location=value.location)


def _keys(reading: Reading) -> Keys:
    document = reading.document
    return Keys(root=Value(source=document.source, key="", node=document.root), lenient=True)
