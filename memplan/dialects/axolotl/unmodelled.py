"""Settings of axolotl that decide memory and are not simulated: what each may shrink or enlarge."""

from __future__ import annotations

from memplan.dialects.keys import Keys
from memplan.dialects.unmodelled import STATES, STEP, in_use
from memplan.domain.workload import Unmodelled

SETTINGS = {
    "chunked_cross_entropy": Unmodelled(
        reason="the loss is compiled, and may keep less than counted", shrinks=("logits_and_loss",)
    ),
    "layer_offloading": Unmodelled(reason="weights are counted as staying on the GPU", shrinks=("blocks",)),
    "unfrozen_parameters": Unmodelled(
        reason="all parameters are counted as trained",
        shrinks=("gradients", "optimizer_state", "activations"),
    ),
    "model_quantization_config": Unmodelled(
        reason="the weights are counted unquantized", shrinks=("blocks",), grows=STEP
    ),
    "qat": Unmodelled(
        reason="the copies of quantization-aware training are not counted", grows=("blocks", *STEP)
    ),
    "tensor_parallel_size": Unmodelled(
        reason="the model is counted whole on each GPU", shrinks=(*STATES, *STEP)
    ),
    "context_parallel_size": Unmodelled(
        reason="sequences are counted whole on each GPU", shrinks=STEP, grows=("temporaries",)
    ),
    "rl": Unmodelled(
        reason="counted as supervised fine-tuning, without the models and batches that come on top",
        unbounded=True,
    ),
    "reward_model": Unmodelled(
        reason="counted with a vocabulary instead of a score, and one answer instead of two",
        shrinks=("decoder_matrix", "logits_and_loss"),
        unbounded=True,
    ),
    "process_reward_model": Unmodelled(
        reason="counted with a vocabulary instead of scores", shrinks=("decoder_matrix", "logits_and_loss")
    ),
    "gptq": Unmodelled(
        reason="the weights are counted unquantized", shrinks=("blocks",), grows=("blocks", *STEP)
    ),
    "fp8": Unmodelled(reason="products in fp8 keep other copies than counted", shrinks=STEP, grows=STEP),
    "torch_compile": Unmodelled(reason="compiled kernels keep other activations than counted", shrinks=STEP),
}
_OFF = ("false", "no", "off", "1")


def unmodelled(keys: Keys) -> tuple[Unmodelled, ...]:
    """The settings in use, each with its place."""
    return tuple(in_use(keys, SETTINGS, _OFF))
