"""Sections of a DeepSpeed config that decide memory and are not simulated: what each may shrink or enlarge.

Source: the sections that deepspeed/runtime/config.py (0.19.8) knows, and those it has given up since.
"""

from __future__ import annotations

from collections.abc import Iterator

from memplan.dialects.keys import Keys
from memplan.dialects.unmodelled import STATES, STEP, in_use
from memplan.domain.workload import Unmodelled

SECTIONS = {
    "tensor_parallel.autotp_size": Unmodelled(
        reason="the model is counted whole on each GPU", shrinks=(*STATES, *STEP)
    ),
    "sequence_parallel_size": Unmodelled(
        reason="sequences are counted whole on each GPU", shrinks=STEP, grows=("temporaries",)
    ),
    "data_efficiency.enabled": Unmodelled(
        reason="tokens that layers leave out are counted", shrinks=("activations",)
    ),
    "compile.deepcompile": Unmodelled(
        reason="compiled kernels keep other activations than counted", shrinks=STEP
    ),
    "compression_training": Unmodelled(
        reason="compression is not counted, and gone from newer releases", grows=("blocks",)
    ),
    "sparse_attention": Unmodelled(reason="attention is counted as dense", shrinks=("activations",)),
    "quantize_training": Unmodelled(reason="quantized copies of weights are not counted", grows=("blocks",)),
    "torch_autocast.enabled": Unmodelled(
        reason="autocast under DeepSpeed is not simulated", grows=("blocks", "activations")
    ),
    "bf16.bf16_master_weights_and_grads": Unmodelled(
        reason="fp32 copies are counted", shrinks=("optimizer_state",)
    ),
    "bf16.bf16_optimizer_states": Unmodelled(
        reason="states are counted in fp32", shrinks=("optimizer_state",)
    ),
    "fp16.fp16_master_weights_and_grads": Unmodelled(
        reason="fp32 copies are counted", shrinks=("optimizer_state",)
    ),
}
ROUND_ROBIN = {
    "zero_optimization.round_robin_gradients": Unmodelled(
        reason="each GPU is counted as owning parameters that follow each other: when its gradients come "
        "together is another time",
        grows=("gradients",),
    )
}
"""At stages 1 and 2, where parameters are dealt out in turn: as many elements for each GPU, but others
(``_round_robin_reorder`` in deepspeed/runtime/zero/stage_1_and_2.py)."""

_OFF = ("false", "0", "1", "null")


def unmodelled(keys: Keys) -> Iterator[Unmodelled]:
    """The sections in use, each with its place."""
    stage = keys.get("zero_optimization.stage")
    dealt = ROUND_ROBIN if stage is not None and stage.written() in ("1", "2") else {}
    return in_use(keys, SECTIONS | dealt, _OFF)
