"""A small model of memory for tests of planning: a formula instead of a simulation, with the same laws.

Allocated memory grows with the micro-batch and the sequence, falls with checkpointing, and gradients
stay alive from one accumulated pass to the next. Reserved memory is not monotone, like the allocator's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from memplan.dialects.reading import Document, Reading
from memplan.documents.source import Source
from memplan.documents.yaml import parse
from memplan.domain.architecture import Architecture, DeclaredModel, ParameterGroup
from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Basis, Component, DeviceMemory, Estimate, Gap, HostMemory, Verdict
from memplan.domain.target import Target
from memplan.domain.trace import Phase
from memplan.domain.workload import Attention, Batch, Sequence, Workload

MIB = 2**20
CONTEXT = Bytes(100 * MIB)
HIDDEN, INNER, LAYERS, HEADS, VOCABULARY = 256, 1024, 8, 4, 32_000

MODEL = Architecture(
    model_type="llama",
    hidden_size=HIDDEN,
    intermediate_size=INNER,
    num_hidden_layers=LAYERS,
    num_attention_heads=HEADS,
    num_key_value_heads=HEADS,
    head_dim=HIDDEN // HEADS,
    vocab_size=VOCABULARY,
    tie_word_embeddings=False,
    max_position_embeddings=8192,
    groups=(
        ParameterGroup(name="embed_tokens", component="embeddings", shape=(VOCABULARY, HIDDEN)),
        *(
            ParameterGroup(name=name, component="blocks", shape=(HIDDEN, HIDDEN), copies=LAYERS)
            for name in ("q_proj", "k_proj", "v_proj", "o_proj")
        ),
        ParameterGroup(name="gate_proj", component="blocks", shape=(INNER, HIDDEN), copies=LAYERS),
        ParameterGroup(name="up_proj", component="blocks", shape=(INNER, HIDDEN), copies=LAYERS),
        ParameterGroup(name="down_proj", component="blocks", shape=(HIDDEN, INNER), copies=LAYERS),
        ParameterGroup(name="lm_head", component="decoder_matrix", shape=(VOCABULARY, HIDDEN)),
    ),
)

UNCOUNTED = ("loss", "kernels", "optimizer", "activation_offload", "allocator", "evaluation", "host", "world")
"""What the formula below does not count: plans by it keep these fields, unless a test is about them."""

CONFIG = """\
memplan: 1
model:
  config: {model_type: llama}   # stands for the model of the tests
batch: {micro: 8, accumulation: 2}
sequence: {length: 2048}
checkpointing: none
attention: sdpa
"""


@dataclass(slots=True)
class Counter:
    """An estimator that counts how often it is asked, and can be unsure by ``spread`` bytes both ways."""

    spread: int = 0
    asked: list[Workload] = field(default_factory=list)

    def __call__(self, workload: Workload, target: Target | None) -> Estimate:
        self.asked.append(workload)
        return estimate(workload, target, spread=self.spread)


def workload(micro: int = 8, accumulation: int = 2, length: int = 2048) -> Workload:
    """Full training of the tests' model."""
    return Workload(
        model=MODEL,
        batch=Batch(micro=micro, accumulation=accumulation),
        sequence=Sequence(length=length),
    )


def reading(what: Workload | None = None, text: str = CONFIG, path: str = "train.yaml") -> Reading:
    """A native config that reads as the workload."""
    source = Source.of(text, path)
    return Reading(
        path=Path(path),
        dialect="native",
        workload=what or workload(),
        origins={},
        document=Document(path=Path(path), source=source, root=parse(source)),
        sources={path: source},
    )


def target(mib: int) -> Target:
    """A GPU known by its memory alone."""
    return replace(Target.of_amount(Bytes(mib * MIB)), context=CONTEXT)


def estimate(what: Workload, where: Target | None = None, *, spread: int = 0) -> Estimate:
    """Bytes by formula; declared models by the sum of their tensors."""
    parts = _declared(what.model) if isinstance(what.model, DeclaredModel) else _language_model(what)
    allocated = sum(parts.values())
    # Rounded to segments that depend on the size in a way that is not monotone.
    segment = (2 + allocated % 7) * MIB if isinstance(what.model, Architecture) else 1
    reserved = -(-allocated // segment) * segment
    process = reserved + CONTEXT
    low, high = Bytes(process - spread), Bytes(process + spread)
    return Estimate(
        workload=what,
        target=where,
        device=DeviceMemory(
            peak_allocated=Bytes(allocated),
            peak_reserved=Bytes(reserved),
            context=CONTEXT,
            process=Bytes(process),
            low=low,
            high=high,
            peak_phase=Phase.BACKWARD,
            phases=((Phase.BACKWARD, Bytes(allocated)),),
            components=tuple(
                Component(name=name, bytes=Bytes(size), basis=Basis.MODELLED) for name, size in parts.items()
            ),
            gaps=(Gap(reason="made up for tests", low=Bytes(spread), high=Bytes(spread)),) if spread else (),
        ),
        host=HostMemory(peak=Bytes(0), components=()),
        disk=Bytes(0),
        verdict=_verdict(low, high, where),
        headroom=Bytes(where.limit - process if where else 0),
    )


def _verdict(low: Bytes, high: Bytes, where: Target | None) -> Verdict | None:
    if where is None:
        return None
    if high <= where.limit:
        return Verdict.FITS
    return Verdict.DOES_NOT_FIT if low > where.limit else Verdict.UNDECIDED


def _declared(model: DeclaredModel) -> dict[str, int]:
    return dict(model.sizes())


def _language_model(what: Workload) -> dict[str, int]:
    parameters = MODEL.parameters
    trained = parameters if what.adapter is None else parameters // 50
    tokens = what.batch.micro * what.sequence.length
    per_layer = tokens * 16 * HIDDEN
    if what.attention is Attention.EAGER:
        per_layer += what.batch.micro * HEADS * what.sequence.length**2 * 6
    regions = what.checkpointing.regions(LAYERS)
    recomputed = what.checkpointing.recomputed(LAYERS)
    kept = (
        (LAYERS - recomputed) * per_layer
        + len(regions) * tokens * 2 * HIDDEN
        + max(map(len, regions), default=0) * per_layer
    )
    gradients = 2 * trained * (2 if what.batch.accumulation > 1 else 1)
    return {
        "blocks": 2 * parameters,
        "gradients": gradients,
        "optimizer_state": 4 * trained,
        "activations": kept,
        "logits_and_loss": tokens * VOCABULARY * 12,
    }
