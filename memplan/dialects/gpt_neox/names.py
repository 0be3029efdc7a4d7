"""Keys of GPT-NeoX, where dashes and underscores are the same (``from_ymls`` in neox_args)."""

from __future__ import annotations

from dataclasses import replace

from memplan.documents.tree import MappingNode


def underscored(root: MappingNode) -> MappingNode:
    """The mapping with underscores in its own keys; what is written stays as it is."""
    items = tuple(
        replace(item, key=replace(item.key, value=item.key.value.replace("-", "_")))
        if isinstance(item.key.value, str)
        else item
        for item in root.items
    )
    return replace(root, items=items)
