"""Files for ``llamafactory-cli chat`` and ``api``: a model that answers, through transformers."""

from __future__ import annotations

from memplan.dialects import trainer
from memplan.dialects.keys import Keys
from memplan.dialects.llamafactory.gaps import not_modelled
from memplan.dialects.llamafactory.vocabulary import ARGUMENTS
from memplan.dialects.reading import Origin
from memplan.dialects.trainer.attention import attention
from memplan.domain.architecture import Architecture
from memplan.domain.host import HostUse
from memplan.domain.workload import Batch, Generate, Precision, Task, Workload

ENGINES = {
    "vllm": "vLLM takes the share of the GPU it is told to",
    "sglang": "SGLang takes the share of the GPU it is told to",
    "ktransformers": "KTransformers computes experts on the CPU",
}
NEW_TOKENS = 1024
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
    prompt = Workload(model=shape).generate.prompt
    keys.note("task", engine)
    keys.origins["generate.prompt"] = Origin(how="assumed", note=f"nothing says how long; {prompt} counted")
    keys.note("generate.new_tokens", keys.get("max_new_tokens"), f"LLaMA-Factory's default: {NEW_TOKENS}")
    keys.warnings.append(
        f"{keys.root.source.path}: prompts of {prompt} tokens are counted; give others with "
        "--set generate.prompt=N"
    )
    return Workload(
        model=shape,
        task=Task.GENERATE,
        precision=Precision(
            params=trainer.weights(keys, ("infer_dtype",), shape, None, "LLaMA-Factory's default: auto")
        ),
        batch=Batch(),
        attention=attention(keys, ARGUMENTS),
        generate=Generate(prompt=prompt, new_tokens=keys.whole("max_new_tokens") or NEW_TOKENS),
        host=HostUse(loading="direct"),
    )
