"""The simulator against text that is really generated: the same allocations and frees, in the same order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Attention, Batch, Generate, Precision, Task, Workload
from memplan.estimate import trace_of
from memplan.families import architecture
from tests.oracle import family_cases, older_cases
from tests.oracle.artefacts import SMALLEST
from tests.oracle.cases import TINY
from tests.oracle.cpu_generation import events
from tests.oracle.test_events import SHOWN, differences
from tests.oracle.test_mixtures import DEEPSEEK, GPT_OSS, MIXTRAL, QWEN3

MISTRAL = {"model_type": "mistral", "sliding_window": 20}
WIDE_WINDOW = {"model_type": "mistral", "sliding_window": 52}
STATIC = {"cache": "static"}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama": ({}, {}),
    "llama one token": ({}, {"new_tokens": 1}),
    "llama two tokens": ({}, {"new_tokens": 2}),
    "llama all logits": ({}, {"logits": "all"}),
    "llama ungrouped heads": ({"num_key_value_heads": 4}, {}),
    "llama tied": ({"tie_word_embeddings": True}, {}),
    "llama static": ({}, STATIC),
    "mistral window": (MISTRAL, {}),
    "mistral window fills": (WIDE_WINDOW, {}),
    "mistral static window": (MISTRAL, STATIC),
    "qwen2": ({"model_type": "qwen2"}, {}),
}
FAMILIES = {
    **{name: config for name, config in family_cases.MODELS.items() if config["model_type"] != "gemma3"},
    **{name: config for name, config in older_cases.MODELS.items() if name != "gpt_bigcode"},
    "mixtral": MIXTRAL,
    "qwen3_moe": QWEN3,
    "deepseek_v3": DEEPSEEK,
    "gpt_oss": GPT_OSS,
}
ONE_KEY_HEAD = ("gemma", "falcon")
"""Their keys are repeated within the product; a static cache changes the order of two frees there.

GPT-BigCode's queries are views of a split, which changes it with any cache.
"""

CASES |= {name: (config, {}) for name, config in FAMILIES.items()}
CASES |= {f"{name} static": (config, STATIC) for name, config in FAMILIES.items() if name not in ONE_KEY_HEAD}


def workload(config: Mapping[str, Any], generate: Mapping[str, Any]) -> Workload:
    """Eight sequences in eager attention; four new tokens, so that no step is passed over."""
    return Workload(
        model=architecture(TINY | dict(config), lambda _: None),
        task=Task.GENERATE,
        precision=Precision(params=Dtype.BF16),
        batch=Batch(micro=8),
        attention=Attention.EAGER,
        generate=replace(Generate(prompt=50, new_tokens=4, logits="last"), **generate),
    )


def _bookkeeping(case: Workload) -> set[int]:
    """Sizes of token ids, position ids, index vectors and boolean masks, of every length.

    ``generate`` infers masks and positions it then drops; a static cache's masks come before the embeddings.
    """
    batch, asked = case.batch.micro, case.generate
    lengths = range(asked.prompt, asked.prompt + asked.new_tokens + 1)
    sizes = {batch * length * width for length in lengths for width in (1, 8)}
    sizes |= {first * second for first in lengths for second in (*lengths, 20, 52)}
    if asked.cache == "static":
        sizes |= {batch * asked.prompt * length * 2 for length in (*lengths, 20)}
    return sizes | {-size for size in sizes}


def _of_simulation(trace: Trace, case: Workload) -> list[int]:
    start = next(start for start, phase in trace.phases if phase is Phase.PREFILL)
    norms = {tag[1] for tag in trace.tags if tag[2] == "layer_norm"}
    skipped = {
        block
        for block, tag in enumerate(trace.tags)
        # Without autograd a CPU's layer norm keeps no statistics, a GPU's does.
        if tag[0] == "workspace" or (tag[1] in norms and tag[2] in ("mean", "rstd"))
    }
    found = [
        trace.sizes[max(event, ~event)] * (1 if event >= 0 else -1)
        for event in trace.events[start:]
        if max(event, ~event) not in skipped
    ]
    return _kept(found, case)


def _settled(found: list[int], case: Workload) -> list[int]:
    """Without what is made and dropped at once, in sizes a CPU needs to sort rows and to mix dtypes."""
    shape = case.model
    assert isinstance(shape, Architecture)
    if shape.mixture is None:
        return found
    step = case.batch.micro * shape.mixture.chosen
    prompt = step * case.generate.prompt
    sizes = (8 * prompt, 4 * prompt * shape.hidden_size, 4 * step * shape.hidden_size)
    kept: list[int] = []
    for size in found:
        if kept and -size in sizes and kept[-1] == -size:
            kept.pop()
        else:
            kept.append(size)
    return kept


def _kept(found: list[int], case: Workload) -> list[int]:
    dropped = _bookkeeping(case)
    return [size for size in found if abs(size) >= SMALLEST and size not in dropped]


@pytest.mark.parametrize("name", CASES)
def test_the_simulated_events_are_those_of_real_generation(name: str) -> None:
    config, generate = CASES[name]
    case = workload(config, generate)
    real = _settled(_kept(events(TINY | config, case), case), case)
    simulated = _settled(_of_simulation(trace_of(case, ASSUMED_CAPABILITY), case), case)
    assert len(real) > 300
    assert differences(simulated, real)[:SHOWN] == []
