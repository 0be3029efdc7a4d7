"""Real models generate the same text, and the same logits to the last bit, from a cache in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache, Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from memplan.domain.errors import FileAccessError
from memplan.mechanisms.context.transformers_cache import MappedCacheLayer, mapped_cache

pytestmark = pytest.mark.usefixtures("one_thread")

SIDES = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def llama(attention: str = "sdpa") -> Any:
    """A model of random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(num_hidden_layers=3, attn_implementation=attention, **SIDES)
    return LlamaForCausalLM(config).eval()


def generated(model: Any, cache: Any, tokens: torch.Tensor, **how: Any) -> Any:
    """Twelve new tokens and their logits."""
    wanted = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    return model.generate(
        tokens,
        past_key_values=cache,
        output_logits=True,
        return_dict_in_generate=True,
        **wanted | how,
    )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("how", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_generation_is_the_same_to_the_last_bit(attention: str, how: dict[str, Any], tmp_path: Path) -> None:
    """With beams too, whose caches change places."""
    model = llama(attention)
    tokens = torch.randint(0, 97, (2, 17), generator=torch.Generator().manual_seed(1))
    plain = generated(model, DynamicCache(config=model.config), tokens, **how)
    mapped = generated(model, mapped_cache(model.config, tmp_path), tokens, **how)
    assert torch.equal(plain.sequences, mapped.sequences)
    for ours, theirs in zip(mapped.logits, plain.logits, strict=True):
        assert torch.equal(ours, theirs)
    assert list(tmp_path.iterdir()) == []


def test_guesses_that_were_wrong_are_taken_back() -> None:
    """Assisted generation crops the cache."""
    model = llama()
    tokens = torch.randint(0, 97, (1, 9), generator=torch.Generator().manual_seed(2)).repeat(1, 2)
    plain = generated(model, DynamicCache(config=model.config), tokens, prompt_lookup_num_tokens=3)
    mapped = generated(model, mapped_cache(model.config), tokens, prompt_lookup_num_tokens=3)
    assert torch.equal(plain.sequences, mapped.sequences)


def test_only_layers_that_attend_to_everything_are_mapped() -> None:
    """Every other layer of Gemma 2 has a window, and stays in memory."""
    torch.manual_seed(0)
    config = Gemma2Config(num_hidden_layers=4, head_dim=16, sliding_window=8, **SIDES)
    model = Gemma2ForCausalLM(config).eval()
    cache = mapped_cache(config)
    assert [isinstance(layer, MappedCacheLayer) for layer in cache.layers] == [False, True, False, True]
    tokens = torch.randint(0, 97, (2, 17), generator=torch.Generator().manual_seed(3))
    plain = generated(model, DynamicCache(config=config), tokens)
    assert torch.equal(plain.sequences, generated(model, cache, tokens).sequences)


def test_a_quantized_cache_generates_and_a_reset_one_begins_anew() -> None:
    """With 8 bits a small model says the same for a while; after ``reset`` it says it again."""
    model = llama()
    tokens = torch.randint(0, 97, (1, 20), generator=torch.Generator().manual_seed(4))
    cache = mapped_cache(model.config, bits=8, group=16)
    first = generated(model, cache, tokens).sequences
    assert cache.get_seq_length() == 31
    cache.reset()
    assert cache.get_seq_length() == 0
    assert torch.equal(generated(model, cache, tokens).sequences, first)


def test_one_layer_is_in_memory_at_a_time() -> None:
    """The others hold neither views nor copies while their turn has not come."""
    model = llama()
    cache = mapped_cache(model.config)
    with torch.no_grad():
        model(torch.randint(0, 97, (1, 5)), past_key_values=cache)
    assert [layer.keys is None for layer in cache.layers] == [True, True, False]


def test_a_place_that_is_none_is_refused(tmp_path: Path) -> None:
    """Before the model runs."""
    with pytest.raises(FileAccessError, match="no directory"):
        mapped_cache(llama().config, tmp_path / "missing")
