"""Random changes to LLaMA-Factory, oumi and ms-swift files: what is planned is read back, the rest stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .test_laws import EXACT, changes, check

LLAMAFACTORY = [
    "model_name_or_path: meta-llama/Llama-3.2-1B\nfinetuning_type: lora\n",
    "# tuned\r\nmodel_name_or_path: meta-llama/Llama-3.2-1B # 1B\r\nstage: sft\r\nfinetuning_type: full\r\n"
    "disable_gradient_checkpointing: yes\r\nper_device_train_batch_size: 0x4\r\nuse_dft_loss: true\r\n",
    "\ufeff{model_name_or_path: meta-llama/Llama-3.2-1B, finetuning_type: lora, cutoff_len: 1_024}",
    "model: meta-llama/Llama-3.2-1B\nkernel_config:\n  name: auto\nmicro_batch_size: 4\n",
]
OUMI = [
    "model:\n  model_name: meta-llama/Llama-3.2-1B\n  model_max_length: 512\ntraining:\n  seed: 1\n",
    "training:\n    # small\n    per_device_train_batch_size: 2 # two\n"
    "    enable_gradient_checkpointing: True\n"
    "    gradient_checkpointing_kwargs:\n        use_reentrant: True\n\n"
    "model: {model_name: meta-llama/Llama-3.2-1B, model_max_length: 512}\nfsdp:\n    enable_fsdp: true\n",
]
MS_SWIFT = [
    "model: meta-llama/Llama-3.2-1B\ntrain_type: lora\nmax_length: '512'\ngradient_accumulation_steps: 2\n",
    "tuner_type: full\nmodel: meta-llama/Llama-3.2-1B\nmax_length: 64\ngradient_checkpointing_kwargs:\n"
    "  use_reentrant: false\nENV:\n  MAX_PIXELS: '1003520'",
]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.sampled_from([*LLAMAFACTORY, *OUMI, *MS_SWIFT]), wanted=changes(EXACT))
def test_files_read_back_as_planned(tmp_path: Path, text: str, wanted: dict[str, Any]) -> None:
    # A global batch that follows from the number of GPUs is not written without it.
    derived = "kernel_config" in text or "tuner_type: full" in text
    check(tmp_path / "train.yaml", text, wanted, may_refuse=derived)
