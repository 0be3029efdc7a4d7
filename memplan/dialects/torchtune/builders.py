"""torchtune's model builders: which published model each makes, and with what adapter.

``torchtune.models.llama3_1.qlora_llama3_1_8b`` says size, adapter and quantization at once. Source:
torchtune/models/*/_model_builders.py (0.6.1, and main of April 2026). Fine-tuned models of one size share
a builder.
"""

from __future__ import annotations

from dataclasses import dataclass

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.domain.errors import UnknownNameError

PREFIX = "torchtune.models."

BUILDERS: dict[str, str] = {
    "llama2_7b": "meta-llama/Llama-2-7b-hf",
    "llama2_13b": "meta-llama/Llama-2-13b-hf",
    "llama2_70b": "meta-llama/Llama-2-70b-hf",
    "code_llama2_7b": "codellama/CodeLlama-7b-hf",
    "code_llama2_13b": "codellama/CodeLlama-13b-hf",
    "code_llama2_70b": "codellama/CodeLlama-70b-hf",
    "llama3_8b": "meta-llama/Meta-Llama-3-8B",
    "llama3_70b": "meta-llama/Meta-Llama-3-70B",
    "llama3_1_8b": "meta-llama/Llama-3.1-8B",
    "llama3_1_70b": "meta-llama/Llama-3.1-70B",
    "llama3_1_405b": "meta-llama/Llama-3.1-405B",
    "llama3_2_1b": "meta-llama/Llama-3.2-1B",
    "llama3_2_3b": "meta-llama/Llama-3.2-3B",
    "llama3_3_70b": "meta-llama/Llama-3.3-70B-Instruct",
    "llama3_2_vision_11b": "meta-llama/Llama-3.2-11B-Vision-Instruct",
    "llama3_2_vision_90b": "meta-llama/Llama-3.2-90B-Vision-Instruct",
    "llama4_scout_17b_16e": "meta-llama/Llama-4-Scout-17B-16E-Instruct",
    "llama4_maverick_17b_128e": "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
    "mistral_7b": "mistralai/Mistral-7B-v0.1",
    "phi3_mini": "microsoft/Phi-3-mini-4k-instruct",
    "phi4_14b": "microsoft/phi-4",
    "gemma_2b": "google/gemma-2b",
    "gemma_7b": "google/gemma-7b",
    "gemma2_2b": "google/gemma-2-2b",
    "gemma2_9b": "google/gemma-2-9b",
    "gemma2_27b": "google/gemma-2-27b",
    "qwen2_0_5b": "Qwen/Qwen2-0.5B-Instruct",
    "qwen2_1_5b": "Qwen/Qwen2-1.5B-Instruct",
    "qwen2_7b": "Qwen/Qwen2-7B-Instruct",
    "qwen2_5_0_5b": "Qwen/Qwen2.5-0.5B-Instruct",
    "qwen2_5_1_5b_base": "Qwen/Qwen2.5-1.5B",
    "qwen2_5_1_5b_instruct": "Qwen/Qwen2.5-1.5B-Instruct",
    "qwen2_5_3b": "Qwen/Qwen2.5-3B-Instruct",
    "qwen2_5_7b_base": "Qwen/Qwen2.5-7B",
    "qwen2_5_7b_instruct": "Qwen/Qwen2.5-7B-Instruct",
    "qwen2_5_14b_base": "Qwen/Qwen2.5-14B",
    "qwen2_5_14b_instruct": "Qwen/Qwen2.5-14B-Instruct",
    "qwen2_5_32b_base": "Qwen/Qwen2.5-32B",
    "qwen2_5_32b_instruct": "Qwen/Qwen2.5-32B-Instruct",
    "qwen2_5_72b_base": "Qwen/Qwen2.5-72B",
    "qwen2_5_72b_instruct": "Qwen/Qwen2.5-72B-Instruct",
    "qwen3_0_6b_base": "Qwen/Qwen3-0.6B-Base",
    "qwen3_0_6b_instruct": "Qwen/Qwen3-0.6B",
    "qwen3_1_7b_base": "Qwen/Qwen3-1.7B-Base",
    "qwen3_1_7b_instruct": "Qwen/Qwen3-1.7B",
    "qwen3_4b_base": "Qwen/Qwen3-4B-Base",
    "qwen3_4b_instruct": "Qwen/Qwen3-4B",
    "qwen3_8b_base": "Qwen/Qwen3-8B-Base",
    "qwen3_8b_instruct": "Qwen/Qwen3-8B",
    "qwen3_14b_base": "Qwen/Qwen3-14B-Base",
    "qwen3_14b_instruct": "Qwen/Qwen3-14B",
    "qwen3_32b": "Qwen/Qwen3-32B",
}
"""Hub id of the model each builder makes without adapters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """What a builder's name says: the model's hub id, whether it has adapters, whether it is quantized."""

    hub_id: str
    adapted: bool = False
    quantized: bool = False


def builder(keys: Keys, value: Value) -> Builder:
    """The builder that ``_component_`` names.

    A name without ``_base`` or ``_instruct`` where both exist gets the first, with a warning.

    Raises:
        UnknownNameError: torchtune has no model builder of that name that memplan knows.
    """
    name = value.word().rpartition(".")[2]
    quantized, adapted = name.startswith("qlora_"), name.startswith(("lora_", "qlora_"))
    bare = name.partition("lora_")[2] if adapted else name
    hub_id = BUILDERS.get(bare) if value.word().startswith(PREFIX) else None
    if hub_id is None and value.word().startswith(PREFIX):
        hub_id = _of_several(keys, value, bare)
    if hub_id is None:
        raise UnknownNameError.nearest(
            "model builder of torchtune",
            value.word(),
            [f"{PREFIX}{bare.rpartition('_')[0]}.{known}" for known in BUILDERS],
            location=value.location,
            hint="a builder of one size is needed, such as torchtune.models.llama3_1.llama3_1_8b",
        )
    return Builder(hub_id=hub_id, adapted=adapted, quantized=quantized)


def _of_several(keys: Keys, value: Value, bare: str) -> str | None:
    found = next((known for known in BUILDERS if known in (f"{bare}_base", f"{bare}_instruct")), None)
    if found is None:
        return None
    keys.warn(value, f"torchtune has {bare}_base and {bare}_instruct, but no {bare}: read as the former")
    return BUILDERS[found]
