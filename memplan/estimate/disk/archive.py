"""Sizes of files that ``torch.save`` writes: uncompressed zip archives, every storage a record of its own.

A record is a local header of 30 bytes, the name, padding of at least 4 to the next multiple of 64, the
bytes, and a data descriptor of 16 (``PyTorchStreamWriter`` in caffe2/serialize/inline_container.cc). The
directory at the end has 46 bytes and the name for each, and 98 for its own ends.
"""

from __future__ import annotations

from collections.abc import Iterable

ALIGNMENT = 64
_HEADER, _LEAST_PADDING, _DESCRIPTOR, _DIRECTORY, _END = 30, 4, 16, 46, 98
PICKLED = 74
"""Bytes of the pickle for each tensor in an optimizer's state dict: 70 to 74 were measured."""
PICKLED_ONCE = 300
"""Bytes of the pickle for the dictionaries and the options around them."""


def optimizer_bytes(sizes: Iterable[int], name: str = "optimizer") -> int:
    """Size in bytes of ``torch.save(optimizer.state_dict())`` with tensors of these sizes.

    Exact but for the pickle, which is estimated to some 5 %; ``name`` is that of the file without its ending.
    """
    tensors = list(sizes)
    pickle = PICKLED * len(tensors) + PICKLED_ONCE
    records = [("data.pkl", pickle), (".format_version", 1), (".storage_alignment", 2), ("byteorder", 6)]
    records += [(f"data/{index}", size) for index, size in enumerate(tensors)]
    records += [("version", 2), (".data/serialization_id", 40)]
    return archive_bytes([(f"{name}/{record}", size) for record, size in records])


def archive_bytes(records: Iterable[tuple[str, int]]) -> int:
    """Size of an archive of records, each a name and its bytes; exact where all lie within 4 GiB."""
    position = directory = 0
    for name, size in records:
        start = position + _HEADER + len(name) + _LEAST_PADDING
        position = -(-start // ALIGNMENT) * ALIGNMENT + size + _DESCRIPTOR
        directory += _DIRECTORY + len(name)
    return position + directory + _END
