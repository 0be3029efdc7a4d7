"""litgpt's ``Block``: norms, attention on packed projections with partial rotation, and a gated or plain MLP.

Follows litgpt/model.py statement by statement; where releases differ, see ``Release``. Keys and values are
spread over all query heads before attention, so that every kernel can run.

Shapes: hidden states (B, T, C), query, key and value (B, H, T, D), rotary tables (T, D) in fp32.
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention
from memplan.families.litgpt.design import Design, Release
from memplan.families.litgpt.layers import LoraLinear, PackedLinear, Stores
from memplan.families.litgpt.memory import KeyValues
from memplan.simulator import attention, ops, shapes
from memplan.simulator.activations import ACTIVATIONS
from memplan.simulator.blocks import Store
from memplan.simulator.norms import LayerNorm
from memplan.simulator.splits import split, split_last
from memplan.simulator.tensor import Tensor


class RMSNorm:
    """``RMSNorm`` of litgpt, in the ways its releases have written it."""

    __slots__ = ("name", "offset", "release", "weight")

    def __init__(self, store: Store, name: str, shape: Design, release: Release) -> None:
        self.name = name
        self.release = release
        self.offset = shape.unit_offset
        self.weight = store.parameter(f"{name}.weight", (shape.width,))

    def __call__(self, x: Tensor) -> Tensor:
        x.tape.scope = self.name
        return self._narrow(x) if self.release.narrow_norms else self._wide(x)

    def _narrow(self, x: Tensor) -> Tensor:
        norm_x = ops.mean_last(ops.mul(x, x))
        x_normed = ops.mul(x, ops.rsqrt(ops.add_scalar(norm_x)))
        return ops.mul(self.weight, x_normed)

    def _wide(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = ops.to(x, Dtype.FP32)
        norm_x = ops.mean_last(ops.mul(x, x))
        x_normed = ops.mul(x, ops.rsqrt(ops.add_scalar(norm_x)))
        if self.release.wide_scale:
            weight: Tensor = ops.add_scalar(self.weight) if self.offset else self.weight
            return ops.to(ops.mul(x_normed, ops.to(weight, Dtype.FP32)), dtype)
        x_normed = ops.to(x_normed, dtype)
        return ops.mul(x_normed, ops.add_scalar(self.weight) if self.offset else self.weight)


def norm(store: Store, name: str, shape: Design, release: Release) -> RMSNorm | LayerNorm:
    """A norm of the model's kind."""
    return RMSNorm(store, name, shape, release) if shape.rms else LayerNorm(store, name, shape.width)


