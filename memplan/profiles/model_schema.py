"""What a file of ``profiles/models`` must hold; imported like ``schema``, only to read such files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator  # noqa: TID253  as in schema.py

from memplan.profiles.schema import Count, Day, Entry, HubId, Name, Words

SIZES: dict[str, tuple[str, ...]] = {
    "bert": (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
    ),
    "falcon": ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    "gpt2": ("vocab_size", "n_embd", "n_layer", "n_head", "n_positions"),
    "gpt_bigcode": ("vocab_size", "n_embd", "n_layer", "n_head", "n_positions"),
    "bloom": ("vocab_size", "hidden_size", "n_layer", "n_head"),
    "btlm": ("vocab_size", "n_embd", "n_layer", "n_head", "n_positions"),
    "dbrx": ("vocab_size", "d_model", "n_layers", "n_heads"),
    "gpt_neo": ("vocab_size", "hidden_size", "num_layers", "num_heads"),
    "mpt": ("vocab_size", "d_model", "n_layers", "n_heads"),
    "nemotron-nas": ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    "opt": (
        "vocab_size",
        "hidden_size",
        "ffn_dim",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
    ),
    "t5": ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads"),
    "vit": ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size"),
}
"""The fields without which a configuration of a type is not told from others; ``bert``'s for the rest."""


LAYOUTS: dict[str, dict[str, object]] = {
    "bnb-nf4": {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
    },
    "nf4-bf16": {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": "bfloat16",
    },
    "awq": {"quant_method": "awq"},
    "gptq": {"quant_method": "gptq"},
    "fp8": {"quant_method": "fp8"},
    "compressed": {"quant_method": "compressed-tensors"},
    "modelopt": {"quant_method": "modelopt"},
    "none": {},
}
"""What ``quantization_config`` a repository has in each layout.

``nf4-bf16`` says what its copies' names do, which leave open whether constants are quantized too; ``none`` is
a copy that has been unpacked.
"""

LayoutName = Annotated[
    Literal["bnb-nf4", "nf4-bf16", "awq", "gptq", "fp8", "compressed", "modelopt", "none"],
    Field(description="one of bnb-nf4, nf4-bf16, awq, gptq, fp8, compressed, modelopt, none"),
]


class QuantizationEntry(Entry):
    """How published weights are packed, by the names of transformers' quantization configs."""

    quant_method: Words
    load_in_4bit: bool | None = None
    load_in_8bit: bool | None = None
    bnb_4bit_quant_type: Literal["nf4", "fp4"] | None = None
    bnb_4bit_use_double_quant: bool | None = None
    bnb_4bit_compute_dtype: Words | None = None


class TextEntry(Entry):
    """The language model inside a config that holds several."""

    model_type: Words | None = None
    hidden_size: Count
    intermediate_size: Count | None = None
    moe_intermediate_size: Count | None = None
    num_hidden_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    vocab_size: Count
    max_position_embeddings: Count | None = None
    sliding_window: Count | None = None
    tie_word_embeddings: bool | None = None
    num_experts: Count | None = None
    num_local_experts: Count | None = None
    n_routed_experts: Count | None = None
    num_experts_per_tok: Count | None = None


class VisionEntry(Entry):
    """The tower that sees images."""

    model_type: Words | None = None
    hidden_size: Count
    intermediate_size: Count | None = None
    num_hidden_layers: Count
    num_attention_heads: Count
    image_size: Count
    patch_size: Count
    vision_use_head: bool | None = None


class ConfigEntry(Entry):
    """The fields of a ``config.json`` that decide memory, as the model's own file has them."""

    model_type: Words
    architectures: list[Words] | None = None
    hidden_size: Count | None = None
    intermediate_size: Count | None = None
    num_hidden_layers: Count | None = None
    num_attention_heads: Count | None = None
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    vocab_size: Count | None = None
    tie_word_embeddings: bool = False
    max_position_embeddings: Count | None = None
    sliding_window: Count | None = None
    use_sliding_window: bool | None = None
    max_window_layers: Count | None = None
    attention_bias: bool | None = None
    mlp_bias: bool | None = None
    hidden_act: Words | None = None
    partial_rotary_factor: float | None = None
    # GPT-2
    n_embd: Count | None = None
    n_layer: Count | None = None
    n_head: Count | None = None
    n_positions: Count | None = None
    n_inner: Count | None = None
    # GPT-NeoX, OPT
    rotary_pct: float | None = None
    use_parallel_residual: bool | None = None
    ffn_dim: Count | None = None
    word_embed_proj_dim: Count | None = None
    do_layer_norm_before: bool | None = None
    # Falcon
    num_kv_heads: Count | None = None
    alibi: bool | None = None
    bias: bool | None = None
    multi_query: bool | None = None
    new_decoder_architecture: bool | None = None
    parallel_attn: bool | None = None
    # BERT, ViT, T5
    type_vocab_size: Count | None = None
    num_labels: Count | None = None
    image_size: Count | None = None
    patch_size: Count | None = None
    num_channels: Count | None = None
    d_model: Count | None = None
    d_kv: Count | None = None
    d_ff: Count | None = None
    num_layers: Count | None = None
    num_decoder_layers: Count | None = None
    num_heads: Count | None = None
    feed_forward_proj: Words | None = None
    # Mixtral, Qwen3-MoE, GPT-OSS
    num_local_experts: Count | None = None
    num_experts: Count | None = None
    num_experts_per_tok: Count | None = None
    moe_intermediate_size: Count | None = None
    decoder_sparse_step: Count | None = None
    norm_topk_prob: bool | None = None
    quantization_config: QuantizationEntry | None = None
    shared_expert_intermediate_size: Count | None = None
    # DeepSeek-V3
    n_routed_experts: Count | None = None
    n_shared_experts: Count | None = None
    n_group: Count | None = None
    topk_group: Count | None = None
    first_k_dense_replace: Count | None = None
    q_lora_rank: Count | None = None
    kv_lora_rank: Count | None = None
    qk_nope_head_dim: Count | None = None
    qk_rope_head_dim: Count | None = None
    v_head_dim: Count | None = None
    # Families that are not simulated, known by their dimensions
    n_layers: Count | None = None
    n_heads: Count | None = None
    max_seq_len: Count | None = None
    # A language model with other parts beside it
    text_config: TextEntry | None = None
    vision_config: VisionEntry | None = None
    torch_dtype: Literal["float32", "float16", "bfloat16"] | None = None

    @model_validator(mode="after")
    def _has_its_sizes(self) -> ConfigEntry:
        needed = ("text_config",) if self.text_config else SIZES.get(self.model_type, SIZES["bert"])
        missing = [name for name in needed if getattr(self, name) is None]
        if self.moe_intermediate_size is not None and "intermediate_size" in missing:
            missing.remove("intermediate_size")
        if missing:
            raise ValueError(f"a {self.model_type} needs {', '.join(missing)}")
        return self


class ModelEntry(Entry):
    """One architecture and the hub ids that have it.

    ``quantized`` lists ids whose files hold the same weights in a layout of ``LAYOUTS``.
    """

    ids: list[HubId] = Field(min_length=1, description="a list of hub ids")
    quantized: dict[LayoutName, list[HubId]] = Field(default={}, description="hub ids by layout")
    parameters: Count
    source: Words
    date: Day
    config: ConfigEntry


class ModelFile(Entry):
    """A file of ``profiles/models``."""

    architectures: dict[Name, ModelEntry]
