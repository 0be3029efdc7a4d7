"""Settings of the Trainer that decide memory and are not simulated: what each may shrink or enlarge."""

from __future__ import annotations

from memplan.dialects.keys import Keys
from memplan.dialects.trainer.arguments import Arguments
from memplan.dialects.unmodelled import STATES, STEP, placed
from memplan.domain.workload import Unmodelled

_OFF = ("false", "no", "none", "0", "0.0", "1")

COMPILED = Unmodelled(reason="compiled kernels keep other activations than counted", shrinks=STEP)
SMOOTHED = Unmodelled(
    reason="the smoothed loss keeps log-probabilities of its own", grows=("logits_and_loss",)
)
PARALLEL = Unmodelled(reason="counted as data parallel only", shrinks=(*STATES, *STEP))
HALVES = "the Trainer halves the micro-batch when memory runs out, and with it the global batch"


def unmodelled(keys: Keys, arguments: Arguments) -> tuple[Unmodelled, ...]:
    """The settings in use, each with its place."""
    backends = arguments.names("torch_compile_backend", "torch_compile_mode")
    found = []
    for names, setting in (
        ((*arguments.compiled, *backends), COMPILED),
        (arguments.names("label_smoothing_factor"), SMOOTHED),
        (arguments.names("parallelism_config"), PARALLEL),
    ):
        value = next((value for name in names if (value := keys.get(name)) is not None), None)
        if value is not None and value.written().lower() not in _OFF:
            found.append(placed(value, setting))
    halves = keys.get(*arguments.names("auto_find_batch_size"))
    if halves is not None and keys.flag(*arguments.names("auto_find_batch_size")):
        keys.warn(halves, f"auto_find_batch_size: {HALVES}")
    return tuple(found)
