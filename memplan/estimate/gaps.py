"""What the simulation does not model, and how far it may push the truth: named, never dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Component, Gap
from memplan.domain.target import Target
from memplan.domain.workload import Workload
from memplan.estimate.kernel_gaps import kernel_gaps
from memplan.estimate.mixture_gaps import mixture_gaps
from memplan.estimate.optimizer_gaps import optimizer_gaps
from memplan.estimate.world_gaps import world_gaps
from memplan.estimate.zero_gaps import zero_gaps
from memplan.simulator.fused_loss import FUSED
from memplan.simulator.loading import readers


def gaps(workload: Workload, target: Target | None, parts: Sequence[Component]) -> Iterator[Gap]:
    """Every unmodelled side of a language model's run, with its bytes below and above the point estimate."""
    shape = workload.model
    if not isinstance(shape, Architecture):
        return
    sizes = {part.name: int(part.bytes) for part in parts}
    yield from _family(shape, sizes)
    yield from _code(workload, shape, sizes)
    yield from _left_out(workload, shape)
    yield from _quantization(workload, shape, sizes)
    yield from optimizer_gaps(workload, shape, sizes)
    yield from _loss(workload, sizes)
    yield from _kernels(workload, shape, sizes)
    yield from world_gaps(workload, sizes)
    yield from zero_gaps(workload, shape, sizes)
    yield from _adapter(workload, sizes)
    yield from _offload(workload, shape, sizes)
    yield from _settings(workload, sizes)
    yield from mixture_gaps(workload, shape, sizes)
    if target is not None:
        yield from _dtype(workload, target)
        yield from kernel_gaps(workload, shape, target)


def boundless(workload: Workload, shape: Architecture) -> bool:
    """Whether nothing bounds what a run takes, whatever levers change: its model, or a setting they leave."""
    from memplan.families import known, written_by

    unknown = shape.model_type not in known() or not written_by(shape, workload)
    return unknown or any(setting.unbounded for setting in workload.unmodelled)


def _family(shape: Architecture, sizes: dict[str, int]) -> Iterator[Gap]:
    """Of a model type that is not known only one vocabulary matrix is certain."""
    from memplan.families import known

    if shape.model_type not in known():
        yield Gap(
            reason=f"model_type {shape.model_type} is not known: counted as a Llama of the same dimensions",
            low=Bytes(sum(sizes.values()) - sizes["embeddings"]),
            unbounded=True,
        )


def _code(workload: Workload, shape: Architecture, sizes: dict[str, int]) -> Iterator[Gap]:
    """What another library's code adds; of a model it writes otherwise only the weights are certain."""
    from memplan.families import left_out, written_by

    for reason, size in left_out(shape, workload):
        yield Gap(reason=reason, high=Bytes(size))
    if not written_by(shape, workload):
        certain = sum(sizes[name] for name in ("embeddings", "decoder_matrix", "blocks"))
        code = workload.framework.code
        yield Gap(
            reason=f"{code}'s {shape.model_type} is not simulated: counted as transformers writes it",
            low=Bytes(sum(sizes.values()) - certain),
            unbounded=True,
        )


def _left_out(workload: Workload, shape: Architecture) -> Iterator[Gap]:
    """What a family says it leaves out."""
    for reason, size in shape.unmodelled:
        yield Gap(reason=reason, high=Bytes(size * workload.batch.micro))


def _offload(workload: Workload, shape: Architecture, sizes: dict[str, int]) -> Iterator[Gap]:
    """Where blocks get several tensors by position, all of them would go to the host."""
    simulated = shape.causal and workload.framework.code == "transformers"
    if workload.checkpointing.offload and workload.checkpointing.every and not simulated:
        yield Gap(
            reason="inputs of checkpointed blocks are counted on the GPU, though they wait on the host",
            low=Bytes(sizes["activations"]),
        )


def _settings(workload: Workload, sizes: dict[str, int]) -> Iterator[Gap]:
    """What the config asks for that no op stands for."""
    for setting in workload.unmodelled:
        low = sum(sizes[name] for name in setting.shrinks)
        high = setting.adds + setting.logits * _logits(workload) + sum(sizes[name] for name in setting.grows)
        yield Gap(reason=setting.reason, low=Bytes(low), high=Bytes(high), unbounded=setting.unbounded)


def _logits(workload: Workload) -> int:
    """Bytes of the logits of a micro-batch in fp32."""
    vocabulary = workload.model.vocab_size if isinstance(workload.model, Architecture) else 0
    return 4 * workload.batch.micro * workload.sequence.length * vocabulary


def _quantization(workload: Workload, shape: Architecture, sizes: dict[str, int]) -> Iterator[Gap]:
    """Some 0.1 % of LLM.int8's features have outliers, kept in 16 bits (Dettmers et al. 2022, §3).

    Where threads read ahead of the one that quantizes, that one first waits for the embeddings or the head:
    meanwhile each of the others may read as much, all of which stays cached (memplan/simulator/loading.py).
    """
    if workload.quantization is None:
        return
    threads = readers(workload.quantization, workload.framework)
    if threads > 1:
        first = shape.vocab_size * shape.hidden_size * workload.precision.params.itemsize
        yield Gap(
            reason="what reading ahead leaves cached while a model is quantized differs from run to run",
            high=Bytes((threads - 1) * first),
            cached=True,
        )
    if workload.quantization.kind == "int8":
        yield Gap(
            reason="int8 weights: which columns are computed in 16 bits depends on the data",
            high=Bytes(sizes["activations"] // 500),
        )


def _loss(workload: Workload, sizes: dict[str, int]) -> Iterator[Gap]:
    if workload.loss.kind not in ("cross_entropy", "chunked", "liger_cross_entropy", *FUSED):
        reason = f"{workload.loss.kind} loss is not simulated: counted as plain cross-entropy"
        yield Gap(reason=reason, low=Bytes(sizes["logits_and_loss"]))


def _kernels(workload: Workload, shape: Architecture, sizes: dict[str, int]) -> Iterator[Gap]:
    """Kernels keep less than the ops they replace."""
    if workload.kernels.liger:
        from memplan.domain.liger import left_out

        names = ", ".join(left_out(shape, workload))
        if names:
            reason = f"Liger's kernels of {shape.model_type} ({names}) keep less than is counted"
            yield Gap(reason=reason, low=Bytes(sizes["activations"]))


def _adapter(workload: Workload, sizes: dict[str, int]) -> Iterator[Gap]:
    adapter = workload.adapter
    if adapter is not None and adapter.kind != "lora":
        reason = f"{adapter.kind} adapters are not simulated: counted as LoRA"
        share = sizes["adapter"] + sizes["gradients"] + sizes["optimizer_state"]
        yield Gap(reason=reason, low=Bytes(share), high=Bytes(share + sizes["activations"]))


def _dtype(workload: Workload, target: Target) -> Iterator[Gap]:
    """Said, though it takes no byte: what the hardware lacks is emulated, slowly."""
    for dtype in {workload.precision.params, workload.compute}:
        if not target.supports(dtype):
            yield Gap(
                reason=f"{target.name} has no {dtype} arithmetic: train in fp16 there, or choose a newer GPU"
            )
