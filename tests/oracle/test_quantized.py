"""4-bit layers of bitsandbytes in a real training step on the CPU, against the simulated one.

Only the forward kernel's scratch memory differs between CPU and GPU builds, and not at these sizes.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.workload import Adapter, Quantization, Workload
from memplan.estimate import trace_of
from memplan.families.llama import PROJECTIONS
from tests.oracle import artefacts
from tests.oracle.cases import CHECKPOINTED, KEPT, TIED, TINY, TWICE, workload
from tests.oracle.cpu_step import DTYPES, RENAMED, lora, second_step_of
from tests.oracle.libraries import library
from tests.oracle.test_events import SHOWN, differences

torch = library("torch")
transformers = library("transformers")
peft = library("peft")
bitsandbytes = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")

PREPARED = {"adapter": Adapter(rank=8, targets=PROJECTIONS[:4], prepare_kbit=True)}
DECOMPOSED = {"adapter": replace(PREPARED["adapter"], dora=True)}
NF4 = {"quantization": Quantization(kind="nf4", compute=Dtype.BF16)}
DOUBLE = {"quantization": Quantization(kind="fp4", double=True, compute=Dtype.BF16)}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "prepared": ({}, PREPARED | NF4),
    "prepared checkpointed": ({}, PREPARED | NF4 | CHECKPOINTED),
    "double, outputs kept": (TIED, PREPARED | DOUBLE | KEPT),
    "DoRA": ({}, DECOMPOSED | NF4),
    "DoRA, double, checkpointed": ({}, DECOMPOSED | DOUBLE | CHECKPOINTED),
    "double checkpointed accumulated": ({}, PREPARED | DOUBLE | CHECKPOINTED | TWICE),
}


def quantized(model: Any, settings: Quantization) -> Any:
    """Every linear layer but the head, stored in 4 bits."""
    for name, child in list(model.named_children()):
        if isinstance(child, torch.nn.Linear) and name != "lm_head":
            setattr(model, name, _four_bits(child, settings))
        else:
            quantized(child, settings)
    return model


def _four_bits(layer: Any, settings: Quantization) -> Any:
    options = {"compress_statistics": settings.double, "quant_type": settings.kind}
    found = bitsandbytes.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=DTYPES[settings.compute],
        **options,
    )
    found.weight = bitsandbytes.nn.Params4bit(layer.weight.data, requires_grad=False, module=found, **options)
    return found.to("cpu")


def trained(config: dict[str, Any], case: Workload) -> Any:
    settings = {key: value for key, value in config.items() if key != "model_type"}
    shape = transformers.AutoConfig.for_model(config["model_type"], use_cache=False, **settings)
    model = transformers.AutoModelForCausalLM.from_config(
        shape, dtype=DTYPES[case.precision.params], attn_implementation="eager"
    )
    assert case.quantization is not None
    assert case.adapter is not None
    model = quantized(model, case.quantization)
    model.is_loaded_in_4bit = True
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", RENAMED, FutureWarning)
        model = peft.prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=bool(case.checkpointing.every),
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
        return peft.get_peft_model(model, lora(case.adapter, "CAUSAL_LM")).train()


@pytest.mark.parametrize("name", CASES)
def test_the_simulated_events_are_those_of_a_real_step(name: str) -> None:
    changes, settings = CASES[name]
    config = TINY | changes
    case = workload(config, settings)
    torch.manual_seed(0)
    real = artefacts.of_profiler(second_step_of(trained(config, case), case), case)
    simulated = artefacts.of_simulation(trace_of(case, ASSUMED_CAPABILITY), case)
    assert len(real) > 400
    assert differences(simulated, real)[:SHOWN] == []
