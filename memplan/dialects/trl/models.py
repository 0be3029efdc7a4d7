"""The model of a TRL run: its dtype, quantization and adapter (``ModelConfig``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from memplan.dialects.keys import Keys
from memplan.dialects.reading import Intake
from memplan.dialects.trainer import LoraKeys, Model, adapting, lora, named, weights
from memplan.dialects.trainer.precision import mixed
from memplan.dialects.trl.releases import Release
from memplan.domain.adapting import Adapting
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Adapter, Quantization

DTYPE = ("dtype", "torch_dtype")
LORA = LoraKeys(rank_default=16, dropout_default=0.05, says="TRL's default")


def model(keys: Keys, release: Release, folder: Path, intake: Intake) -> Model:
    """What ``ModelConfig`` describes.

    Raises:
        FieldError, UnknownNameError, FileAccessError: no model is named, or none that can be found.
    """
    shape = named(keys, ("model_name_or_path",), folder, intake)
    says = f"{release.arguments.default}: float32"
    params = weights(keys, DTYPE, shape, Dtype.FP32, says)
    quantized = _quantization(keys, params)
    adapter = _adapter(keys, release, shape, quantized)
    direct = quantized is not None or release.fused
    return Model(
        shape=shape,
        params=params,
        adapter=adapter,
        quantization=quantized,
        loading="direct" if direct else "mapped",
        adapting=_adapting(keys, release, shape, params),
    )


def _adapting(keys: Keys, release: Release, shape: Architecture, params: Dtype) -> Adapting | None:
    """LoRA over weights as they are, or over 4-bit ones, whose dtype then is that of the forward pass."""
    found = adapting.plain(keys, LORA, shape)
    if found is None:
        return None
    half = mixed(adapting.aside(keys), release.arguments)
    over = half if half is not None and params is Dtype.FP32 else params
    quantization = adapting.four_bits(over)
    return Adapting(
        plain=found,
        params=params,
        quantized=_over(keys, release, found, quantization),
        quantization=quantization,
        quantized_params=over,
        quantized_loading="direct",
    )


def _quantization(keys: Keys, params: Dtype) -> Quantization | None:
    """bitsandbytes' storage; it computes in the dtype of the weights (``get_quantization_config``)."""
    for key in ("load_in_4bit", "load_in_8bit"):
        if not keys.flag(key):
            continue
        keys.note("quantization", key)
        if key == "load_in_8bit":
            return Quantization(kind="int8", compute=params)
        kind = keys.get("bnb_4bit_quant_type")
        return Quantization(
            kind="nf4" if kind is None else kind.choice(("nf4", "fp4")),
            double=bool(keys.flag("use_bnb_nested_quant")),
            compute=params,
        )
    keys.note("quantization", None, "TRL's default: none")
    return None


def _adapter(
    keys: Keys, release: Release, shape: Architecture, quantized: Quantization | None
) -> Adapter | None:
    """LoRA in fp32; over quantized weights it is bf16 today, and was prepared by PEFT before.

    Source: ``SFTTrainer.__init__`` in trl/trainer/sft_trainer.py (1.16); ``_prepare_peft_model`` and
    ``peft_module_casting_to_bf16`` of 0.18, which made embeddings and head bf16 again.
    """
    keys.note("adapter", "use_peft", "TRL's default: none, all parameters are trained")
    if not keys.flag("use_peft"):
        return None
    found = lora(keys, LORA, shape)
    return found if quantized is None else _over(keys, release, found, quantized)


def _over(keys: Keys, release: Release, found: Adapter, quantized: Quantization) -> Adapter:
    """The adapter over quantized weights."""
    if not release.kbit:
        return replace(found, dtype=Dtype.BF16)
    half = bool(keys.flag("bf16")) and quantized.kind != "int8"
    return replace(found, prepare_kbit=True, half_embeddings=half)
