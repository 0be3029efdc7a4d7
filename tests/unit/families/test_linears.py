"""The layers an adapter may wrap are layers that the model has."""

from __future__ import annotations

import pytest

from memplan.domain.errors import Location
from memplan.read import Known


@pytest.mark.parametrize(
    ("name", "there", "absent"),
    [
        ("deepseek-ai/DeepSeek-V3", {"q_a_proj", "q_b_proj"}, {"q_proj"}),
        ("moonshotai/Moonlight-16B-A3B", {"q_proj"}, {"q_a_proj", "q_b_proj"}),
        ("google-t5/t5-small", {"wi", "wo"}, {"wi_0", "wi_1"}),
    ],
)
def test_of_two_ways_to_write_a_layer_only_the_models_own_is_offered(
    name: str, there: set[str], absent: set[str]
) -> None:
    config = Known().config(name)
    assert config is not None
    shape = Known().architecture(config, lambda _: Location(path="config.json", line=1))
    assert there <= set(shape.linears)
    assert not absent & set(shape.linears)
