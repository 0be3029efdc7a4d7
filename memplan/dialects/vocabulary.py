"""Names that people's own programs give to what decides memory, wherever in a config these stand."""

from __future__ import annotations

import re
from collections.abc import Iterator

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.documents.tree import MappingNode, Node, ScalarNode
from memplan.domain.dtype import Dtype
from memplan.domain.errors import AmbiguousKeyError

MODEL = (
    "model_name_or_path",
    "pretrained_model_name_or_path",
    "hf_model_name",
    "hf_model",
    "base_model",
    "model_id",
    "pretrained_model",
    "model_name",
)
MICRO = (
    "micro_batch_size",
    "per_device_train_batch_size",
    "per_device_batch_size",
    "device_batch_size",
    "local_batch_size",
    "train_batch_size",
    "batch_size",
)
ACCUMULATION = (
    "accumulate_grad_batches",
    "gradient_accumulation_steps",
    "grad_accumulation_steps",
    "grad_accum_steps",
    "gradient_accumulation",
)
LENGTH = (
    "max_seq_length",
    "max_seq_len",
    "max_sequence_length",
    "sequence_length",
    "seq_length",
    "seq_len",
    "context_length",
    "block_size",
    "max_length",
)
"""The more exact names come first: they count where several are there."""

_NOT_TRAINING = re.compile(
    r"(?:^|[._])(?:val|valid|validation|eval|evaluation|test|predict|inference)(?:[._]|$)"
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)

PRECISIONS: dict[str, tuple[Dtype, Dtype | None]] = {
    "32-true": (Dtype.FP32, None),
    "32": (Dtype.FP32, None),
    "16-mixed": (Dtype.FP32, Dtype.FP16),
    "16": (Dtype.FP32, Dtype.FP16),
    "bf16-mixed": (Dtype.FP32, Dtype.BF16),
    "bf16": (Dtype.FP32, Dtype.BF16),
    "16-true": (Dtype.FP16, None),
    "bf16-true": (Dtype.BF16, None),
}
"""What ``Trainer(precision=...)`` of Lightning makes of the weights, and what it autocasts to
(``_PRECISION_INPUT`` in lightning/fabric/connector.py, 2.5)."""


def names_model(node: Node) -> bool:
    """Whether a model of the hub is named anywhere below a node."""
    return any(
        name.rpartition(".")[2] in MODEL and isinstance(found, ScalarNode) and _is_model(found)
        for name, found in _below(node)
    )


def model(keys: Keys, within: str = "") -> Value | None:
    """The first hub id or path that stands under one of the names of a model."""
    for value in _found(keys, MODEL, within):
        if isinstance(value.node, ScalarNode) and _is_model(value.node):
            return value
    return None


def whole(keys: Keys, names: tuple[str, ...], within: str = "") -> Value | None:
    """The one whole number of a training run under the first of some names that is there.

    Raises:
        AmbiguousKeyError: it is there several times, and the numbers differ.
        FieldError: it is no number.
    """
    for name in names:
        found = [value for value in _found(keys, (name,), within) if not _NOT_TRAINING.search(value.key)]
        if not found:
            continue
        numbers = {value.whole() for value in found}
        if len(numbers) > 1:
            raise AmbiguousKeyError(
                f"{name} is {' and '.join(str(number) for number in sorted(numbers))}: "
                f"{', '.join(value.key for value in found)}",
                location=found[0].location,
                hint="give the file that holds only the run's own",
            )
        return found[0]
    return None


def precision(keys: Keys, *names: str) -> tuple[Dtype, Dtype | None]:
    """Dtypes of weights and autocast by Lightning's word; without one, fp32.

    Raises:
        FieldError: it is another word, or one that is not simulated.
    """
    value = keys.get(*names)
    for field in ("precision.params", "precision.autocast"):
        keys.note(field, value, "Lightning's default: 32-true")
    if value is None:
        return PRECISIONS["32"]
    word = value.written()
    if word not in PRECISIONS:
        raise value.fail(f"{value.described()} is not modelled", expected=", ".join(PRECISIONS))
    return PRECISIONS[word]


def _is_model(node: ScalarNode) -> bool:
    text = node.value
    return isinstance(text, str) and (_HUB_ID.fullmatch(text) is not None or text.startswith(("./", "/")))


def _found(keys: Keys, names: tuple[str, ...], within: str) -> Iterator[Value]:
    """Values under some names that are neither empty nor left open, the first name's first."""
    everything = list(_below(keys.root.node))
    for wanted in names:
        for name, node in everything:
            inside = not within or name.startswith(f"{within}.")
            if inside and name.rpartition(".")[2] == wanted and not _open(node):
                yield Value(source=keys.root.source, key=name, node=node)


def _open(node: Node) -> bool:
    """Whether somebody else fills a value in: nothing, ``???``, or an interpolation without an answer."""
    if not isinstance(node, ScalarNode):
        return False
    text = node.value
    return text is None or (isinstance(text, str) and (text == "???" or "${" in text))


def _below(node: Node, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Every key with its dotted path, those nearer the root first."""
    waiting = [(prefix, node)]
    while waiting:
        deeper: list[tuple[str, Node]] = []
        for path, mapping in waiting:
            for item in mapping.items if isinstance(mapping, MappingNode) else ():
                if isinstance(item.key.value, str) and "." not in item.key.value:
                    name = f"{path}.{item.key.value}" if path else item.key.value
                    yield name, item.value
                    deeper.append((name, item.value))
        waiting = deeper
