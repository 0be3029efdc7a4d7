from __future__ import annotations

import pytest

from memplan.domain.allocator import AllocatorOptions, divisions, spelled
from memplan.simulator import rounding

MIB = 2**20


def test_the_options_of_the_environment_variable_are_read() -> None:
    text = "max_split_size_mb:128, garbage_collection_threshold:0.8,expandable_segments:True"
    assert AllocatorOptions.parse(text) == AllocatorOptions(
        expandable_segments=True, max_split_size_mb=128, garbage_collection_threshold=0.8
    )
    assert AllocatorOptions.parse("") == AllocatorOptions()


def test_divisions_are_one_number_or_one_for_each_size() -> None:
    assert divisions("8") == (8,) * 16
    assert divisions("[256:1,512:2,1024:4,>:8]") == (*(1,) * 9, 2, 4, *(8,) * 5)
    assert AllocatorOptions.parse("roundup_power2_divisions:[4:2,>:16]").roundup_power2_divisions[1:4] == (
        2,
        2,
        16,
    )


@pytest.mark.parametrize("text", ["16", "[256:1,512:2,>:8]", "[1:4,>:1]"])
def test_divisions_are_spelled_as_they_are_read(text: str) -> None:
    assert divisions(spelled(divisions(text))) == divisions(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("expandable_segments", "option:value"),
        ("expandable_segments:yes", "True or False"),
        ("max_split_size_mb:20", "above 20"),
        ("garbage_collection_threshold:1.5", "between 0 and 1"),
        ("roundup_power2_divisions:3", "power of two"),
        ("roundup_power2_divisions:[300:2]", "power of two"),
        ("backend:cudaMallocAsync", "backend"),
    ],
)
def test_what_pytorch_would_refuse_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AllocatorOptions.parse(text)


@pytest.mark.parametrize(
    ("asked", "count", "taken"),
    [
        (1200, 4, 1536),
        (1200, 2, 1536),
        (10 * MIB, 4, 10 * MIB),
        (9 * MIB, 4, 10 * MIB),
        (8 * MIB, 4, 8 * MIB),
        (8 * MIB + 1, 16, 8 * MIB + MIB // 2),
        (513, 1, 1024),
        (100, 4, 512),
    ],
)
def test_sizes_round_up_to_divisions_of_a_power_of_two(asked: int, count: int, taken: int) -> None:
    assert rounding.block(asked, (count,) * 16) == taken


@pytest.mark.parametrize(
    "text",
    [
        "",
        "expandable_segments:True",
        "expandable_segments:True,max_split_size_mb:128,garbage_collection_threshold:0.8",
        "roundup_power2_divisions:[256:1,512:2,>:8]",
    ],
)
def test_options_are_told_as_they_are_read(text: str) -> None:
    options = AllocatorOptions.parse(text)
    assert AllocatorOptions.parse(options.text) == options
