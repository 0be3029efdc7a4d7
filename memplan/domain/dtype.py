"""Element types of tensors, by the names PyTorch users know."""

from __future__ import annotations

from enum import Enum


class Dtype(Enum):
    """An element type: its short name and its size in bytes."""

    FP32 = ("fp32", 4)
    BF16 = ("bf16", 2)
    FP16 = ("fp16", 2)
    FP64 = ("fp64", 8)
    INT64 = ("int64", 8)
    INT32 = ("int32", 4)
    UINT8 = ("uint8", 1)
    BOOL = ("bool", 1)

    def __init__(self, label: str, itemsize: int) -> None:
        self.label = label
        self.itemsize = itemsize

    def __str__(self) -> str:
        return self.label

    @property
    def is_half(self) -> bool:
        """Whether this is one of the two 16-bit floating point types."""
        return self in (Dtype.BF16, Dtype.FP16)

    @classmethod
    def parse(cls, text: str) -> Dtype:
        """Read a short name (``bf16``) or PyTorch's name (``torch.bfloat16``, ``half``).

        Raises:
            ValueError: no element type has that name.
        """
        found = _NAMES.get(text.removeprefix("torch.").lower())
        if found is None:
            known = ", ".join(member.label for member in cls)
            raise ValueError(f"{text!r} is not an element type; use one of {known}")
        return found


_NAMES = {member.label: member for member in Dtype} | {
    "float32": Dtype.FP32,
    "float": Dtype.FP32,
    "bfloat16": Dtype.BF16,
    "float16": Dtype.FP16,
    "half": Dtype.FP16,
    "float64": Dtype.FP64,
    "double": Dtype.FP64,
    "long": Dtype.INT64,
    "int": Dtype.INT32,
}
