"""Number formats and optimizers in axolotl."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects.keys import Keys
from memplan.dialects.reading import Origin
from memplan.dialects.trainer import Arguments
from memplan.dialects.trainer.optimizers import named, run
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Optimizer

DEFAULT = "adamw_torch_fused"
ARGUMENTS = Arguments(framework="axolotl", optim=("optimizer",), optim_default=DEFAULT)


def params(keys: Keys) -> Dtype:
    """The dtype the weights are loaded in: bf16 before fp16 before fp32, as axolotl's resolve_dtype decides.

    ``bf16: auto``, which is also the default, means bf16 on a GPU that has it, unless fp16 is asked for.
    """
    wants_bf16, key = _bf16(keys)
    path = "precision.params"
    if wants_bf16:
        keys.note(
            path, key, "axolotl's default: bf16: auto, bf16 where the GPU has it", "the weights too are bf16"
        )
        return Dtype.BF16
    for name in ("fp16", "float16", "load_in_8bit"):
        if keys.flag(name):
            keys.note(path, name, "")
            return Dtype.FP16
    keys.note(path, "bf16", "neither bf16 nor fp16: weights in fp32")
    return Dtype.FP32


def autocast(keys: Keys, sharding: str = "none") -> Dtype | None:
    """The dtype the Trainer autocasts the forward pass to, also when the weights have that dtype already.

    FSDP2 computes in the dtype of its policy instead, which is that of the weights (``_prepare_fsdp2`` in
    accelerate src/accelerate/accelerator.py, ``fsdp2_prepare_model`` in axolotl
    src/axolotl/monkeypatch/accelerate/fsdp2.py).
    """
    wants_bf16, key = _bf16(keys)
    path, why = "precision.autocast", "the Trainer runs the forward pass under autocast"
    full = keys.get("bf16")
    if sharding == "fsdp2":
        keys.note(path, None, "FSDP2 computes in the dtype of the weights, without autocast")
        return None
    if full is not None and full.written() == "full":
        keys.origins[path] = Origin(location=full.location, how="written", note="bf16: full, no autocast")
        return None
    if wants_bf16:
        keys.note(path, key, f"axolotl's default: bf16: auto; {why}", why)
        return Dtype.BF16
    if keys.flag("fp16"):
        keys.note(path, "fp16", "", why)
        return Dtype.FP16
    keys.note(path, None, "no mixed precision")
    return None


def optimizer(keys: Keys, sharding: str = "none") -> Optimizer:
    """The optimizer by name; the Trainer clips gradients unless ``max_grad_norm`` is 0."""
    limit = keys.get("max_grad_norm")
    keys.note("optimizer.clipping", "max_grad_norm", "the Trainer's default: gradients are clipped")
    found = named(keys, ("optimizer",), DEFAULT, "axolotl's default")
    return run(replace(found, clipping=limit is None or limit.written() not in ("0", "0.0")), sharding)


def _bf16(keys: Keys) -> tuple[bool, str | None]:
    """Whether bf16 is in use, and the key that says so."""
    if keys.flag("bfloat16"):
        return True, "bfloat16"
    value = keys.get("bf16")
    if value is None or value.written() == "auto":
        return not keys.flag("fp16"), "bf16"
    return (True, "bf16") if value.written() == "full" else (bool(keys.flag("bf16")), "bf16")
