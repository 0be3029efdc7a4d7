"""Finding the model that is meant among those known offline."""

from __future__ import annotations

from memplan.domain.errors import UnknownNameError
from memplan.profiles import ModelProfile, model, model_ids


def search(text: str) -> tuple[ModelProfile, ...]:
    """Models whose ids hold every word of a text, ignoring case; all of them for an empty one.

    Raises:
        UnknownNameError: none does; the nearest ids are offered.
    """
    words = text.lower().split()
    found = [hub_id for hub_id in model_ids() if all(word in hub_id.lower() for word in words)]
    if not found:
        hint = "give --online and the id in a config, or a directory with the model's config.json"
        raise UnknownNameError.nearest("model known offline", text, model_ids(), hint=hint)
    profiles = (model(hub_id) for hub_id in sorted(found, key=str.lower))
    return tuple(profile for profile in profiles if profile is not None)
