"""What of a model decides time, summed over its blocks once: products, and widths of what kernels read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from memplan.domain.architecture import Architecture, ParameterGroup
from memplan.domain.workload import Adapter

_IN_BLOCKS = "blocks"
_LEARNED_POSITIONS = ("position_embeddings", "embed_positions", "wpe", "relative_attention_bias")


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """``copies`` linear layers of one size; with ``experts``, matrices of which a token passes ``chosen``."""

    outputs: int
    inputs: int
    copies: int
    experts: int = 1
    chosen: int = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facts:
    """Sums over all blocks, in elements per token where nothing else is said.

    ``weights`` are those in products of blocks, ``busy`` those of them that a token passes, ``head`` those
    of the matrix that makes logits. ``norms`` and ``rotated`` are what norms and rotary positions go over,
    ``activated`` what the MLP's activation does, ``gated`` whether it multiplies with a gate. ``queries``
    and ``keys`` are widths of one block. ``layers`` counts linear layers, ``tensors`` parameters.
    """

    parameters: int
    tensors: int
    depth: int
    hidden: int
    vocabulary: int
    products: tuple[Product, ...]
    layers: int
    experts: int
    weights: int
    busy: int
    head: int
    norms: int
    layer_norm: bool
    rotated: int
    activated: int
    gated: bool
    queries: int
    keys: int
    heads: int
    causal: bool
    windows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """Layers that adapters wrap: their number, summed inputs and outputs, and what of them is trained."""

    layers: int
    inputs: int
    outputs: int
    low_rank: int
    trained: int
    tensors: int


_KNOWN: dict[int, tuple[Architecture, Facts]] = {}


def facts_of(model: Architecture) -> Facts:
    """The facts of a model, made once for each."""
    found = _KNOWN.get(id(model))
    if found is None or found[0] is not model:
        if len(_KNOWN) >= 256:
            _KNOWN.clear()
        _KNOWN[id(model)] = found = (model, _made(model))
    return found[1]


def _made(model: Architecture) -> Facts:
    inside = [group for group in model.groups if group.component == _IN_BLOCKS]
    products = tuple(_product(model, group) for group in inside if len(group.shape) in (2, 3))
    biases = {group.name.removesuffix(".bias") for group in inside if group.name.endswith(".bias")}
    norms = [group for group in inside if _is_norm(group)]
    queries = model.num_attention_heads * model.head_dim
    keys = model.num_key_value_heads * model.head_dim
    placed = any(word in group.name for group in model.groups for word in _LEARNED_POSITIONS)
    return Facts(
        parameters=model.parameters,
        tensors=sum(group.copies for group in model.groups),
        depth=model.depth,
        hidden=model.hidden_size,
        vocabulary=model.vocab_size,
        products=products,
        layers=sum(product.copies for product in products),
        experts=sum(product.copies * product.experts for product in products if product.experts > 1),
        weights=sum(
            product.outputs * product.inputs * product.copies * product.experts for product in products
        ),
        busy=sum(product.outputs * product.inputs * product.copies * product.chosen for product in products),
        head=model.vocab_size * model.hidden_size,
        norms=sum(_normed(model, group) for group in norms),
        layer_norm=any(group.name.removesuffix(".weight") in biases for group in norms),
        rotated=0 if placed else model.depth * (queries + keys),
        activated=_activated(model),
        gated=any("gate_" in group.name or "wi_0" in group.name for group in inside),
        queries=queries,
        keys=keys,
        heads=model.num_attention_heads,
        causal=model.causal and not model.masked,
        windows=tuple(_window(model, index) for index in range(model.num_hidden_layers)),
    )


def _product(model: Architecture, group: ParameterGroup) -> Product:
    *experts, outputs, inputs = group.shape
    chosen = model.mixture.chosen if experts and model.mixture else 1
    return Product(
        outputs=outputs,
        inputs=inputs,
        copies=group.copies,
        experts=experts[0] if experts else 1,
        chosen=min(chosen, experts[0]) if experts else 1,
    )


def _is_norm(group: ParameterGroup) -> bool:
    return (
        len(group.shape) == 1
        and not group.name.endswith("bias")
        and "norm"
        in group.name.lower() + ("norm" if ".ln_" in group.name or group.name.startswith("ln_") else "")
    )


def _normed(model: Architecture, group: ParameterGroup) -> int:
    """Norms of single heads go over all of them."""
    width = group.shape[0]
    heads = {"q_norm": model.num_attention_heads, "k_norm": model.num_key_value_heads}
    several = next((count for name, count in heads.items() if name in group.name), 1)
    return group.copies * width * (several if width == model.head_dim else 1)


def _activated(model: Architecture) -> int:
    mixture, depth = model.mixture, model.depth
    if mixture is None:
        return depth * model.intermediate_size
    dense = len(mixture.dense)
    return (depth - dense) * (
        mixture.chosen * mixture.width + mixture.shared
    ) + dense * model.intermediate_size


def _window(model: Architecture, index: int) -> int:
    """Positions that a block looks back at most; 0 for all."""
    return (model.sliding_window or 0) if model.layer_type(index) == "sliding_attention" else 0


@lru_cache(maxsize=1024)
def seen(facts: Facts, length: int) -> float:
    """Positions that a token's query meets without regard to order, averaged over the blocks."""
    if not facts.windows:
        return float(length)
    return sum(min(length, window or length) for window in facts.windows) / len(facts.windows)


_WRAPPED: dict[tuple[int, Adapter], tuple[Architecture, Adapted]] = {}


def adapted(model: Architecture, adapter: Adapter) -> Adapted:
    """What an adapter adds to a model, made once for each pair."""
    key = id(model), adapter
    found = _WRAPPED.get(key)
    if found is None or found[0] is not model:
        if len(_WRAPPED) >= 256:
            _WRAPPED.clear()
        _WRAPPED[key] = found = (model, _wrapped(model, adapter))
    return found[1]


def _wrapped(model: Architecture, adapter: Adapter) -> Adapted:
    named = {*adapter.targets, *adapter.parameters}
    groups = [
        group
        for group in model.groups
        if len(group.shape) in (2, 3) and not named.isdisjoint(group.name.split("."))
    ]
    low_rank = sum(adapter.rank * sum(group.shape[-2:]) * _matrices(group) for group in groups)
    whole = [
        group for group in model.groups if not set(adapter.modules_to_save).isdisjoint(group.name.split("."))
    ]
    return Adapted(
        layers=sum(group.copies for group in groups),
        inputs=sum(group.shape[-1] * group.copies for group in groups),
        outputs=sum(group.shape[-2] * group.copies for group in groups),
        low_rank=low_rank,
        trained=low_rank + sum(group.parameters for group in whole),
        tensors=sum(2 * group.copies for group in groups) + sum(group.copies for group in whole),
    )


def _matrices(group: ParameterGroup) -> int:
    return group.copies * (group.shape[0] if len(group.shape) == 3 else 1)
