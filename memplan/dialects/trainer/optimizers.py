"""Optimizers by the Trainer's names."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Reading
from memplan.dialects.table import put
from memplan.dialects.trainer.arguments import Arguments
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Optimizer, Workload

OPTIMIZERS = {
    "adamw_torch": Optimizer(name="adamw", implementation="foreach"),
    "adamw_torch_fused": Optimizer(name="adamw", implementation="fused"),
    "adamw_hf": Optimizer(name="adamw", implementation="for_loop"),
    "sgd": Optimizer(name="sgd", implementation="foreach"),
    "adafactor": Optimizer(name="adafactor", implementation="for_loop"),
    "adamw_bnb_8bit": Optimizer(name="adamw_8bit", implementation="for_loop"),
    "adamw_8bit": Optimizer(name="adamw_8bit", implementation="for_loop"),
    "adamw_torch_8bit": Optimizer(name="adamw_8bit", implementation="for_loop"),
    "ao_adamw_8bit": Optimizer(name="adamw_8bit", implementation="for_loop"),
    "adamw_torch_4bit": Optimizer(name="adamw_4bit", implementation="for_loop"),
    "ao_adamw_4bit": Optimizer(name="adamw_4bit", implementation="for_loop"),
    "paged_adamw_8bit": Optimizer(name="paged_adamw_8bit", implementation="for_loop"),
    "paged_adamw_32bit": Optimizer(name="paged_adamw_32bit", implementation="for_loop"),
    "paged_adamw": Optimizer(name="paged_adamw_32bit", implementation="for_loop"),
    "lion_32bit": Optimizer(name="lion", implementation="for_loop"),
    "lion_8bit": Optimizer(name="lion_8bit", implementation="for_loop"),
    "paged_lion_32bit": Optimizer(name="paged_lion_32bit", implementation="for_loop"),
    "paged_lion_8bit": Optimizer(name="paged_lion_8bit", implementation="for_loop"),
    "muon": Optimizer(name="muon", implementation="for_loop"),
}
"""Names of the Trainer (``OptimizerNames``) and of axolotl, by what they keep in memory."""

_REMOVED = ("adamw_hf",)
"""Names that transformers 5 does not know any more: read, and not written."""

_OWN_RULE = ("adamw_hf", "adamw_torch_8bit", "ao_adamw_8bit", "adamw_torch_4bit", "ao_adamw_4bit")
"""Optimizers whose numbers are not quite those of another library's of that name."""


def named(keys: Keys, names: tuple[str, ...], default: str, says: str) -> Optimizer:
    """The optimizer that a key names; one that memplan has no model of keeps its own name."""
    value = keys.get(*names)
    keys.note("optimizer.name", value, f"{says}: {default}")
    keys.note("optimizer.implementation", value, f"{says}: {default}")
    name = default if value is None else value.word()
    if name not in OPTIMIZERS and value is not None:
        keys.warn(value, f"optimizer {name} is not modelled")
    return OPTIMIZERS.get(name) or Optimizer(name=name, implementation="for_loop")


def optimizer(keys: Keys, arguments: Arguments, sharding: str = "none") -> Optimizer:
    """The optimizer by name; the Trainer clips gradients unless the limit is 0."""
    found = named(keys, arguments.optim, arguments.optim_default, arguments.default)
    limit = keys.get(*arguments.clipping)
    keys.note("optimizer.clipping", limit, "the Trainer's default: gradients are clipped")
    return run(replace(found, clipping=limit is None or limit.written().strip("0.") != ""), sharding)


def run(optimizer: Optimizer, sharding: str) -> Optimizer:
    """An optimizer as it runs: PyTorch takes FSDP2's tensors one by one unless told otherwise.

    The Trainer does not tell (``_default_to_fused_or_foreach`` in torch/optim/optimizer.py).
    """
    alone = sharding == "fsdp2" and optimizer.implementation == "foreach"
    return replace(optimizer, implementation="for_loop") if alone else optimizer


def write(arguments: Arguments, reading: Reading, after: Workload) -> list[Edit]:
    """Edits for another optimizer.

    Raises:
        EditRefusedError: the Trainer has no name for it, or more than its name changes.
    """
    before, wanted = reading.workload.optimizer, after.optimizer
    if wanted == before:
        return []
    _refuse_own(arguments, reading)
    if replace(wanted, name=before.name, implementation=before.implementation) != before:
        raise EditRefusedError("of an optimizer only its name is written")
    for name, found in OPTIMIZERS.items():
        meant = run(found, after.world.sharding)
        same = (meant.name, meant.implementation) == (wanted.name, wanted.implementation)
        if same and name not in _REMOVED:
            return put(reading, arguments.optim, name, beside=(*arguments.clipping, *arguments.accumulation))
    raise EditRefusedError(f"the Trainer has no name for {wanted.name} ({wanted.implementation})")


def _refuse_own(arguments: Arguments, reading: Reading) -> None:
    """Another optimizer may not take the arguments that are there, or be another rule.

    Raises:
        EditRefusedError: so it is.
    """
    root = Value(source=reading.document.source, key="", node=reading.document.root)
    keys = Keys(root=root, lenient=True)
    extra, name = keys.get(*arguments.names("optim_args")), keys.get(*arguments.optim)
    if extra is not None:
        raise EditRefusedError("optim_args are this optimizer's own", location=extra.location)
    if name is not None and name.written() in _OWN_RULE:
        raise EditRefusedError(f"{name.written()} has a rule of its own", location=name.location)
