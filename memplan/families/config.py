"""Reading ``config.json`` keys: type, range and class defaults, with errors at the key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from memplan.domain.errors import FieldError, Location

Where = Callable[[str], Location | None]
"""The place of a key in the file it was read from."""

LARGEST_SIDE = 2**31 - 1
"""No side of a tensor is longer: PyTorch kernels index with 32 bits here, and a typo is likelier."""


class Config:
    """A model's configuration, with its class defaults behind it and places for messages."""

    __slots__ = ("defaults", "values", "where")

    def __init__(
        self,
        values: Mapping[str, object],
        defaults: Mapping[str, object],
        where: Where,
    ) -> None:
        self.values = values
        self.defaults = defaults
        self.where = where

    def get(self, key: str) -> object:
        """The value written, else the class default."""
        return self.values[key] if key in self.values else self.defaults.get(key)

    def size(self, key: str) -> int:
        """A positive integer.

        Raises:
            FieldError: it is something else.
        """
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= LARGEST_SIDE:
            raise self.wrong(key, f"a whole number from 1 to {LARGEST_SIDE}")
        return value

    def count(self, key: str) -> int:
        """A whole number, zero included.

        Raises:
            FieldError: it is something else.
        """
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_SIDE:
            raise self.wrong(key, f"a whole number from 0 to {LARGEST_SIDE}")
        return value

    def size_or_none(self, key: str) -> int | None:
        """A positive integer, or ``None`` when the key is null or absent."""
        return None if self.get(key) is None else self.size(key)

    def flag(self, key: str) -> bool:
        """A boolean; null counts as false."""
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return bool(value)

    def rate(self, key: str) -> float:
        """A share from 0 to 1; null counts as 0.

        Raises:
            FieldError: it is something else.
        """
        value = self.get(key)
        if value is None:
            return 0.0
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self.wrong(key, "a number from 0 to 1")
        return float(value)

    def choice(self, key: str, allowed: Collection[str]) -> str:
        """One of some words.

        Raises:
            FieldError: it is something else.
        """
        value = self.get(key)
        if not isinstance(value, str) or value not in allowed:
            raise self.wrong(key, f"one of {', '.join(sorted(allowed))}")
        return value

    def within(self, key: str) -> Config:
        """The keys of a mapping; messages point at the mapping.

        Raises:
            FieldError: it is something else.
        """
        value = self.get(key)
        if not isinstance(value, Mapping):
            raise self.wrong(key, "a mapping")
        return Config(value, {}, lambda _: self.where(key))

    def first(self, key: str, allowed: Collection[str], otherwise: str) -> str:
        """The first word of a list, such as the class ``architectures`` names; ``otherwise`` without one.

        Raises:
            FieldError: it is not one of the words allowed.
        """
        value = self.get(key)
        if value is None or value == []:
            return otherwise
        word = value[0] if isinstance(value, list | tuple) else value
        if not isinstance(word, str) or word not in allowed:
            raise self.wrong(key, f"a list that begins with one of {', '.join(allowed)}")
        return word

    def labels(self) -> int:
        """How many classes a classifier tells apart: ``id2label``, else ``num_labels``, else two.

        Raises:
            FieldError: one of them is something else.
        """
        named = self.get("id2label")
        if isinstance(named, Mapping) and named:
            return len(named)
        return self.size_or_none("num_labels") or 2

    def wrong(self, key: str, expected: str) -> FieldError:
        """An error at a key."""
        return FieldError(f"{key} is {self.get(key)!r}", location=self.where(key), expected=expected)


def key_value_heads(read: Config, heads: int) -> int:
    """``num_key_value_heads``: as many as query heads when null or absent.

    Raises:
        FieldError: it does not divide them.
    """
    found = read.size_or_none("num_key_value_heads") or heads
    if heads % found:
        raise read.wrong("num_key_value_heads", f"a divisor of num_attention_heads ({heads})")
    return found


def head_dim(read: Config, hidden: int, heads: int) -> int:
    """The width of a head where none is written.

    Raises:
        FieldError: heads do not divide the hidden size.
    """
    if hidden % heads:
        raise read.wrong(
            "hidden_size", f"a multiple of num_attention_heads ({heads}), or an explicit head_dim"
        )
    return hidden // heads
