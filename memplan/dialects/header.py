"""The keys that a native config and a manifest have in common: version and target."""

from __future__ import annotations

import re
from collections.abc import Mapping

from memplan.dialects.fields import Value
from memplan.dialects.reading import Origin, Target
from memplan.domain.errors import FieldError, Location

HEADER_KEYS = ("memplan", "target")
TARGET_KEYS = ("gpu", "ram", "margin", "profile")
_PERCENT = re.compile(r"([0-9]{1,2}(\.[0-9]+)?) *%", re.ASCII)


def check_version(entries: Mapping[str, Value], root: Value) -> None:
    """Refuse a file that does not start with ``memplan: 1``.

    Raises:
        FieldError: the key is missing or names another version.
    """
    if "memplan" not in entries:
        raise FieldError(
            f"{root.source.path} does not say which version of the format it is in",
            location=Location(path=root.source.path, line=1),
            expected="memplan: 1 at the top",
        )
    if entries["memplan"].whole(0) != 1:
        raise entries["memplan"].fail("is a version memplan does not know", expected="memplan: 1")


def target(value: Value | None) -> Target:
    """The GPU, host memory, margin and named profile a file asks for, as written.

    Raises:
        FieldError: a key is unknown, the memory is no amount, or the margin neither that nor a percentage.
    """
    if value is None or value.is_null:
        return Target()
    return of_entries(value.entries(TARGET_KEYS))


def of_entries(entries: Mapping[str, Value]) -> Target:
    """A target out of a mapping that may hold other keys too."""
    gpu = entries["gpu"].word() if "gpu" in entries else None
    margin = _margin(entries["margin"]) if "margin" in entries else None
    profile = entries["profile"].word() if "profile" in entries else None
    ram = entries["ram"].amount() if "ram" in entries else None
    if ram == 0:
        raise entries["ram"].fail("is no memory at all", expected="an amount such as 32GiB")
    origins = {
        f"target.{key}": Origin(location=entries[key].location, how="written")
        for key in TARGET_KEYS
        if key in entries
    }
    known = None if ram is None else str(ram)
    return Target(gpu=gpu, ram=known, margin=margin, profile=profile, origins=origins)


def _margin(value: Value) -> str:
    text = value.written()
    if _PERCENT.fullmatch(text):
        return text
    if text.endswith("%") or not text[-1:].isalpha():
        raise value.fail(
            f"{value.described()} is no margin",
            expected="a percentage below 100% or an amount such as 500MiB",
        )
    value.amount()
    return text
