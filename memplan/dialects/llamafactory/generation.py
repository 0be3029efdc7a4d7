"""Files for ``llamafactory-cli chat`` and ``api``: a model that answers, through transformers."""

from __future__ import annotations

from memplan.dialects import trainer
from memplan.dialects.keys import Keys
from memplan.dialects.llamafactory.gaps import not_modelled
from memplan.dialects.llamafactory.vocabulary import ARGUMENTS
from memplan.dialects.table import Setting, whole
from memplan.dialects.trainer import generation as answers
from memplan.domain.architecture import Architecture
from memplan.domain.workload import Workload

ENGINES = {
    "vllm": "vLLM takes the share of the GPU it is told to",
    "sglang": "SGLang takes the share of the GPU it is told to",
    "ktransformers": "KTransformers computes experts on the CPU",
}
NEW = Setting(
    field="generate.new_tokens",
    keys=("max_new_tokens",),
    read=whole,
    default=1024,
    says="LLaMA-Factory's default: 1024",
)
"""``max_new_tokens`` of ``GeneratingArguments`` (src/llamafactory/hparams/generating_args.py)."""


def generation(keys: Keys, shape: Architecture) -> Workload:
    """One prompt at a time; adapters are merged into the weights before.

    Raises:
        FieldError: the engine is not transformers, or the weights are quantized as they are loaded.
    """
    engine = keys.get("infer_backend")
    if engine is not None and (word := engine.choice(("huggingface", "hf", *ENGINES))) in ENGINES:
        raise not_modelled(engine, ENGINES[word])
    bits = keys.get("quantization_bit")
    if bits is not None:
        raise not_modelled(bits, "generation with weights quantized as they are loaded")
    keys.note("task", engine)
    params = trainer.weights(keys, ("infer_dtype",), shape, None, "LLaMA-Factory's default: auto")
    return answers.generation(keys, ARGUMENTS, shape, params, NEW)
