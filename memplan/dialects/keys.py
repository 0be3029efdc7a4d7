"""Values of a document by dotted key, as one framework reads them, and where each value came from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from memplan.dialects.fields import Value
from memplan.dialects.reading import Document, Origin, Reading
from memplan.documents.tree import MappingNode, ScalarNode
from memplan.domain.harm import Harm
from memplan.domain.workload import Workload

_TRUE = ("true", "yes", "on", "1", "y", "t")
_FALSE = ("false", "no", "off", "0", "n", "f")


@dataclass(slots=True, kw_only=True)
class Keys:
    """The values of one file, with what was learned while reading them.

    ``lenient`` says that the framework converts text: a quoted number is a number, ``"yes"`` is true.
    """

    root: Value
    lenient: bool = False
    origins: dict[str, Origin] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def get(self, *names: str) -> Value | None:
        """The value of the first of several dotted keys that is there and not empty."""
        for name in names:
            found = self._at(name)
            if found is not None and not found.is_null:
                return found
        return None

    def has(self, *names: str) -> bool:
        """Whether any of these keys is written, if only with an empty value."""
        return any(self._at(name) is not None for name in names)

    def whole(self, *names: str, low: int = 1) -> int | None:
        """A whole number, None when absent."""
        value = self.get(*names)
        return None if value is None else self._number(value).whole(low)

    def flag(self, *names: str) -> bool | None:
        """True or false, None when absent."""
        value = self.get(*names)
        if value is None:
            return None
        return truth(value) if self.lenient else value.flag()

    def word(self, *names: str) -> str | None:
        """Text, None when absent."""
        value = self.get(*names)
        return None if value is None else value.word()

    def note(self, path: str, value: Value | str | None, default: str = "", how: str | None = None) -> None:
        """Record where the value at a native path came from: a value, or what stands at a dotted key.

        ``default`` says what holds without it.
        """
        if isinstance(value, str):
            value = self.get(value)
        if value is not None:
            self.origins[path] = Origin(location=value.location, how="written", note=how)
        else:
            self.origins[path] = Origin(how="default", note=default)

    def warn(self, value: Value, message: str) -> None:
        """Say something about a value, with its place."""
        self.warnings.append(f"{value.source.path}:{value.location.line}: {message}")

    def reading(
        self, document: Document, dialect: str, run: Workload, harm: Harm | None = None, reason: str = ""
    ) -> Reading:
        """The reading of a run, with what was learned; ``harm`` is what another micro-batch does, and why."""
        return Reading(
            path=document.path,
            dialect=dialect,
            workload=run,
            origins=self.origins,
            warnings=tuple(self.warnings),
            document=document,
            batch_harm=harm,
            batch_reason=reason if harm is not None else "",
        )

    def _at(self, name: str) -> Value | None:
        node = self.root.node
        for part in name.split("."):
            item = node.item(part) if isinstance(node, MappingNode) else None
            if item is None:
                return None
            node = item.value
        prefix = f"{self.root.key}." if self.root.key else ""
        return Value(source=self.root.source, key=f"{prefix}{name}", node=node)

    def _number(self, value: Value) -> Value:
        node = value.node
        if self.lenient and isinstance(node, ScalarNode) and isinstance(node.value, str):
            digits = node.value.strip()
            if digits.isascii() and digits.isdigit() and len(digits) < 20:
                return replace(value, node=replace(node, value=int(digits)))
        return value


def truth(value: Value) -> bool:
    """True or false in any of the spellings that pydantic and argparse take.

    Raises:
        FieldError: it is neither.
    """
    text = value.written().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    return value.flag()
