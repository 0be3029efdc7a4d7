"""Encoders against real training steps, and their parameters against transformers' own models."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.domain.architecture import Architecture
from memplan.domain.errors import FieldError
from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.workload import Workload
from memplan.estimate import trace_of
from memplan.families import architecture
from tests.oracle import artefacts
from tests.oracle.cases import CHECKPOINTED, FP32, TWICE, workload
from tests.oracle.cpu_encoders import built, second_step
from tests.oracle.encoder_cases import BERT, DRY, ENCODER_CASES, GATED_T5, MASKED, SEQUENCES, T5, TOKENS, VIT
from tests.oracle.libraries import library
from tests.oracle.test_dropout import like_cuda
from tests.oracle.test_events import SHOWN, differences

torch = library("torch")
transformers = library("transformers")


def compare(config: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    case = workload(config, settings)
    simulated = _matched(artefacts.of_simulation(trace_of(case, ASSUMED_CAPABILITY), case), case)
    real = _matched(artefacts.of_profiler(second_step(config, case), case), case)
    assert len(real) > 150
    return differences(simulated, real)


def _matched(events: list[int], case: Workload) -> list[int]:
    """Without what ``artefacts`` leaves out of real T5 steps, or a CPU does when T5's norm mixes dtypes.

    The first are booleans for each pair of positions. The second is a copy of a half factor in fp32, which is
    gone at once.
    """
    shape = case.model
    assert isinstance(shape, Architecture)
    if shape.model_type != "t5":
        return events
    copy = case.batch.micro * case.sequence.length * shape.hidden_size * 4
    kept: list[int] = []
    for size in events:
        if case.precision.params.is_half and size == -copy and kept and kept[-1] == copy:
            kept.pop()
        elif abs(size) != case.sequence.length**2:
            kept.append(size)
    return kept


@pytest.mark.parametrize("name", ENCODER_CASES)
def test_the_simulated_events_are_those_of_a_real_step(name: str) -> None:
    assert compare(*ENCODER_CASES[name])[:SHOWN] == []


@pytest.mark.parametrize("settings", [FP32, CHECKPOINTED, TWICE], ids=["fp32", "checkpointed", "accumulated"])
@pytest.mark.parametrize(
    "config", [MASKED, SEQUENCES, TOKENS, VIT, T5, GATED_T5], ids=lambda config: config["architectures"][0]
)
def test_dropout_is_where_the_real_class_drops_out(
    config: dict[str, Any], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.functional, "dropout", like_cuda)
    wet = config | {name: 0.1 for name in (*DRY, "classifier_dropout", "dropout_rate")}
    assert compare(wet, settings)[:SHOWN] == []


def their_count(config: dict[str, Any]) -> int:
    with torch.device("meta"):
        model = built(config)
    return int(sum(parameter.numel() for parameter in model.parameters()))


PLAIN_BERT = {"model_type": "bert"}
LARGE = {
    "model_type": "bert",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "architectures": ["BertForMaskedLM"],
}
IMAGES = {"model_type": "vit", "architectures": ["ViTForImageClassification"]}

SEQ2SEQ = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (PLAIN_BERT | {"architectures": ["BertForMaskedLM"]}, 109_514_298),
        (LARGE, 335_174_458),
        (PLAIN_BERT | {"architectures": ["BertForSequenceClassification"]}, 109_483_778),
        (PLAIN_BERT | {"architectures": ["BertForTokenClassification"], "num_labels": 9}, 108_898_569),
        (IMAGES | {"num_labels": 1000}, 86_567_656),
        (IMAGES | {"image_size": [96, 64], "patch_size": [16, 8], "num_channels": 1}, 85_195_010),
        (SEQ2SEQ, 60_506_624),
        (SEQ2SEQ | {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}, 222_903_552),
        (SEQ2SEQ | {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 2}, 52_111_872),
        (IMAGES | {"id2label": {str(index): str(index) for index in range(7)}}, 85_804_039),
    ],
    ids=str,
)
def test_parameters_are_those_of_the_real_class(config: dict[str, Any], count: int) -> None:
    assert architecture(config, lambda _: None).parameters == their_count(config) == count


@pytest.mark.parametrize(("model_type", "rates"), [("bert", (0.1, 0.1, 0.1)), ("vit", (0.0, 0.0, 0.0))])
def test_absent_keys_mean_what_the_real_class_takes_them_for(
    model_type: str, rates: tuple[float, float, float]
) -> None:
    ours = architecture({"model_type": model_type}, lambda _: None)
    theirs = transformers.AutoConfig.for_model(model_type)
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act")
    assert {name: getattr(ours, name) for name in names} == {name: getattr(theirs, name) for name in names}
    assert (ours.dropout.embedding, ours.dropout.hidden, ours.dropout.attention) == rates
    assert theirs.hidden_dropout_prob == rates[1]


def test_t5_is_the_real_class_where_keys_are_absent() -> None:
    ours = architecture({"model_type": "t5"}, lambda _: None)
    theirs = transformers.AutoConfig.for_model("t5")
    assert (ours.hidden_size, ours.head_dim, ours.intermediate_size, ours.vocab_size) == (
        theirs.d_model,
        theirs.d_kv,
        theirs.d_ff,
        theirs.vocab_size,
    )
    assert (ours.num_hidden_layers, ours.num_attention_heads) == (theirs.num_layers, theirs.num_heads)
    assert ours.dropout.hidden == theirs.dropout_rate
    assert ours.hidden_act == theirs.dense_act_fn


def test_bert_classifies_sequences_unless_told_otherwise() -> None:
    told = PLAIN_BERT | {"architectures": ["BertForSequenceClassification"]}
    assert architecture(PLAIN_BERT, lambda _: None) == architecture(told, lambda _: None)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (BERT | {"is_decoder": True}, "is_decoder"),
        (BERT | {"architectures": ["BertForQuestionAnswering"]}, "architectures"),
        (MASKED | {"tie_word_embeddings": False}, "tie_word_embeddings"),
        (BERT | {"num_attention_heads": 5}, "hidden_size"),
        (VIT | {"architectures": ["ViTForMaskedImageModeling"]}, "architectures"),
        (VIT | {"patch_size": 64}, "patch_size"),
        (VIT | {"image_size": [42, 42, 3]}, "image_size"),
        (VIT | {"num_attention_heads": 5}, "hidden_size"),
        (T5 | {"is_decoder": True}, "is_decoder"),
        (T5 | {"architectures": ["T5EncoderModel"]}, "architectures"),
        (T5 | {"feed_forward_proj": "gated"}, "feed_forward_proj"),
    ],
)
def test_what_is_not_simulated_is_refused_by_name(config: dict[str, Any], said: str) -> None:
    with pytest.raises(FieldError) as caught:
        architecture(config, lambda _: None)
    assert str(caught.value).startswith(said)
