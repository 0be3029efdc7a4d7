"""Values that the command line puts in place of a config's: ``batch.micro=2``."""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.schema import leaves
from memplan.dialects.settings import reader_of
from memplan.documents import yaml
from memplan.documents.source import Source
from memplan.domain.architecture import DeclaredModel
from memplan.domain.errors import FieldError, UnknownNameError
from memplan.domain.workload import Workload

_KIND = "kind: …"
_FIRST = {"evaluation": "batch: 8"}
"""What a section begins with that is not there yet."""

_OF_ANY_RUN = ("allocator", "framework", "task", "world")
"""What a mechanism has too: all else of it is among its own settings."""


def override(workload: Workload, text: str, option: str = "--set") -> tuple[str, object]:
    """The field of a workload (or the declared name) that ``key=value`` means, and its new value.

    ``option`` is what the text was given with, for messages.

    Raises:
        FieldError: it is not ``key=value``, or the value has the wrong type or range.
        UnknownNameError: nothing has that name.
    """
    name, equals, given = text.partition("=")
    name = name.strip()
    if not equals or not name or not given.strip():
        raise FieldError(f"{option} {text}: is not key=value", expected="such as batch.micro=2")
    try:
        source = Source.of(given.strip(), f"{option} {name}")
    except UnicodeError:
        raise FieldError(f"{option} {text!r} is not text") from None
    value = Value(source=source, key=name, node=yaml.parse(source))
    declared = dict(workload.model.values) if isinstance(workload.model, DeclaredModel) else {}
    if name in declared:
        return name, reader_of(workload.model, name)(value)
    known = leaves()
    if isinstance(workload.model, DeclaredModel) and workload.model.mechanism is not None:
        known = {leaf: found for leaf, found in known.items() if leaf.partition(".")[0] in _OF_ANY_RUN}
    if name not in known:
        first = next(iter(declared), "batch.micro")
        raise UnknownNameError.nearest(
            "value", name, [*declared, *known], hint=f"such as {option} {first}={declared.get(first, 2)}"
        )
    leaf, (section, _, part) = known[name], name.partition(".")
    if part and getattr(workload, section, section) is None:
        raise FieldError(
            f"{option} {name}: there is no {section} to change",
            hint=f"give it whole, such as --set '{section}={{{_FIRST.get(section, _KIND)}}}'",
        )
    return leaf.field, leaf.read(value)
