"""What axolotl recomputes, and what of the activations it sends to the host.

Source (2026-07): ``check_gradient_checkpointing_w_offload`` in src/axolotl/utils/schemas/validation.py,
``_apply_activation_checkpointing`` in loaders/model.py, ``ActivationOffloadingMixin`` in
core/trainers/mixins/activation_checkpointing.py. With adapters, offloading replaces recomputation.
"""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys, truth
from memplan.dialects.reading import Origin
from memplan.documents.tree import MappingNode
from memplan.domain.host import ActivationOffload
from memplan.domain.workload import Checkpointing, Unmodelled

_OLD = {"offload": "true", "offload_disk": "disk"}
"""Values of ``gradient_checkpointing`` that mean one of ``activation_offloading``."""

_UNSLOTH = "unsloth"
OFFLOADING_SWITCHES = (*_OLD, _UNSLOTH)
"""Values of ``gradient_checkpointing`` that send activations to the host."""

HIDDEN_STATES = "hidden_states"
_STREAMS = ("disk", HIDDEN_STATES)
_LEGACY = "legacy"

_KEPT_BEFORE = (
    "activation_offloading with an adapter: axolotl made from 2025-07-24 to 2026-06-15 (#3733) keeps the "
    "activations of blocks on the GPU; counted is what newer ones do"
)


def checkpointing(keys: Keys) -> Checkpointing:
    """Every block or none.

    Raises:
        FieldError: activations are to be offloaded, and checkpointing is off.
    """
    keys.note("checkpointing", "gradient_checkpointing", "axolotl's default: off")
    value = keys.get("gradient_checkpointing")
    if value is not None and value.written() == _UNSLOTH:
        return Checkpointing(every=1, reentrant=True, offload=True)
    away = _offloading(keys)
    asked = value is not None and (value.written() in _OLD or bool(keys.flag("gradient_checkpointing")))
    if away is not None and not asked:
        raise away.fail("activation_offloading needs checkpointing", expected="gradient_checkpointing: true")
    if away is not None and away.written() == HIDDEN_STATES:
        return Checkpointing(every=1, reentrant=_reentrant(keys), offload=True)
    if away is not None and _adapted(keys):
        keys.warnings.append(_KEPT_BEFORE)
        return Checkpointing()
    if away is not None:
        return Checkpointing(every=1)
    if asked:
        return Checkpointing(every=1, reentrant=_reentrant(keys))
    return _sharded(keys)


def activation_offload(keys: Keys) -> ActivationOffload:
    """Which hooks run: TRL's, with a second stream unless the older kind is asked for."""
    value = keys.get("gradient_checkpointing")
    old = value is not None and value.written() in _OLD
    keys.note("activation_offload", "gradient_checkpointing" if old else "activation_offloading", "off")
    away = _offloading(keys)
    if away is None or away.written() == HIDDEN_STATES:
        return ActivationOffload.NONE
    return ActivationOffload.SINGLE_STREAM if away.written() == _LEGACY else ActivationOffload.STREAMS


def held_back(keys: Keys) -> tuple[Unmodelled, ...]:
    """Copies of blocks' inputs under way, two at most."""
    value = _offloading(keys)
    if value is None or value.written() != HIDDEN_STATES:
        return ()
    place = f"{value.source.path}:{value.location.line}"
    reason = f"{place}: activation_offloading: copies of up to two blocks' inputs are under way on the GPU"
    return (Unmodelled(reason=reason, grows=("temporaries",)),)


def _offloading(keys: Keys) -> Value | None:
    """What asks for offloading, in the newer or the older way."""
    older = keys.get("gradient_checkpointing")
    if older is not None and older.written() in _OLD:
        return older
    value = keys.get("activation_offloading")
    if value is None:
        return None
    return value if value.written() in (*_STREAMS, _LEGACY) or truth(value) else None


def _adapted(keys: Keys) -> bool:
    return keys.get("adapter") is not None


def _sharded(keys: Keys) -> Checkpointing:
    """Checkpointing that ``fsdp_config`` turns on."""
    sharding = keys.get("fsdp_config")
    if sharding is not None and isinstance(sharding.node, MappingNode):
        inner = sharding.entries()
        for key in ("activation_checkpointing", "fsdp_activation_checkpointing"):
            if key in inner and not inner[key].is_null and inner[key].flag():
                keys.origins["checkpointing"] = Origin(location=inner[key].location, how="written")
                return Checkpointing(every=1)
    return Checkpointing()


def _reentrant(keys: Keys) -> bool:
    """``gradient_checkpointing_kwargs: {use_reentrant: true}``; axolotl's own default is false."""
    options = keys.get("gradient_checkpointing_kwargs")
    if options is None or not isinstance(options.node, MappingNode):
        return False
    chosen = options.entries().get("use_reentrant")
    return chosen is not None and not chosen.is_null and chosen.flag()
