"""Files for ``swift infer``: a model, mostly named on the command line, that answers through transformers.

Source: ``InferArguments`` in swift/arguments/infer_args.py (4.6); without ``max_new_tokens`` answers are
bounded by the model's context alone.
"""

from __future__ import annotations

from memplan.dialects import trainer
from memplan.dialects.keys import Keys
from memplan.dialects.ms_swift.vocabulary import ARGUMENTS
from memplan.dialects.reading import Document, Intake, Reading
from memplan.dialects.table import Setting, Writer, whole, writer
from memplan.dialects.trainer.generation import generation
from memplan.domain.workload import Generate

ENGINES = ("vllm", "sglang", "lmdeploy")
_THROUGH = ("transformers", "pt")
_ROWS = Setting(
    field="batch.micro", keys=("max_batch_size",), read=whole, default=1, says="ms-swift's default: 1"
)
_NEW = Setting(
    field="generate.new_tokens",
    keys=("max_new_tokens",),
    read=whole,
    default=Generate().new_tokens,
    says=f"nothing bounds answers; {Generate().new_tokens} tokens counted",
)
_TRAINING = ("dataset", "tuner_type", "train_type", "rlhf_type", "output_dir", "learning_rate")


def generates(keys: Keys) -> bool:
    """Whether a file is for ``swift infer``: an engine, or a bound of answers without data to train on."""
    if keys.get("infer_backend", "max_batch_size") is not None:
        return True
    return keys.get("max_new_tokens", "load_data_args") is not None and keys.get(*_TRAINING) is None


def read(document: Document, keys: Keys, intake: Intake) -> Reading:
    """The generation that a file describes.

    Raises:
        UnknownNameError: the model is neither known nor a local directory.
        FieldError: nobody names one, or another engine than transformers answers.
    """
    engine = keys.get("infer_backend")
    if engine is not None and engine.choice((*_THROUGH, *ENGINES)) in ENGINES:
        raise engine.fail(
            f"{engine.described()} is not modelled: it takes the share of the GPU it is told to",
            expected="infer_backend: transformers",
        )
    keys.note("task", engine, "ms-swift's default: transformers answers")
    shape = trainer.named(keys, ("model",), document.path.parent, intake)
    params = trainer.weights(keys, ("torch_dtype",), shape, None, "ms-swift's default")
    rows = keys.whole(*_ROWS.keys) or 1
    keys.note(_ROWS.field, keys.get(*_ROWS.keys), _ROWS.says)
    return keys.reading(document, "ms_swift", generation(keys, ARGUMENTS, shape, params, _NEW, rows))


WRITERS: dict[str, Writer] = {
    "batch": writer(_ROWS, beside=_NEW.keys),
    "attention": trainer.writers(ARGUMENTS)["attention"],
}
