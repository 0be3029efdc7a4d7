"""Losses and ops of blocks: Liger's kernels, which the Trainer patches in."""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Reading
from memplan.dialects.table import put
from memplan.dialects.trainer.arguments import Arguments
from memplan.domain import liger
from memplan.domain.architecture import Architecture
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.kernels import GLU, LIGER, RMS_NORM, ROPE, Kernels
from memplan.domain.workload import Loss, Workload

FUSED = Loss(kind="fused_linear")
TOGETHER = "the switch stands for Liger's loss and its kernels together"
_PARTS = {RMS_NORM: ("rms_norm",), GLU: ("swiglu", "geglu"), ROPE: ("rope",)}
_NAMES = tuple(name for names in _PARTS.values() for name in names)


def kernels(keys: Keys, arguments: Arguments, model: Architecture) -> tuple[Loss, Kernels]:
    """``use_liger_kernel`` brings the model type's loss and kernels, but what ``liger_kernel_config`` leaves.

    Source: ``apply_liger_kernel`` in transformers src/transformers/integrations/liger.py.
    """
    value = keys.get(*arguments.liger)
    keys.note("loss", value, "full logits and cross entropy")
    keys.note("kernels.liger", value, "the model's own ops")
    if value is None or not keys.flag(*arguments.liger):
        return Loss(), Kernels()
    if not liger.patched(model.model_type):
        keys.warn(value, f"{value.key}: Liger has no kernels for {model.model_type}, so it changes nothing")
        return Loss(), Kernels()
    (config,) = arguments.names("liger_kernel_config")
    off = {name for name in _NAMES if keys.flag(f"{config}.{name}") is False}
    on = tuple(kernel for kernel, names in _PARTS.items() if not off.intersection(names))
    return _loss(keys, config, model), Kernels(liger=on)


def _loss(keys: Keys, config: str, model: Architecture) -> Loss:
    """The default of the model type unless ``liger_kernel_config`` chooses."""
    if keys.flag(f"{config}.cross_entropy"):
        return liger.in_place(model.model_type)
    default = liger.loss(model.model_type)
    if keys.flag(f"{config}.{'fused_linear_' if default == FUSED else ''}cross_entropy") is False:
        return Loss()
    return default


def write(arguments: Arguments, reading: Reading, after: Workload) -> list[Edit]:
    """Edits that switch Liger's kernels on or off, with its loss.

    Raises:
        EditRefusedError: the switch stands for nothing like that.
    """
    before = reading.workload
    assert isinstance(before.model, Architecture)
    if after.loss != before.loss:
        _refuse_smoothed(arguments, reading)
    states = {
        (Loss(), Kernels()): False,
        (liger.loss(before.model.model_type), Kernels(liger=LIGER)): True,
    }
    found = [states.get((run.loss, run.kernels)) for run in (before, after)]
    if found[0] is None or found[1] is None or not liger.patched(before.model.model_type):
        raise EditRefusedError(f"{arguments.framework} has no key for it that memplan writes: {TOGETHER}")
    if found[0] == found[1]:
        return []
    return put(reading, arguments.liger, found[1], beside=arguments.accumulation)


def along(arguments: Arguments, reading: Reading, after: Workload) -> list[Edit]:
    """No edits of their own: the kernels go with the loss.

    Raises:
        EditRefusedError: they do not.
    """
    write(arguments, reading, after)
    return []


def _refuse_smoothed(arguments: Arguments, reading: Reading) -> None:
    """A smoothed loss is the Trainer's own, made of logits that Liger's loss does not return.

    Raises:
        EditRefusedError: labels are smoothed.
    """
    root = Value(source=reading.document.source, key="", node=reading.document.root)
    value = Keys(root=root, lenient=True).get(*arguments.names("label_smoothing_factor"))
    if value is not None and value.written().strip("0.") != "":
        raise EditRefusedError(f"{value.key} needs whole logits", location=value.location)
