"""What a run does: everything that decides its memory, in the field's own terms."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from memplan.domain.adapting import Adapting
from memplan.domain.allocator import AllocatorOptions
from memplan.domain.architecture import Architecture, DeclaredModel
from memplan.domain.checkpointing import Checkpointing as Checkpointing
from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.host import ActivationOffload, HostUse, Saving
from memplan.domain.kernels import Kernels
from memplan.domain.zero import Zero


class Task(StrEnum):
    """Training, or autoregressive generation."""

    TRAIN = "train"
    GENERATE = "generate"


class Attention(StrEnum):
    """Attention implementation; ``sdpa`` leaves the kernel to PyTorch and the GPU."""

    EAGER = "eager"
    SDPA = "sdpa"
    MATH = "math"
    EFFICIENT = "efficient"
    FLASH_ATTENTION_2 = "flash_attention_2"


class Outputs(StrEnum):
    """How long a training loop holds what the model returned, and with it the logits.

    The Hugging Face Trainer drops it before backward (``dropped``). A loop that deletes it after backward
    holds it ``until_step``; one that only rebinds the name has it ``kept`` over the next forward pass too.
    """

    DROPPED = "dropped"
    UNTIL_STEP = "until_step"
    KEPT = "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Element types. ``None`` for gradients or optimizer state means: as the parameters.

    ``master`` is the dtype of copies of the parameters that the optimizer works on, if it has any.
    """

    params: Dtype = Dtype.BF16
    autocast: Dtype | None = None
    gradients: Dtype | None = None
    optimizer_state: Dtype | None = None
    master: Dtype | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Sequences per forward pass and GPU, and forward passes per optimizer step."""

    micro: int = 1
    accumulation: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """Tokens per sequence (every sequence is taken to be this long: the worst case)."""

    length: int = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """Optimizer by name (``adamw``, ``sgd``, …) and implementation (``foreach``, ``fused``, ``for_loop``).

    ``momentum`` is SGD's; ``clipping`` says whether gradients are clipped by their norm.
    """

    name: str = "adamw"
    implementation: str = "foreach"
    set_to_none: bool = True
    momentum: float = 0.0
    clipping: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Low-rank adapters as PEFT builds them; ``dtype`` is the adapters' own (fp32 by default in PEFT).

    ``targets`` names linear layers, ``parameters`` names parameters that hold the matrices of all experts.

    ``dora`` decomposes weights into magnitude and direction; ``modules_to_save`` names modules that
    are copied and trained whole (``embed_tokens``, ``lm_head``). ``prepare_kbit`` says that what is not
    quantized was made fp32, ``half_embeddings`` that embeddings and head then became bf16 again.
    """

    kind: str = "lora"
    rank: int = 8
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    dtype: Dtype = Dtype.FP32
    dropout: float = 0.0
    prepare_kbit: bool = False
    half_embeddings: bool = False
    dora: bool = False
    modules_to_save: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """Storage of the frozen linear weights (``nf4``, ``fp4``, ``int8``) and the dtype they compute in.

    ``readers`` is the number of threads that read the checkpoint ahead of the one that quantizes it; ``None``
    leaves it to the release of transformers.
    """

    kind: str
    double: bool = False
    compute: Dtype = Dtype.BF16
    readers: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Loss implementation: ``cross_entropy``, ``chunked`` (in ``chunks`` pieces), ``fused_linear`` (Liger's),
    ``liger_cross_entropy`` (on whole logits, in place) or ``cut_cross_entropy``.
    """

    kind: str = "cross_entropy"
    chunks: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Prompt and new tokens, cache implementation, and for which positions logits are computed.

    The ``quantized`` cache is transformers' with quanto: 4 bits a number, but for the newest 128 tokens.
    """

    prompt: int = 2048
    new_tokens: int = 128
    cache: str = "dynamic"
    logits: str = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Sequences per batch of an evaluation between steps, and for how many batches logits stay on the GPU.

    A ``batch`` of 0 is as large as those of training.

    Logits stay (``kept``) only to compute metrics from; ``eval_accumulation_steps`` bounds how many. Liger's
    fused loss makes whole logits in evaluation, unless the loop asks it to ``skip_logits`` and keeps none.
    """

    batch: int = 8
    kept: int = 0
    skip_logits: bool = True

    def makes_logits(self, loss: Loss) -> bool:
        """Whether a loss that trains without logits evaluates with them."""
        return loss.kind == "fused_linear" and (self.kept > 0 or not self.skip_logits)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Number of data-parallel GPUs and how states are sharded over them.

    Of ``DistributedDataParallel`` (``none``): ``bucket_cap_mb`` (``None``: its default) and
    ``gradient_as_bucket_view``. Of FSDP, both kinds: whether blocks let go of their parameters after the
    forward pass, and the dtypes of its mixed precision policy (``None``: the parameters' own). Of FSDP1:
    when backward starts to gather the block before (``backward_prefetch``: ``pre``, ``post`` or ``none``),
    whether forward starts on the next one (``forward_prefetch``), and whether the optimizer gets the
    original parameters (``use_orig_params``). ``no_sync`` says that with accumulation gradients are reduced
    in the last micro-batch only. ``hybrid`` says that states are sharded over the GPUs of a node and not over
    all of them. ``zero`` holds DeepSpeed's settings.
    """

    data_parallel: int = 1
    sharding: str = "none"
    no_sync: bool = True
    bucket_cap_mb: int | None = None
    gradient_as_bucket_view: bool = False
    reshard_after_forward: bool = True
    param_dtype: Dtype | None = None
    reduce_dtype: Dtype | None = None
    hybrid: bool = False
    backward_prefetch: str = "pre"
    forward_prefetch: bool = False
    use_orig_params: bool = True
    zero: Zero = field(default_factory=Zero)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmodelled:
    """A setting that is not simulated: components it may shrink to nothing, and such it may add once more.

    A component named twice in ``grows`` may be added twice. ``adds`` are bytes that come on top at most, and
    ``logits`` copies of a micro-batch's logits in fp32.
    ``unbounded`` says that nothing bounds what comes on top: no verdict is given then. The ``reason`` may
    name a line, which moves when something is written above it.
    """

    reason: str = field(compare=False)
    shrinks: tuple[str, ...] = ()
    grows: tuple[str, ...] = ()
    adds: int = 0
    logits: int = 0
    unbounded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One run: a model, and how it is trained or used.

    ``causal_mask`` says whether attention is given a materialised mask, as happens with padding. Equality
    leaves out what is ``unmodelled``: it follows from the file and names lines of it, which a rewrite moves.
    It leaves out ``adapting`` too, which says what the framework would make of adapters, and uses none.
    """

    model: Architecture | DeclaredModel
    task: Task = Task.TRAIN
    precision: Precision = field(default_factory=Precision)
    batch: Batch = field(default_factory=Batch)
    sequence: Sequence = field(default_factory=Sequence)
    optimizer: Optimizer = field(default_factory=Optimizer)
    adapter: Adapter | None = None
    quantization: Quantization | None = None
    attention: Attention = Attention.SDPA
    checkpointing: Checkpointing = field(default_factory=Checkpointing)
    activation_offload: ActivationOffload = ActivationOffload.NONE
    loss: Loss = field(default_factory=Loss)
    kernels: Kernels = field(default_factory=Kernels)
    generate: Generate = field(default_factory=Generate)
    evaluation: Evaluation | None = None
    world: World = field(default_factory=World)
    framework: Framework = field(default_factory=Framework)
    allocator: AllocatorOptions = field(default_factory=AllocatorOptions)
    host: HostUse = field(default_factory=HostUse)
    saving: Saving = field(default_factory=Saving)
    outputs: Outputs = Outputs.DROPPED
    causal_mask: bool = False
    unmodelled: tuple[Unmodelled, ...] = field(default=(), compare=False)
    adapting: Adapting | None = field(default=None, compare=False, repr=False)

    @property
    def simulated(self) -> bool:
        """Whether the run is simulated: what tensors somebody declared does is not known."""
        return isinstance(self.model, Architecture) or self.model.mechanism is not None

    @property
    def on_host(self) -> bool:
        """Whether all of it happens in host memory, without a GPU."""
        return isinstance(self.model, DeclaredModel) and self.model.on_host

    @property
    def compute(self) -> Dtype:
        """The element type most products are made in: autocast's, FSDP2's policy's, or the parameters'."""
        world = self.world
        sharded = world.sharding in ("fsdp1", "fsdp2") and world.data_parallel > 1
        gathered = world.param_dtype if sharded else None
        return self.precision.autocast or gathered or self.precision.params

    def at(self, path: str) -> Any:
        """The value at a native path such as ``batch.micro``; ``AttributeError`` if there is none."""
        found: Any = self
        for name in path.split("."):
            found = getattr(found, name)
        return found

    def changed(self, path: str, value: Any) -> Workload:
        """A copy with the value at a native path replaced.

        A path that names a declared value (``embedding_dim``) replaces that value.
        """
        if isinstance(self.model, DeclaredModel) and path in dict(self.model.values):
            values = tuple((name, value if name == path else old) for name, old in self.model.values)
            return replace(self, model=replace(self.model, values=values))
        found: Workload = _changed(self, path, value)
        return found


def _changed(noun: Any, path: str, value: Any) -> Any:
    head, _, rest = path.partition(".")
    return replace(noun, **{head: _changed(getattr(noun, head), rest, value) if rest else value})
