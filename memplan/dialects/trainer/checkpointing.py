"""Activation checkpointing as the Trainer turns it on.

Source: ``activation_checkpointing_enable`` in transformers (5.23) src/transformers/modeling_utils.py. Since
5.0 checkpointing is the newer, non-reentrant kind unless asked for; ``every_n_layers`` and ``offload`` came
with ``activation_checkpointing``, of which ``gradient_checkpointing`` is the older name.
"""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys, truth
from memplan.dialects.reading import Origin, Reading
from memplan.dialects.table import put
from memplan.dialects.trainer.arguments import Arguments
from memplan.documents.tree import MappingNode, Node
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Checkpointing, Workload

SHARDED = ("fsdp_config.activation_checkpointing", "fsdp_config.fsdp_activation_checkpointing")


def checkpointing(keys: Keys, arguments: Arguments) -> Checkpointing:
    """Every n-th block, or none."""
    value = keys.get(*arguments.checkpointing)
    state = "on" if arguments.checkpointing_default else "off"
    keys.note("checkpointing", value, f"{arguments.default}: {state}")
    on = arguments.checkpointing_default if value is None else truth(value) is not arguments.inverted
    if not on:
        return _sharded(keys, arguments)
    return Checkpointing(
        every=_option(keys, arguments, "every_n_layers", 1),
        reentrant=bool(_switch(keys, arguments, "use_reentrant", arguments.reentrant)),
        offload=_switch(keys, arguments, "offload", False),
    )


def write(arguments: Arguments, reading: Reading, after: Workload) -> list[Edit]:
    """Edits for other checkpointing: what memplan turns on is the newer kind, whatever the file asks for.

    Raises:
        EditRefusedError: neither every block nor none, or something else than the switch turns it on.
    """
    before, wanted = reading.workload.checkpointing, after.checkpointing
    if wanted == before:
        return []
    if before.offload or wanted.offload:
        raise EditRefusedError("activations are sent to the host: turn that off first")
    if before.every and not wanted.every and _by_sharding(reading, arguments):
        place = reading.origins["checkpointing"].location
        raise EditRefusedError("fsdp_config turns it on, not gradient_checkpointing", location=place)
    stride = _written(reading, arguments, "every_n_layers")
    known = stride is not None or any(_node(reading, name) is not None for name in _NEWER)
    if wanted.every and (not wanted.strided or (wanted.every > 1 and not known)):
        raise EditRefusedError(f"{arguments.framework} checkpoints every block or none")
    written = []
    if bool(wanted.every) is not bool(before.every):
        on = bool(wanted.every) is not arguments.inverted
        written += put(reading, arguments.checkpointing, on, beside=_BESIDE)
    if stride is not None and wanted.every:
        written += put(reading, (stride,), wanted.every)
    missing = {} if stride is not None or wanted.every < 2 else {"every_n_layers": wanted.every}
    return written + _variant(arguments, reading, wanted, missing)


_NEWER = ("activation_checkpointing", "activation_checkpointing_kwargs")
"""Names that came with ``every_n_layers``: who reads one knows the other."""

_BESIDE = ("gradient_accumulation_steps", "per_device_train_batch_size")


def _variant(
    arguments: Arguments, reading: Reading, wanted: Checkpointing, missing: dict[str, int]
) -> list[Edit]:
    """Reentrant or not, where the file says it or the framework has it otherwise; and options to insert."""
    key = _written(reading, arguments, "use_reentrant")
    written: list[Edit] = []
    if key is not None and wanted.every:
        written += put(reading, (key,), wanted.reentrant)
    if key is None and wanted.every and wanted.reentrant is not arguments.reentrant:
        missing = {**missing, "use_reentrant": wanted.reentrant}
    if not missing:
        return written
    options = next((name for name in arguments.options if _node(reading, name) is not None), None)
    if options is None:
        beside = (*arguments.checkpointing, *_BESIDE)
        return written + put(reading, (_alias(reading, arguments),), missing, beside)
    for name, value in missing.items():
        written += put(reading, (f"{options}.{name}",), value)
    return written


def _alias(reading: Reading, arguments: Arguments) -> str:
    """The options' key that goes with the name of the switch in the file."""
    pairs = zip(arguments.checkpointing, arguments.options, strict=False)
    return next((key for name, key in pairs if _node(reading, name) is not None), arguments.options[0])


def _sharded(keys: Keys, arguments: Arguments) -> Checkpointing:
    """Checkpointing that ``fsdp_config`` turns on."""
    value = keys.get(*arguments.names(*SHARDED))
    if value is None or not truth(value):
        return Checkpointing()
    keys.origins["checkpointing"] = Origin(location=value.location, how="written")
    return Checkpointing(every=1)


def _by_sharding(reading: Reading, arguments: Arguments) -> bool:
    place = reading.origins["checkpointing"].location
    nodes = [_node(reading, name) for name in arguments.names(*SHARDED)]
    return place is not None and place in [
        reading.document.source.location(node.span) for node in nodes if node is not None
    ]


def _given(keys: Keys, arguments: Arguments, option: str) -> Value | None:
    return keys.get(*(f"{name}.{option}" for name in arguments.options))


def _option(keys: Keys, arguments: Arguments, option: str, default: int) -> int:
    value = _given(keys, arguments, option)
    return default if value is None else value.whole()


def _switch(keys: Keys, arguments: Arguments, option: str, default: bool) -> bool:
    value = _given(keys, arguments, option)
    return default if value is None else truth(value)


def _written(reading: Reading, arguments: Arguments, option: str) -> str | None:
    """The dotted key of an option that the file has."""
    names = [f"{name}.{option}" for name in arguments.options]
    return next((name for name in names if _node(reading, name) is not None), None)


def _node(reading: Reading, name: str) -> Node | None:
    node: Node | None = reading.document.root
    for part in name.split("."):
        node = node.get(part) if isinstance(node, MappingNode) else None
    return node
