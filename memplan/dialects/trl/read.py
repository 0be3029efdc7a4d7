"""What a TRL file says about memory."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects import models as hub
from memplan.dialects import trainer
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Document, Intake, Origin, Reading
from memplan.dialects.trainer import pairs
from memplan.dialects.trainer.arguments import Arguments
from memplan.dialects.trl.gaps import beyond, gaps
from memplan.dialects.trl.methods import GRPO, SFT, Method, harm, length, method
from memplan.dialects.trl.models import model
from memplan.dialects.trl.releases import Release, release
from memplan.domain.host import ActivationOffload
from memplan.domain.workload import Attention, Loss, Sequence, Workload

LOG_PROBS = Loss(kind="log_probs")
ROW = "sequences are laid end to end: every step is one row of micro-batch x length tokens"
UNCUT = "sequences are not cut; counted as the default length"


def read(document: Document, intake: Intake) -> Reading:
    """The training run a TRL file describes.

    Raises:
        UnknownNameError: the model is neither known nor a local directory.
        FieldError: a value that decides memory is wrong.
    """
    keys = Keys(root=hub.required_mapping(Value(source=document.source, key="", node=document.root)))
    keys.lenient = True
    spoken, sign = release(keys)
    if sign is not None:
        keys.warn(sign, f"{sign.key} is a key of older releases: defaults are those of TRL 0.18")
    trained = method(keys)
    found = model(keys, spoken, document.path.parent, intake)
    run = trainer.workload(keys, spoken.arguments, found)
    run = _lossy(keys, spoken, trained, _sized(keys, spoken, trained, run))
    run = _packed(keys, spoken, _offloaded(keys, run))
    more = (*beyond(keys), *gaps(keys, trained, spoken, run))
    run = replace(run, unmodelled=(*run.unmodelled, *more))
    reading = trainer.reading(document, keys, "trl", run, intake, balanced=_balanced(keys, spoken, run))
    worse, why = harm(keys, trained, spoken)
    return reading if worse is None else replace(reading, batch_harm=worse, batch_reason=why)


def _sized(keys: Keys, spoken: Release, trained: Method, run: Workload) -> Workload:
    """Sequences of a micro-batch, and their length."""
    run = pairs.doubled(run) if trained.paired else run
    if trained is GRPO:
        return replace(run, sequence=Sequence(length=length(keys, spoken)))
    arguments: Arguments = spoken.arguments
    if keys.has(*arguments.length) and keys.get(*arguments.length) is None:
        keys.warnings.append(f"{keys.root.source.path}: max_length: null: {UNCUT}")
        keys.origins["sequence.length"] = Origin(how="assumed", note=UNCUT)
    return run


def _lossy(keys: Keys, spoken: Release, trained: Method, run: Workload) -> Workload:
    """Today every trainer takes log-probabilities from tiles of the logits, which are never whole.

    Source: ``add_fused_lm_head`` in trl/trainer/utils.py (1.16). Liger's loss is switched off there; before,
    methods other than SFT gave the model no labels, so that its own loss, and Liger's, did not run.
    """
    if not spoken.fused and trained is not SFT:
        return replace(run, loss=Loss())
    smoothed = keys.get("label_smoothing_factor")
    if not spoken.fused or (trained is SFT and smoothed is not None and smoothed.written().strip("0.")):
        return run
    keys.note("loss", keys.get("loss_type"), "TRL's default: no whole logits")
    return replace(run, loss=LOG_PROBS)


def _offloaded(keys: Keys, run: Workload) -> Workload:
    """TRL's own hooks, with a second stream (``get_act_offloading_ctx_manager``)."""
    keys.note("activation_offload", "activation_offloading", "TRL's default: off")
    if not keys.flag("activation_offloading"):
        return run
    return replace(run, activation_offload=ActivationOffload.STREAMS)


def _packed(keys: Keys, spoken: Release, run: Workload) -> Workload:
    """Without padding, documents are kept apart by varlen attention, or by a mask where there is none."""
    strategy = keys.word("packing_strategy") or "bfd"
    rows = bool(keys.flag("packing")) and spoken.packs_rows and strategy != "wrapped"
    if not rows and not keys.flag("padding_free"):
        return run
    place = keys.get("padding_free", "packing")
    assert place is not None
    keys.warn(place, f"{place.key}: {ROW}")
    return replace(run, causal_mask=run.attention is not Attention.FLASH_ATTENTION_2)


def _balanced(keys: Keys, spoken: Release, run: Workload) -> bool:
    """Whether the router's auxiliary loss counts: today unless its weight is 0, before if asked for."""
    weight = keys.get("router_aux_loss_coef")
    if weight is not None:
        return weight.written().strip("0.") != ""
    config = getattr(run.model, "config", {})
    return spoken.fused or bool(config.get("output_router_logits"))
