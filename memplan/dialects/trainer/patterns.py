"""Patterns that name modules: PEFT matches text in ``target_modules`` against every module's whole path.

Source: ``check_target_module_exists`` in peft src/peft/tuners/tuners_utils.py (0.21). A pattern comes from a
file nobody vouches for, so it is matched only if it can't run for long: few stars, none of them nested.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from memplan.dialects.fields import Value
from memplan.domain.architecture import Architecture

LONGEST = 400
MOST_STARS = 3
_STAR = re.compile(r"(?<!\\)[*+]|(?<!\\)\{")
_REPEATED_GROUP = re.compile(r"\)\s*[*+{]")
_PREFIXES = ("", "model.", "model.language_model.", "language_model.model.", "language_model.")


def is_pattern(text: str) -> bool:
    """Whether text is more than the name of a module."""
    return re.fullmatch(r"[\w.\-, ]+", text, re.ASCII) is None


def matching(value: Value, shape: Architecture) -> tuple[str, ...]:
    """The linear layers of a block that a pattern matches in any of the places that blocks stand in.

    Raises:
        FieldError: it matches none, is no regular expression, or is too involved to be matched safely.
    """
    text = value.word()
    involved = len(_STAR.findall(text)) > MOST_STARS or _REPEATED_GROUP.search(text) or "(?" in text
    if len(text) > LONGEST or involved:
        raise value.fail("is a pattern too involved to be matched", expected=", ".join(shape.linears))
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise value.fail(f"is no regular expression: {error}") from None
    found = [name for name, path in paths(shape) if any(pattern.fullmatch(p + path) for p in _PREFIXES)]
    if not found:
        raise value.fail("matches no linear module of a block", expected=", ".join(shape.linears))
    return tuple(dict.fromkeys(found))


def named(text: str, shape: Architecture) -> str | None:
    """The layer whose path ends with some text, in whole parts (``self_attn.q_proj``)."""
    for name, path in paths(shape):
        if path == text or path.endswith(f".{text}"):
            return name
    last = text.rpartition(".")[2]
    return last if last in shape.expert_layers else None


def paths(shape: Architecture) -> Iterator[tuple[str, str]]:
    """Every linear layer that may be adapted, with its path in the first and in the last block."""
    for group in shape.groups:
        path = group.name.removesuffix(".weight")
        name = path.rpartition(".")[2]
        if name in shape.linears:
            for index in {0, max(shape.num_hidden_layers - 1, 0)}:
                yield name, path.replace("*", str(index), 1)
