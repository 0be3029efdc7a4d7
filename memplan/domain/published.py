"""What the files of a model say about themselves: how many weights they hold, in which dtypes."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.bytes import NOTHING, Bytes
from memplan.domain.dtype import Dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Weights as published in safetensors files.

    Attributes:
        parameters: weights that the model has once it is loaded; one packed with others counts for itself,
            scales and tables of a quantization do not count.
        size: bytes of all tensors in the files.
        dtypes: bytes by element type as safetensors names it (``BF16``, ``U8``), largest first.
        layout: how weights are packed (``bitsandbytes``, ``gptq``, ``mxfp4``, …); ``None``: they are not.
        files: number of files.
    """

    parameters: int
    size: Bytes = NOTHING
    dtypes: tuple[tuple[str, Bytes], ...] = ()
    layout: str | None = None
    files: int = 1

    @property
    def dtype(self) -> Dtype | None:
        """The element type of most bytes, where it is one that a model trains in."""
        return _TRAINED_IN.get(self.dtypes[0][0]) if self.dtypes else None


_TRAINED_IN = {"F32": Dtype.FP32, "F16": Dtype.FP16, "BF16": Dtype.BF16}