def apply_rope(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """``apply_rope``: products with the fp32 tables are fp32, their sum is cast back."""
    width = x.shape[-1] // 2
    x1, x2 = shapes.narrow_last(x, width), shapes.narrow_last(x, width)
    rotated = shapes.cat_last(ops.neg(x2), x1)
    roped = ops.add(ops.mul(x, cosine), ops.mul(rotated, sine))
    return ops.to(roped, x.dtype)


class SelfAttention:
    """``CausalSelfAttention``."""

    __slots__ = ("attn", "cache", "kind", "proj", "release", "shape", "windowed")

    def __init__(
        self, stores: Stores, shape: Design, release: Release, kind: Attention, *, windowed: bool
    ) -> None:
        self.windowed = windowed
        self.shape = shape
        self.release = release
        self.kind = kind
        self.cache: KeyValues | None = None
        self.attn = PackedLinear(stores, "h.*.attn.attn", shape)
        sides = (shape.heads * shape.head, shape.width)
        self.proj = LoraLinear(stores, "h.*.attn.proj", sides, "projection", bias=shape.bias)

    def __call__(self, x: Tensor, mask: Tensor | None, cosine: Tensor, sine: Tensor) -> Tensor:
        shape = self.shape
        batch, length, _ = x.shape
        qkv = self.attn(x)
        x.tape.scope = "h.*.attn"
        if self.release.interleaved:
            total = shape.heads // shape.groups + 2
            qkv = shapes.view(qkv, (batch, length, shape.groups, total, shape.head))
            qkv = _permuted(qkv)
            q, k, v = split(qkv, 2, (total - 2, 1, 1))
            k, v = self._expanded(k), self._expanded(v)
            q = self._heads(q)
            k = self._heads(k)
            v = self._heads(v)
        else:
            keys = shape.groups * shape.head
            q, k, v = split_last(qkv, (shape.heads * shape.head, keys, keys))
            q = shapes.view(q, (batch, length, shape.heads, shape.head))
            k = shapes.view(k, (batch, length, shape.groups, shape.head))
            v = shapes.view(v, (batch, length, shape.groups, shape.head))
            q = shapes.transpose(q, 1, 2)
            k = shapes.transpose(k, 1, 2)
            v = shapes.transpose(v, 1, 2)
        rest = shape.head - shape.rotary
        q_roped = apply_rope(shapes.narrow_last(q, shape.rotary), cosine, sine)
        k_roped = apply_rope(shapes.narrow_last(k, shape.rotary), cosine, sine)
        q = shapes.cat_last(q_roped, shapes.narrow_last(q, rest))
        k = shapes.cat_last(k_roped, shapes.narrow_last(k, rest))
        if self.cache is not None:
            k, v = self.cache.update(k, v)
        if not self.release.interleaved and self._spreads():
            k = self._repeated(k)
            v = self._repeated(v)
        x.tape.scope = "h.*.attn"
        if self.windowed and mask is None:
            # What is added to the mask has a name, and so lives as long as the module's frame.
            mask, _bias = _window(q, replaces=self.release.window_replaces)
        y = attention.sdpa(self.kind, q, k, v, mask)
        y = shapes.view(y, (batch, length, shape.heads * shape.head))
        return self.proj(y)

    def _spreads(self) -> bool:
        """Keys are spread over query heads, but for a single one in generation."""
        shape = self.shape
        return shape.groups != shape.heads and (self.cache is None or shape.groups != 1)

    def _expanded(self, x: Tensor) -> Tensor:
        if not self._spreads():
            return x
        batch, groups, _, length, width = x.shape
        return shapes.expand(x, (batch, groups, self.shape.heads // self.shape.groups, length, width))

    def _heads(self, x: Tensor) -> Tensor:
        batch, groups, each, length, width = x.shape
        return shapes.view(x, (batch, groups * each, length, width))

    def _repeated(self, x: Tensor) -> Tensor:
        """``repeat_interleave``: an expanded view, copied as a whole."""
        batch, groups, length, width = x.shape
        each = self.shape.heads // groups
        expanded = shapes.expand(shapes.unsqueeze(x, 2), (batch, groups, each, length, width))
        return shapes.view(ops.clone(expanded), (batch, groups * each, length, width))


def _window(query: Tensor, *, replaces: bool) -> tuple[Tensor, Tensor | None]:
    """A mask (T, T) in the query's dtype, made by every layer; what was added to it for the window."""
    tape, sides = query.tape, (query.shape[2], query.shape[2])
    ones = tape.empty(sides, query.dtype, "ones")
    mask = tape.empty(sides, query.dtype, "triu")
    del ones
    _filled(mask)
    if replaces:
        return tape.empty(sides, query.dtype, "full"), None
    ones = tape.empty(sides, query.dtype, "ones_like")
    bias = tape.empty(sides, query.dtype, "tril")
    del ones
    _filled(bias)
    return mask, bias


def _filled(mask: Tensor) -> None:
    """``mask.masked_fill_(mask.bool(), …)``."""
    _ = ops.like(mask, "bool", Dtype.BOOL)


def _permuted(x: Tensor) -> Tensor:
    """``permute(0, 2, 3, 1, 4)`` of (B, T, G, Q, D)."""
    return shapes.transpose(shapes.transpose(x, 1, 2), 2, 3)


class Mlp:
    """``LLaMAMLP``, ``GemmaMLP`` and ``GptNeoxMLP``."""

    __slots__ = ("act", "first", "gated", "proj", "second")

    def __init__(self, stores: Stores, shape: Design) -> None:
        sides = (shape.width, shape.inner)
        self.gated = shape.gated
        self.act = ACTIVATIONS[shape.activation]
        name = "fc_1" if shape.gated else "fc"
        self.first = LoraLinear(stores, f"h.*.mlp.{name}", sides, "mlp", bias=shape.bias)
        if shape.gated:
            self.second = LoraLinear(stores, "h.*.mlp.fc_2", sides, "mlp", bias=shape.bias)
        self.proj = LoraLinear(stores, "h.*.mlp.proj", sides[::-1], "mlp", bias=shape.bias)

    def __call__(self, x: Tensor) -> Tensor:
        """The module's call holds its input until it returns."""
        return self._gated(x) if self.gated else self._plain(x)

    def _gated(self, x: Tensor) -> Tensor:
        x_fc_1 = self.first(x)
        x_fc_2 = self.second(x)
        x = ops.mul(self.act(x_fc_1), x_fc_2)
        return self.proj(x)

    def _plain(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.act(x)
        return self.proj(x)


class Block:
    """``Block``: attention and MLP one after the other, or side by side."""

    __slots__ = ("attn", "mlp", "norm_1", "norm_2", "release", "shape")

    def __init__(
        self, stores: Stores, shape: Design, release: Release, kind: Attention, *, windowed: bool
    ) -> None:
        self.shape = shape
        self.release = release
        self.norm_1 = norm(stores.weights, "h.*.norm_1", shape, release)
        self.attn = SelfAttention(stores, shape, release, kind, windowed=windowed)
        self.norm_2 = self.norm_1 if shape.shared_norm else norm(stores.weights, "h.*.norm_2", shape, release)
        self.mlp = Mlp(stores, shape)

    def __call__(self, x: Tensor, mask: Tensor | None, cosine: Tensor, sine: Tensor) -> Tensor:
        x_normed = self.norm_1(x)
        attention_output = self.attn(x_normed, mask, cosine, sine)
        if self.release.sums_first:
            return self._older(x, x_normed, attention_output)
        if self.release.names_norms:
            if self.shape.parallel:
                x_normed = x_normed if self.shape.shared_norm else self.norm_2(x)
                x = ops.add(attention_output, x)
            else:
                x = ops.add(attention_output, x)
                x_normed = self.norm_2(x)
            return ops.add(self.mlp(x_normed), x)
        if self.shape.parallel:
            x_normed = x_normed if self.shape.shared_norm else self.norm_2(x)
            x = ops.add(ops.add(self.mlp(x_normed), attention_output), x)
        else:
            x = ops.add(attention_output, x)
            x = ops.add(self.mlp(self.norm_2(x)), x)
        return x

    def _older(self, x: Tensor, n_1: Tensor, h: Tensor) -> Tensor:
        if self.shape.parallel:
            n_2 = n_1 if self.shape.shared_norm else self.norm_2(x)
            x = ops.add(ops.add(x, h), self.mlp(n_2))
        else:
            x = ops.add(x, h)
            x = ops.add(x, self.mlp(self.norm_2(x)))
        return x
