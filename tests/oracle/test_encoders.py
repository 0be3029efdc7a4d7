"""Encoders against real training steps, and their parameters against transformers' own models."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.domain.errors import FieldError
from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.estimate import trace_of
from memplan.families import architecture
from tests.oracle import artefacts
from tests.oracle.cases import CHECKPOINTED, FP32, TWICE, workload
from tests.oracle.cpu_encoders import built, second_step
from tests.oracle.encoder_cases import BERT, DRY, ENCODER_CASES, MASKED, SEQUENCES, TOKENS, VIT
from tests.oracle.libraries import library
from tests.oracle.test_dropout import like_cuda
from tests.oracle.test_events import SHOWN, differences

torch = library("torch")
transformers = library("transformers")


def compare(config: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    case = workload(config, settings)
    simulated = artefacts.of_simulation(trace_of(case, ASSUMED_CAPABILITY), case)
    real = artefacts.of_profiler(second_step(config, case), case)
    assert len(real) > 150
    return differences(simulated, real)


@pytest.mark.parametrize("name", ENCODER_CASES)
def test_the_simulated_events_are_those_of_a_real_step(name: str) -> None:
    assert compare(*ENCODER_CASES[name])[:SHOWN] == []


@pytest.mark.parametrize("settings", [FP32, CHECKPOINTED, TWICE], ids=["fp32", "checkpointed", "accumulated"])
@pytest.mark.parametrize(
    "config", [MASKED, SEQUENCES, TOKENS, VIT], ids=lambda config: config["architectures"][0]
)
def test_dropout_is_where_the_real_class_drops_out(
    config: dict[str, Any], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.functional, "dropout", like_cuda)
    wet = config | {name: 0.1 for name in (*DRY, "classifier_dropout")}
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


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (PLAIN_BERT | {"architectures": ["BertForMaskedLM"]}, 109_514_298),
        (LARGE, 335_174_458),
        (PLAIN_BERT | {"architectures": ["BertForSequenceClassification"]}, 109_483_778),
        (PLAIN_BERT | {"architectures": ["BertForTokenClassification"], "num_labels": 9}, 108_898_569),
        (IMAGES | {"num_labels": 1000}, 86_567_656),
        (IMAGES | {"image_size": [96, 64], "patch_size": [16, 8], "num_channels": 1}, 85_195_010),
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
    ],
)
def test_what_is_not_simulated_is_refused_by_name(config: dict[str, Any], said: str) -> None:
    with pytest.raises(FieldError) as caught:
        architecture(config, lambda _: None)
    assert str(caught.value).startswith(said)
