"""A deep model simulated by a few of its layers equals the model simulated whole, event by event."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.trace import Trace
from memplan.domain.workload import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Evaluation,
    Generate,
    Loss,
    Optimizer,
    Outputs,
    Precision,
    Quantization,
    Sequence,
    Task,
    Workload,
)
from memplan.estimate.simulation import folded, simulated
from memplan.families import architecture, linear_names
from memplan.simulator.folding import Fold
from memplan.simulator.optimizer import SIMULATED
from memplan.simulator.peaks import peaks
from memplan.simulator.repetition import unfold
from memplan.simulator.replay import replay
from memplan.simulator.units import IrregularError
from tests.oracle.fake_cases import MODELS

AMPERE = (8, 0)
DEPTHS = {"gpt2": "n_layer", "t5": "num_layers"}
DECODERS = [name for name, config in MODELS.items() if config["model_type"] not in ("bert", "vit", "t5")]
EXACT = settings(max_examples=60, deadline=None)


def model(name: str, layers: int) -> Architecture:
    """A tiny model, made deeper."""
    config: dict[str, Any] = dict(MODELS[name])
    config[DEPTHS.get(config["model_type"], "num_hidden_layers")] = layers
    if "text_config" in config:
        config["text_config"] = config["text_config"] | {"num_hidden_layers": layers}
    return architecture(config, lambda _: None)


def facts(trace: Trace) -> tuple[object, ...]:
    """All a trace says, with blocks numbered in the order in which they are allocated.

    Of frees that follow one another the order says nothing: CPython puts off the last ones of a deep graph.
    """
    numbers: dict[int, int] = {}
    events: list[object] = []
    freed: list[int] = []
    for block in trace.events:
        if block < 0:
            freed.append(numbers[~block])
            continue
        numbers[block] = len(numbers)
        events += [*sorted(freed), (trace.sizes[block], trace.tags[block], block in trace.once)]
        freed = []
    return [*events, *sorted(freed)], trace.phases, trace.cycles


def same(workload: Workload, shape: Architecture, part: Fold) -> bool:
    small, whole = simulated(workload, shape, AMPERE, part), simulated(workload, shape, AMPERE)
    found = peaks(small, part)
    assert found == peaks(whole, None)
    assert all(found[phase] <= peak.allocated for phase, peak in replay(whole).phases.items())
    return facts(unfold(small, part)) == facts(whole)


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name]["model_type"] != "t5"])
@pytest.mark.parametrize("every", [0, 1, 2])
@pytest.mark.parametrize("lora", [False, True])
def test_every_family_is_known_by_a_few_of_its_layers(name: str, every: int, lora: bool) -> None:
    shape = model(name, 13)
    adapter = Adapter(targets=linear_names(shape.model_type)) if lora else None
    workload = Workload(model=shape, checkpointing=Checkpointing(every=every), adapter=adapter)
    part = folded(workload, shape)
    assert part is not None
    assert len(part.layers) < shape.num_hidden_layers
    assert same(workload, shape, part)


@st.composite
def checkpointings(draw: st.DrawFn, *, chunks: bool) -> Checkpointing:
    """Some blocks or all, alone or several at a time."""
    reentrant = draw(st.booleans())
    if draw(st.integers(0, 3)) == 0:
        blocks = draw(st.sets(st.integers(0, 15), min_size=1))
        return Checkpointing(every=1, blocks=tuple(sorted(blocks)), reentrant=reentrant)
    return Checkpointing(
        every=draw(st.integers(0, 3)),
        chunk=draw(st.integers(1, 3)) if chunks else 1,
        start=draw(st.integers(0, 2)),
        reentrant=reentrant,
    )


@st.composite
def trainings(draw: st.DrawFn) -> Workload:
    """Some run of some family at some depth."""
    name = draw(st.sampled_from(sorted(MODELS)))
    shape = model(name, draw(st.integers(5, 16)))
    half = draw(st.booleans())
    adapted = draw(st.booleans())
    linears = linear_names(shape.model_type)
    plain = shape.causal and draw(st.booleans())
    return Workload(
        model=shape,
        precision=Precision(
            params=Dtype.BF16 if half else Dtype.FP32,
            autocast=Dtype.BF16 if plain and draw(st.booleans()) else None,
            master=Dtype.FP32 if half and draw(st.booleans()) else None,
        ),
        batch=Batch(micro=draw(st.integers(1, 3)), accumulation=draw(st.integers(1, 3))),
        sequence=Sequence(length=draw(st.integers(8, 80))),
        optimizer=Optimizer(
            name=draw(st.sampled_from(sorted(SIMULATED))),
            implementation=draw(st.sampled_from(("foreach", "fused", "for_loop"))),
            set_to_none=draw(st.booleans()),
            momentum=draw(st.sampled_from((0.0, 0.9))),
            clipping=draw(st.booleans()),
        ),
        adapter=Adapter(rank=draw(st.integers(1, 16)), targets=linears[: draw(st.integers(1, 4))])
        if adapted
        else None,
        attention=draw(st.sampled_from((Attention.EAGER, Attention.SDPA))),
        checkpointing=draw(checkpointings(chunks=shape.model_type != "t5")),
        loss=Loss(kind=draw(st.sampled_from(("cross_entropy", "chunked"))), chunks=4) if plain else Loss(),
        outputs=draw(st.sampled_from(Outputs)),
        evaluation=draw(st.sampled_from((None, Evaluation(batch=2, kept=1)))),
    )


@EXACT
@given(trainings())
def test_training_of_some_layers_is_training_of_all(workload: Workload) -> None:
    shape = workload.model
    assert isinstance(shape, Architecture)
    part = folded(workload, shape)
    if part is not None:
        # What does not repeat itself is refused, and simulated whole.
        with suppress(IrregularError):
            assert same(workload, shape, part)


@pytest.mark.parametrize("layers", [22, 23])
@pytest.mark.parametrize(
    "wanted",
    [
        Checkpointing(every=1, chunk=3),
        Checkpointing(every=1, chunk=2, reentrant=True),
        Checkpointing(every=2, start=1),
        Checkpointing(every=1, blocks=(0, 1, 2)),
    ],
    ids=lambda wanted: wanted.name,
)
@pytest.mark.parametrize("name", ["llama", "deepseek_v3"])
def test_regions_of_blocks_repeat_themselves_too(name: str, wanted: Checkpointing, layers: int) -> None:
    shape = model(name, layers)
    workload = Workload(model=shape, checkpointing=wanted)
    part = folded(workload, shape)
    assert part is not None
    assert same(workload, shape, part)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.parametrize("prepared", [False, True])
def test_quantized_models_are_loaded_in_the_order_of_their_names(kind: str, prepared: bool) -> None:
    shape = model("llama", 12)
    workload = Workload(
        model=shape,
        adapter=Adapter(prepare_kbit=prepared),
        quantization=Quantization(kind=kind, double=True),
    )
    part = folded(workload, shape)
    assert part is not None
    assert same(workload, shape, part)


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(DECODERS),
    layers=st.integers(5, 14),
    prompt=st.integers(1, 60),
    new_tokens=st.integers(1, 40),
    cache=st.sampled_from(("dynamic", "static")),
    logits=st.sampled_from(("all", "last")),
)
def test_generation_with_some_layers_is_generation_with_all(
    name: str, layers: int, prompt: int, new_tokens: int, cache: str, logits: str
) -> None:
    shape = model(name, layers)
    generate = Generate(prompt=prompt, new_tokens=new_tokens, cache=cache, logits=logits)
    workload = Workload(model=shape, task=Task.GENERATE, generate=generate)
    part = folded(workload, shape)
    if part is not None:
        assert same(workload, shape, part)
