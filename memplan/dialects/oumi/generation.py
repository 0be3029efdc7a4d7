"""What a config of ``oumi infer`` says about memory, where transformers generates."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects import trainer
from memplan.dialects.keys import Keys
from memplan.dialects.oumi.gaps import not_modelled
from memplan.dialects.oumi.vocabulary import ARGUMENTS
from memplan.dialects.reading import Document, Intake, Origin, Reading
from memplan.dialects.table import Setting, settle, whole
from memplan.dialects.trainer.attention import attention
from memplan.domain.host import HostUse
from memplan.domain.workload import Batch, Generate, Precision, Task, Workload

ENGINES = {
    "VLLM": "vLLM takes the share of the GPU it is told to",
    "SGLANG": "SGLang takes the share of the GPU it is told to",
    "LLAMACPP": "llama.cpp runs quantized files that are not simulated",
}
ELSEWHERE = "the model runs elsewhere"
BATCH = Setting(
    field="batch.micro", keys=("generation.batch_size",), read=whole, default=1, says="oumi's default: 1"
)
NEW = Setting(
    field="generate.new_tokens",
    keys=("generation.max_new_tokens",),
    read=whole,
    default=1024,
    says="oumi's default: 1024",
)
"""``GenerationParams`` in src/oumi/core/configs/params/generation_params.py."""


def read(document: Document, keys: Keys, intake: Intake) -> Reading:
    """The generation that a config describes: with the native engine, which is the default.

    Raises:
        UnknownNameError, FieldError: as in ``memplan.dialects.oumi.read``.
    """
    engine = keys.get("engine", "inference_engine")
    word = "NATIVE" if engine is None else engine.written().upper()
    if engine is not None and word != "NATIVE":
        raise not_modelled(engine, ENGINES.get(word, ELSEWHERE))
    keys.note("task", engine, "oumi's default: its native engine")
    shape = trainer.named(keys, ("model.model_name",), document.path.parent, intake)
    adapter = keys.get("model.adapter_model")
    if adapter is not None:
        keys.warn(adapter, "the adapter's weights are not counted")
    sizes = settle(keys, (BATCH, NEW))
    run = Workload(
        model=shape,
        task=Task.GENERATE,
        precision=Precision(
            params=trainer.weights(keys, ("model.torch_dtype_str",), shape, None, "oumi's default: auto")
        ),
        batch=Batch(micro=sizes["batch.micro"]),
        attention=attention(keys, ARGUMENTS),
        generate=_generate(keys, sizes["generate.new_tokens"]),
        host=HostUse(loading="direct"),
    )
    return keys.reading(document, "oumi", run)


def _generate(keys: Keys, new: int) -> Generate:
    """Prompts and answers that fill ``model_max_length`` together."""
    limit = keys.whole("model.model_max_length")
    found = Generate(new_tokens=new)
    if limit is not None and limit > new:
        found = replace(found, prompt=limit - new)
        note = f"prompt and answer fill model_max_length; {found.prompt:,} tokens of prompt"
    else:
        note = f"nothing says how long prompts are; {found.prompt:,} tokens counted"
        keys.warnings.append(f"{keys.root.source.path}: {note}; give others with --set generate.prompt=N")
    keys.origins["generate.prompt"] = Origin(how="assumed", note=note)
    return found
