"""Text that is really generated, on the CPU, and the allocations PyTorch's profiler saw in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from memplan.domain.workload import Workload
from tests.oracle.cpu_step import DTYPES, recorded
from tests.oracle.libraries import library

torch = library("torch")
transformers = library("transformers")


@contextmanager
def _as_on_a_gpu(model: Any) -> Iterator[None]:
    """``_optimize_model_for_decode`` as it is on GPUs: every token gets a copy of its experts' weights."""
    model.set_experts_implementation("batched_mm")
    yield
    model.set_experts_implementation("grouped_mm")


def events(config: Mapping[str, Any], workload: Workload) -> list[int]:
    """Allocations (positive) and frees (negative) of a second call of ``generate``, in bytes, in order."""
    torch.manual_seed(0)
    settings = {key: value for key, value in config.items() if key != "model_type"}
    shape = transformers.AutoConfig.for_model(config["model_type"], **settings)
    model = transformers.AutoModelForCausalLM.from_config(
        shape, dtype=DTYPES[workload.precision.params], attn_implementation="eager"
    ).eval()
    asked = workload.generate
    # Position ids and masks are inferred from tokens that are not the padding token.
    tokens = torch.randint(5, shape.vocab_size, (workload.batch.micro, asked.prompt))
    wanted: dict[str, Any] = {
        "max_new_tokens": asked.new_tokens,
        "do_sample": False,
        "eos_token_id": None,
        "pad_token_id": 0,
        "logits_to_keep": int(asked.logits == "last"),
    }
    if asked.cache == "static":
        wanted["cache_implementation"] = "static"
    if "grouped_mm" in model.get_experts_implementation().values():
        model._optimize_model_for_decode = lambda: _as_on_a_gpu(model)
    model.generate(tokens, **wanted)
    return recorded(lambda: model.generate(tokens, **wanted))
