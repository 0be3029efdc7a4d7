"""The table of RAM and context, and that what needs no torch loads none."""

from __future__ import annotations

import subprocess
import sys

import pytest

from memplan.domain.errors import FieldError
from memplan.mechanisms import context
from memplan.mechanisms.context.ram import TABLE, tokens_for

GIB = 2**30


@pytest.mark.parametrize(
    ("gib", "tokens"), [(8, 8_192), (16, 32_768), (32, 49_152), (64, 65_536), (128, 131_072)]
)
def test_the_table_is_the_one_that_was_published(gib: int, tokens: int) -> None:
    assert tokens_for(gib * GIB) == tokens
    assert tokens_for(gib * GIB + GIB) == tokens


def test_below_the_first_step_it_says_nothing_and_beyond_the_last_no_more() -> None:
    assert tokens_for(8 * GIB - 1) is None
    assert tokens_for(1024 * GIB) == 131_072


def test_more_ram_never_means_fewer_tokens() -> None:
    assert list(TABLE) == sorted(TABLE)
    assert [tokens for _, tokens in TABLE] == sorted(tokens for _, tokens in TABLE)


@pytest.mark.parametrize("ram", [0, -1, float("inf"), "16GiB", True])
def test_what_is_no_amount_of_bytes_is_refused(ram: int) -> None:
    with pytest.raises(FieldError, match="RAM of"):
        tokens_for(ram)


def test_every_name_of_the_library_is_there_and_others_are_not() -> None:
    assert set(context._HOMES) == set(context.__all__)
    assert all(getattr(context, name) is not None for name in context.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        context.Nothing  # noqa: B018


def test_windows_placements_and_the_table_load_no_torch() -> None:
    names = "Windows, Placement, Stack, best_uniform, cheapest, lowest_peak, sqrt_interval, tokens_for"
    code = f"import sys; from memplan.mechanisms.context import {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
