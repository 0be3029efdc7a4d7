"""Multi-head latent attention, as DeepSeek's models have it: ``DeepseekV3Attention`` of transformers 5.x.

Shapes: B batch, S sequence, H heads; heads of query and key are ``plain + rotary`` wide.
"""

from __future__ import annotations

from memplan.domain.architecture import Latent
from memplan.domain.workload import Attention
from memplan.families.attention_block import Block
from memplan.simulator import attention, cache, inplace, shapes
from memplan.simulator.blocks import Store, rotate
from memplan.simulator.interleaved import rotate_pairs
from memplan.simulator.splits import split_last
from memplan.simulator.tensor import Tensor


class LatentBlock(Block):
    """A decoder block with latent attention."""

    __slots__ = ("kv_a_layernorm", "latent", "q_a_layernorm")

    def load_attention(self, store: Store) -> None:
        """The layers of the attention module, in load order."""
        shape = self.shape
        latent = self.latent = _latent(shape.latent)
        hidden, heads, bias = shape.hidden_size, shape.num_attention_heads, shape.attention_bias
        queries = heads * (latent.plain + latent.rotary)
        if latent.query_rank is None:
            self.load(store, "self_attn", "q_proj", (hidden, queries))
        else:
            self.load(store, "self_attn", "q_a_proj", (hidden, latent.query_rank), bias=bias)
            self.q_a_layernorm = self.norm(store, "self_attn.q_a_layernorm", latent.query_rank)
            self.load(store, "self_attn", "q_b_proj", (latent.query_rank, queries))
        compressed = (hidden, latent.rank + latent.rotary)
        self.load(store, "self_attn", "kv_a_proj_with_mqa", compressed, bias=bias)
        self.kv_a_layernorm = self.norm(store, "self_attn.kv_a_layernorm", latent.rank)
        self.load(store, "self_attn", "kv_b_proj", (latent.rank, heads * (latent.plain + latent.value)))
        self.load(store, "self_attn", "o_proj", (heads * latent.value, hidden), bias=bias)

    def attend(
        self, hidden_states: Tensor, mask: Tensor | None, cosine: Tensor, sine: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Queries of all heads, keys and values from what a cache would hold; then attention as ever."""
        latent, heads = self.latent, self.shape.num_attention_heads
        batch, length, _ = hidden_states.shape
        q_states = self._queries(hidden_states)
        q_states = shapes.transpose(
            shapes.view(q_states, (batch, length, heads, latent.plain + latent.rotary)), 1, 2
        )
        q_pass, q_rot = split_last(q_states, (latent.plain, latent.rotary))
        compressed = self.linears["kv_a_proj_with_mqa"](hidden_states)
        kv_nope, k_rot = split_last(compressed, (latent.rank, latent.rotary))
        kv_nope = self.kv_a_layernorm(kv_nope)
        hidden_states.tape.scope = "layers.*.self_attn"
        kv_nope = shapes.view(kv_nope, (batch, 1, length, latent.rank))
        k_rot = shapes.view(k_rot, (batch, 1, length, latent.rotary))
        turn = rotate_pairs if latent.interleaved else rotate
        q_rot, k_rot = turn(q_rot, k_rot, cosine, sine)
        kv_nope, k_rot = cache.update(kv_nope, k_rot)
        query = shapes.cat_last(q_pass, q_rot)
        key, value = self._expanded(kv_nope, k_rot)
        return self._mixed(query, key, value, mask)

    def _queries(self, hidden_states: Tensor) -> Tensor:
        layers = self.linears
        if self.latent.query_rank is None:
            return layers["q_proj"](hidden_states)
        return layers["q_b_proj"](self.q_a_layernorm(layers["q_a_proj"](hidden_states)))

    def _expanded(self, kv_nope: Tensor, k_rot: Tensor) -> tuple[Tensor, Tensor]:
        """``expand_kv``: keys in new memory, values as a view of their projection."""
        latent, heads = self.latent, self.shape.num_attention_heads
        batch, _, length, _ = kv_nope.shape
        projected = self.linears["kv_b_proj"](kv_nope)
        projected.tape.scope = "layers.*.self_attn"
        kv_nope = shapes.view(projected, (batch, length, heads, latent.plain + latent.value))
        del projected
        kv_nope = shapes.transpose(kv_nope, 1, 2)
        k_nope, value = split_last(kv_nope, (latent.plain, latent.value))
        k_rot = shapes.expand(k_rot, (batch, heads, length, latent.rotary))
        sides = (batch, heads, length, latent.plain + latent.rotary)
        key = kv_nope.tape.empty(sides, kv_nope.dtype, "new_empty")
        key = inplace.copy_into(key, k_nope)
        key = inplace.copy_into(key, k_rot)
        return key, value

    def _mixed(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Attention and the output projection; heads of the result are as wide as those of value."""
        weights: Tensor | None = None
        if self.kind is Attention.EAGER:
            output, weights = attention.eager(query, key, value, mask)
        else:
            output = attention.sdpa(self.kind, query, key, value, mask)
        batch, heads, length, _ = query.shape
        output = shapes.contiguous(shapes.view(output, (batch, length, heads * value.shape[3])))
        output = self.linears["o_proj"](output)
        return output, weights


def _latent(found: Latent | None) -> Latent:
    assert found is not None
    return found
