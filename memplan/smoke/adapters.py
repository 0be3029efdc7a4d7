"""PEFT's adapters around a real model, and what frameworks do to the model first."""

from __future__ import annotations

from typing import Any

import torch

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Adapter, Workload
from memplan.simulator.blocks import EMBEDDINGS
from memplan.smoke.bitsandbytes import load_bitsandbytes
from memplan.smoke.cuda import TORCH


def adapt(model: Any, workload: Workload, *, causal: bool) -> Any:
    """The model with the workload's adapters, if it has any."""
    adapter = workload.adapter
    if adapter is None:
        return model
    load_bitsandbytes()
    if adapter.prepare_kbit:
        _prepare(model, workload)
    from peft import get_peft_model

    adapted = get_peft_model(
        model, _settings(adapter, causal=causal), autocast_adapter_dtype=adapter.dtype is Dtype.FP32
    )
    for parameter in adapted.parameters():
        if parameter.requires_grad and parameter.dtype is not TORCH[adapter.dtype]:
            parameter.data = parameter.data.to(TORCH[adapter.dtype])
    if adapter.half_embeddings:
        _halve_embeddings(model)
    return adapted


def _settings(adapter: Adapter, *, causal: bool) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=adapter.rank,
        target_modules=list(adapter.targets),
        lora_dropout=adapter.dropout,
        use_dora=adapter.dora,
        modules_to_save=list(adapter.modules_to_save) or None,
        task_type="CAUSAL_LM" if causal else None,
    )


def _prepare(model: Any, workload: Workload) -> None:
    """PEFT makes what is not quantized fp32; checkpointing is switched on elsewhere.

    Reentrant checkpoints need inputs with gradients, which ``get_peft_model`` sees to where nothing is
    quantized, and ``prepare_model_for_kbit_training`` where something is.
    """
    from peft import prepare_model_for_kbit_training

    prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    checkpointing = workload.checkpointing
    if workload.quantization is not None and checkpointing.every and checkpointing.reentrant:
        model.enable_input_require_grads()


def _halve_embeddings(model: Any) -> None:
    """Embeddings and head become bf16 again, found by name (``peft_module_casting_to_bf16`` in TRL)."""
    for name, parameter in model.named_parameters():
        if any(part in name for part in EMBEDDINGS) and not parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
