"""The run that a file of the Trainer's family describes, once the model and its adapter are known."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memplan.dialects.flat import upcast
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Document, Intake, Origin, Reading
from memplan.dialects.table import settle
from memplan.dialects.trainer.arguments import Arguments
from memplan.dialects.trainer.attention import attention
from memplan.dialects.trainer.checkpointing import checkpointing
from memplan.dialects.trainer.evaluation import evaluation
from memplan.dialects.trainer.losses import kernels
from memplan.dialects.trainer.machine import host, saving
from memplan.dialects.trainer.optimizers import optimizer
from memplan.dialects.trainer.precision import mixed
from memplan.dialects.trainer.unmodelled import unmodelled
from memplan.dialects.trainer.worlds import world
from memplan.dialects.trainer.write import settings
from memplan.domain.adapting import Adapting
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.harm import Harm
from memplan.domain.workload import Adapter, Batch, Precision, Quantization, Sequence, Workload

BALANCED = "the router's balancing loss is computed per micro-batch, so fewer sequences at a time change it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a framework's own keys say about the model: ``params`` is the dtype it is loaded in.

    ``adapting`` is what the framework would make of adapters and 4-bit weights that nobody asks for yet.
    """

    shape: Architecture
    params: Dtype
    adapter: Adapter | None = None
    quantization: Quantization | None = None
    loading: str = "mapped"
    adapting: Adapting | None = None


def workload(keys: Keys, arguments: Arguments, model: Model) -> Workload:
    """Everything the Trainer's arguments decide, apart from DeepSpeed's.

    Raises:
        FieldError: a value that decides memory has the wrong type or range.
    """
    sizes = settle(keys, settings(arguments))
    spread = world(keys, arguments)
    loss, fused = kernels(keys, arguments, model.shape)
    found = Workload(
        model=model.shape,
        precision=Precision(params=model.params, autocast=mixed(keys, arguments)),
        batch=Batch(micro=sizes["batch.micro"], accumulation=sizes["batch.accumulation"]),
        sequence=Sequence(length=sizes["sequence.length"]),
        optimizer=optimizer(keys, arguments, spread.sharding),
        adapter=model.adapter,
        quantization=model.quantization,
        attention=attention(keys, arguments),
        checkpointing=checkpointing(keys, arguments),
        loss=loss,
        kernels=fused,
        evaluation=evaluation(keys, arguments),
        world=spread,
        host=host(keys, arguments, model.shape, model.loading),
        saving=saving(keys, arguments),
        unmodelled=unmodelled(keys, arguments),
        adapting=model.adapting if model.quantization is None or model.quantization.kind == "int8" else None,
    )
    keys.origins.setdefault("task", Origin(how="default", note=f"{arguments.framework} trains"))
    return _under_fsdp(keys, found)


def reading(
    document: Document, keys: Keys, dialect: str, run: Workload, intake: Intake, *, balanced: bool = False
) -> Reading:
    """The reading of a workload, together with the DeepSpeed config that ``deepspeed`` names or holds.

    ``balanced`` says that experts, if the model has some, are kept in balance by an auxiliary loss.
    """
    mixture = isinstance(run.model, Architecture) and run.model.mixture is not None
    found = keys.reading(document, dialect, run, Harm.BEHAVIOUR if mixture and balanced else None, BALANCED)
    config = keys.get("deepspeed")
    if config is None:
        return found
    from memplan.dialects.zero.engine import joined

    return joined(found, config, intake)


def _under_fsdp(keys: Keys, run: Workload) -> Workload:
    """FSDP2 computes in the dtype of its policy, and both keep what is trained in fp32 (accelerate)."""
    dtype = run.precision.autocast
    if run.world.sharding != "fsdp2" or dtype is None:
        return upcast(run)
    note = "FSDP2 computes in the dtype of its policy, without autocast"
    keys.origins["precision.autocast"] = Origin(how="default", note=note)
    params = run.precision.params if run.adapter is not None else Dtype.FP32
    return replace(
        run,
        precision=replace(run.precision, params=params, autocast=None),
        world=replace(run.world, param_dtype=dtype, reduce_dtype=dtype),
    )
