"""Whatever is done to a mapped cache, it holds what a list of tensors would."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.mechanisms.context import kept
from memplan.mechanisms.context.mapped import MappedCache

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 60)),
    st.tuples(st.just("truncate"), st.floats(0, 1)),
    st.tuples(st.just("select"), st.lists(st.integers(0, 1), min_size=1, max_size=3)),
    st.tuples(st.just("release"), st.none()),
    st.tuples(st.just("reserve"), st.integers(0, 300)),
    st.tuples(st.just("keep"), st.none()),
)


def _do(cache: MappedCache, step: str, given_with: Any, keys: torch.Tensor, folder: Any) -> Any:
    """The cache afterwards (another one if it was kept and loaded) and the keys it should hold."""
    if step == "append":
        new = torch.randn(keys.shape[0], 2, given_with, 3)
        cache.append(new, -new, 0)
        return cache, torch.cat((keys, new), 2)
    if step == "truncate":
        tokens = int(given_with * keys.shape[2])
        cache.truncate(tokens)
        return cache, keys[:, :, :tokens]
    if step == "select":
        indices = torch.tensor([index % keys.shape[0] for index in given_with])
        cache.layers[0].select(indices)
        return cache, keys[indices]
    if step == "release":
        cache.release()
    if step == "reserve" and cache.layers[0].row is not None:
        cache.reserve(given_with, cache.layers[0].row)
    if step == "keep" and keys.shape[2]:
        place = folder / str(len(list(folder.iterdir())))
        kept.save(cache, place)
        cache.close()
        cache = kept.load(place)
    return cache, keys


@given(steps=st.lists(STEPS, max_size=12), in_memory=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_history_leaves_what_was_put_in(
    steps: list[tuple[str, Any]], in_memory: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Views taken on the way stay what they were, unless their tokens were written over."""
    folder = tmp_path_factory.mktemp("kept")
    first = torch.randn(2, 2, 5, 3)
    cache = MappedCache(layers=1, in_memory=in_memory)
    cache.append(first, -first, 0)
    keys = first
    for step, given_with in steps:
        cache, keys = _do(cache, step, given_with, keys, folder)
        found_keys, found_values = cache.read(0)
        assert torch.equal(found_keys, keys)
        assert torch.equal(found_values, -keys)
        assert cache.tokens == keys.shape[2]
    cache.close()
