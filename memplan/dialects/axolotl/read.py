"""What an axolotl file says about memory."""

from __future__ import annotations

from memplan.dialects import models
from memplan.dialects.axolotl.adapters import adapter, adapting, quantization
from memplan.dialects.axolotl.checkpointing import activation_offload, checkpointing, held_back
from memplan.dialects.axolotl.keys import open_keys
from memplan.dialects.axolotl.losses import kernels, loss
from memplan.dialects.axolotl.machine import host, saving
from memplan.dialects.axolotl.numbers import autocast, optimizer, params
from memplan.dialects.axolotl.unmodelled import unmodelled
from memplan.dialects.axolotl.worlds import world
from memplan.dialects.fields import Value
from memplan.dialects.flat import upcast
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Document, Intake, Origin, Reading
from memplan.dialects.trainer.arguments import Arguments
from memplan.dialects.trainer.attention import attention as implementation
from memplan.dialects.trainer.models import named
from memplan.domain.allocator import AllocatorOptions
from memplan.domain.harm import Harm
from memplan.domain.workload import (
    Attention,
    Batch,
    Evaluation,
    Precision,
    Sequence,
    Workload,
)

LEGACY = {
    "flash_attention": Attention.FLASH_ATTENTION_2,
    "sdp_attention": Attention.SDPA,
    "eager_attention": Attention.EAGER,
    "xformers_attention": Attention.EFFICIENT,
    "flex_attention": Attention.EFFICIENT,
    "sage_attention": Attention.EFFICIENT,
}
"""Boolean flags of older files."""

ALLOCATOR = "expandable_segments:True,roundup_power2_divisions:16"
"""What axolotl puts into the environment unless something is there (``set_pytorch_cuda_alloc_conf``)."""

BINS = "sequences are packed into bins of micro-batch x length, and fall into other bins"


def read(document: Document, intake: Intake) -> Reading:
    """The training run an axolotl file describes.

    Raises:
        UnknownNameError: ``base_model`` is neither known offline nor a local directory.
        FieldError: a value that decides memory has the wrong type or range, or asks for something
            that is not modelled and would make the answer wrong (other adapters).
    """
    root = models.required_mapping(Value(source=document.source, key="", node=document.root))
    keys = open_keys(root)
    architecture = named(keys, ("base_model",), document.path.parent, intake)
    weights = params(keys)
    spread = world(keys)
    workload = Workload(
        model=architecture,
        precision=Precision(params=weights, autocast=autocast(keys, spread.sharding)),
        batch=_batch(keys),
        evaluation=_evaluation(keys),
        sequence=_sequence(keys),
        optimizer=optimizer(keys, spread.sharding),
        adapter=adapter(keys, architecture),
        quantization=quantization(keys, weights),
        attention=(attention := _attention(keys)),
        checkpointing=checkpointing(keys),
        activation_offload=activation_offload(keys),
        loss=loss(keys, architecture),
        kernels=kernels(keys),
        world=spread,
        allocator=AllocatorOptions.parse(ALLOCATOR),
        causal_mask=_packed(keys) and attention is not Attention.FLASH_ATTENTION_2,
        host=host(keys, architecture),
        saving=saving(keys),
        unmodelled=(*unmodelled(keys), *held_back(keys)),
        adapting=adapting(keys, architecture, weights),
    )
    keys.origins["task"] = Origin(how="default", note="axolotl trains")
    keys.origins["allocator"] = Origin(how="default", note=f"axolotl sets {ALLOCATOR}")
    reading = keys.reading(document, "axolotl", upcast(workload), _harm(keys, attention), BINS)
    config = keys.get("deepspeed")
    if config is None:
        return reading
    from memplan.dialects.zero.engine import joined

    return joined(reading, config, intake)


def _batch(keys: Keys) -> Batch:
    """axolotl needs two of micro_batch_size, gradient_accumulation_steps and the older batch_size."""
    micro, accumulation = keys.whole("micro_batch_size"), keys.whole("gradient_accumulation_steps")
    total = keys.whole("batch_size")
    keys.note("batch.micro", "micro_batch_size", "axolotl's default: 1")
    keys.note("batch.accumulation", "gradient_accumulation_steps", "axolotl's default: 1")
    if total is not None and micro is None and accumulation is not None:
        keys.note("batch.micro", "batch_size", "", "batch_size over gradient_accumulation_steps")
        return Batch(micro=max(1, total // accumulation), accumulation=accumulation)
    if total is not None and accumulation is None:
        keys.note("batch.accumulation", "batch_size", "", "batch_size over micro_batch_size")
        return Batch(micro=micro or 1, accumulation=max(1, total // (micro or 1)))
    return Batch(micro=micro or 1, accumulation=accumulation or 1)


def _evaluation(keys: Keys) -> Evaluation | None:
    """Batches of ``eval_batch_size``, by default those of training, if anything is held out.

    The plugin of a loss patches the model itself, so the Trainer does not know that it could skip logits.
    """
    held_out = keys.get("val_set_size")
    evaluates = keys.get("test_datasets") is not None or (
        held_out is not None and held_out.written().strip("0.") != ""
    )
    if not evaluates:
        return None
    keys.note("evaluation", "eval_batch_size", "axolotl's default: micro_batch_size")
    return Evaluation(batch=keys.whole("eval_batch_size") or 0, skip_logits=False)


def _sequence(keys: Keys) -> Sequence:
    length = keys.whole("sequence_len")
    keys.note("sequence.length", "sequence_len", "axolotl's default: 512")
    if _packed(keys):
        keys.warnings.append(
            "sample_packing: every step is one row of micro_batch_size x sequence_len tokens; "
            "memory follows that product"
        )
    return Sequence(length=512 if length is None else length)


def _packed(keys: Keys) -> bool:
    value = keys.get("sample_packing")
    return value is not None and value.written().lower() != "auto" and bool(keys.flag("sample_packing"))


def _harm(keys: Keys, attention: Attention) -> Harm | None:
    """With packing, a micro-batch is one bin of micro_batch_size x sequence_len tokens, filled by size.

    ``multipack_real_batches`` is on where attention does not keep packed sequences apart. Source (0.19):
    ``_create_multipack_sampler`` in src/axolotl/core/trainers/base.py, core/builders/causal.py.
    """
    rows = keys.flag("multipack_real_batches")
    apart = attention in (Attention.FLASH_ATTENTION_2, Attention.EFFICIENT)
    bins = apart if rows is None else not rows
    return Harm.NUMERIC if _packed(keys) and bins else None


def _attention(keys: Keys) -> Attention:
    if keys.get("attn_implementation") is not None:
        return implementation(keys, Arguments())
    for key, kind in LEGACY.items():
        if keys.flag(key):
            keys.note("attention", key, "")
            if kind is Attention.EFFICIENT:
                keys.warnings.append(f"{key} is counted like memory-efficient attention")
            return kind
    keys.note("attention", None, "transformers' default: sdpa")
    return Attention.SDPA
