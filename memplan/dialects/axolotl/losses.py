"""The loss of an axolotl file, and Liger's kernels: both need their plugin as well as their flag.

Source: axolotl src/axolotl/integrations/liger/plugin.py (``pre_model_load``) and args.py beside it.
"""

from __future__ import annotations

from memplan.dialects.keys import Keys
from memplan.domain import liger
from memplan.domain.architecture import Architecture
from memplan.domain.kernels import GLU, RMS_NORM, ROPE, Kernels
from memplan.domain.workload import Loss

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
