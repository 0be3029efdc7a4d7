"""The names by which adapters reach experts, of model types whose experts used to be linear layers.

Where transformers 5 made parameters of such layers, ``peft`` still takes the layers' names and adapts the
parameters instead (``_convert_peft_config_moe`` in peft src/peft/utils/transformers_weight_conversion.py).
"""

from __future__ import annotations

from collections.abc import Mapping

_LLAMA_NAMES = {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj", "down_proj": "down_proj"}

NAMES: Mapping[str, Mapping[str, str]] = {
    "mixtral": {"w1": "gate_up_proj", "w3": "gate_up_proj", "w2": "down_proj"},
    "qwen3_moe": _LLAMA_NAMES,
    "deepseek_v3": _LLAMA_NAMES,
}
"""The parameter that took the place of each layer, by model type."""
