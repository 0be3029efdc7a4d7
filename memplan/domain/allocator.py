"""Options of PyTorch's CUDA caching allocator, as ``PYTORCH_CUDA_ALLOC_CONF`` gives them.

PyTorch 2.9 took up the name ``PYTORCH_ALLOC_CONF`` besides; every release reads the older one
(``CUDAAllocatorConfig::instance`` in c10/cuda/CUDAAllocatorConfig.h of 2.13).
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20

VARIABLE = "PYTORCH_CUDA_ALLOC_CONF"

INTERVALS = 16
"""``roundup_power2_divisions`` may differ for requests from 1 MiB, from 2 MiB, … from 32 GiB."""

SMALLEST_SPLIT_LIMIT = 20
"""The least ``max_split_size_mb`` PyTorch takes: larger than the segments that requests share (20 MiB)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorOptions:
    """``expandable_segments``: map memory as it is needed instead of taking segments.

    ``max_split_size_mb``: larger blocks are never split. ``roundup_power2_divisions``: sizes are rounded up
    to that fraction of a power of two; one number an interval, or none. ``garbage_collection_threshold``:
    the share of ``memory_fraction`` above which unused segments are given back; PyTorch looks at it only if
    ``torch.cuda.set_per_process_memory_fraction`` was called, and so does this.
    """

    expandable_segments: bool = False
    max_split_size_mb: int | None = None
    roundup_power2_divisions: tuple[int, ...] = ()
    garbage_collection_threshold: float = 0.0
    memory_fraction: float | None = None

    @classmethod
    def parse(cls, text: str) -> AllocatorOptions:
        """Read ``"expandable_segments:True,max_split_size_mb:128"``.

        Raises:
            ValueError: an option is not known, has no value, or one out of range.
        """
        given: dict[str, str] = {}
        for entry in _entries(text):
            name, colon, value = entry.partition(":")
            if not colon:
                raise ValueError(f"{entry.strip()!r} is not of the form option:value")
            given[name.strip()] = value.strip()
        readers = {
            "expandable_segments": _truth,
            "max_split_size_mb": _split_limit,
            "roundup_power2_divisions": divisions,
            "garbage_collection_threshold": _share,
        }
        unknown = sorted(given.keys() - readers.keys())
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no option that is simulated; there are {', '.join(readers)}")
        return cls(**{name: readers[name](value) for name, value in given.items()})  # type: ignore[arg-type]

    @property
    def text(self) -> str:
        """What ``parse`` reads these from; ``memory_fraction`` is none of the environment variable's."""
        given = {
            "expandable_segments": "True" if self.expandable_segments else "",
            "max_split_size_mb": self.max_split_size_mb or "",
            "roundup_power2_divisions": spelled(self.roundup_power2_divisions)
            if self.roundup_power2_divisions
            else "",
            "garbage_collection_threshold": self.garbage_collection_threshold or "",
        }
        return ",".join(f"{name}:{value}" for name, value in given.items() if value)


def divisions(text: str) -> tuple[int, ...]:
    """``"8"``, or by size in MB ``"[256:1,512:2,>:8]"``: one number for each interval.

    Intervals before the first that is named take its number; those behind, up to the next, take theirs
    (``CUDAAllocatorConfig::parseRoundUpPower2Divisions``).

    Raises:
        ValueError: a size or a number of divisions is not a power of two.
    """
    if not text.startswith("["):
        return (_power(text),) * INTERVALS
    found: list[int | None] = [None] * INTERVALS
    first = True
    for entry in text.strip("[] ").split(","):
        size, _, count = entry.partition(":")
        if size.strip() == ">":
            last = max((place for place, value in enumerate(found) if value is not None), default=-1)
            found[last + 1 :] = [_power(count)] * (INTERVALS - last - 1)
            continue
        place = min(_power(size).bit_length() - 1, INTERVALS - 1)
        if first:
            found[: place + 1] = [_power(count)] * (place + 1)
        first = False
        found[place] = _power(count)
    return tuple(1 if value is None else value for value in found)


def spelled(numbers: tuple[int, ...]) -> str:
    """``divisions`` as text: one number, or one for each size in MB."""
    if len(set(numbers)) == 1:
        return str(numbers[0])
    *others, last = numbers
    return f"[{','.join(f'{1 << place}:{count}' for place, count in enumerate(others))},>:{last}]"


def _entries(text: str) -> list[str]:
    """Options between commas that are not within brackets."""
    entries, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if character == "," and not depth:
            entries.append(text[start:place])
            start = place + 1
    return [entry for entry in (*entries, text[start:]) if entry.strip()]


def _truth(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(f"expandable_segments is {text!r}: write True or False")
    return text == "True"


def _split_limit(text: str) -> int:
    if not text.isdecimal() or int(text) <= SMALLEST_SPLIT_LIMIT:
        raise ValueError(f"max_split_size_mb is {text!r}: write a whole number above {SMALLEST_SPLIT_LIMIT}")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise ValueError(f"garbage_collection_threshold is {text!r}: write a number between 0 and 1")
    return value


def _power(text: str) -> int:
    text = text.strip()
    value = int(text) if text.isdecimal() else 0
    if value < 1 or value & (value - 1):
        raise ValueError(f"roundup_power2_divisions has {text!r}: write a power of two")
    return value
