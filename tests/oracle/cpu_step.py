"""A training step that really runs, on the CPU, and the allocations PyTorch's profiler saw in it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Adapter, Outputs, Workload
from tests.oracle.libraries import library

torch = library("torch")
transformers = library("transformers")
peft = library("peft")

Batches = Callable[[Workload], dict[str, Any]]
"""Makes the arguments of a forward pass."""

DTYPES = {Dtype.FP32: torch.float32, Dtype.BF16: torch.bfloat16, Dtype.FP16: torch.float16}


RENAMED = ".*(gradient_checkpointing_enable|is_gradient_checkpointing)` is deprecated"
"""What transformers says of the names that its 4.x releases have too, and that peft still uses."""


def model(config: Mapping[str, Any], workload: Workload) -> Any:
    """The model of transformers for a ``config.json``, ready to train as the workload says."""
    settings = {key: value for key, value in config.items() if key != "model_type"}
    shape = transformers.AutoConfig.for_model(config["model_type"], use_cache=False, **settings)
    found = transformers.AutoModelForCausalLM.from_config(
        shape, dtype=DTYPES[workload.precision.params], attn_implementation="eager"
    )
    return prepared(found, workload)


def prepared(found: Any, workload: Workload, task: str | None = "CAUSAL_LM") -> Any:
    """A model of transformers in training mode, with the workload's checkpointing and adapters."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", RENAMED, FutureWarning)
        # What peft says of ranks of parameters, which take effect all the same.
        warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys", RuntimeWarning)
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to False", UserWarning)
        if workload.checkpointing.every:
            kwargs = {"offload": True} if workload.checkpointing.offload else {}
            reentrant = {"use_reentrant": workload.checkpointing.reentrant}
            found.gradient_checkpointing_enable(reentrant, **kwargs)
        if workload.adapter is not None:
            found = peft.get_peft_model(found, lora(workload.adapter, task))
    return found.train()


def lora(adapter: Adapter, task: str | None) -> Any:
    return peft.LoraConfig(
        r=adapter.rank,
        lora_alpha=2 * adapter.rank,
        target_modules=list(adapter.targets),
        target_parameters=list(adapter.parameters) or None,
        use_dora=adapter.dora,
        modules_to_save=list(adapter.modules_to_save) or None,
        task_type=task,
    )


def second_step(config: Mapping[str, Any], workload: Workload) -> list[int]:
    """Allocations (positive) and frees (negative) of the second optimizer step, in bytes, in order."""
    torch.manual_seed(0)
    return second_step_of(model(config, workload), workload)


def words(workload: Workload) -> dict[str, Any]:
    """Token ids and labels of a batch."""
    size = (workload.batch.micro, workload.sequence.length)
    return {name: torch.zeros(size, dtype=torch.int64) for name in ("input_ids", "labels")}


def second_step_of(trained: Any, workload: Workload, batch: Batches = words) -> list[int]:
    """The same of a model that is there already, given batches of its own kind."""
    optimizer = torch.optim.AdamW(
        [parameter for parameter in trained.parameters() if parameter.requires_grad],
        foreach=workload.optimizer.implementation == "foreach",
    )
    step = {Outputs.DROPPED: _step, Outputs.UNTIL_STEP: _step_deleting_outputs}.get(
        workload.outputs, _step_keeping_outputs
    )
    step(trained, optimizer, workload, batch)
    return recorded(lambda: step(trained, optimizer, workload, batch))


def recorded(run: Any) -> list[int]:
    """Allocations (positive) and frees (negative) of a call, in bytes, in order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile:
            run()
    events = profile.profiler.kineto_results.events()
    return [event.nbytes() for event in events if event.name() == "[memory]"]


def _step(trained: Any, optimizer: Any, workload: Workload, batch: Batches) -> None:
    """A loop that keeps only the loss, as the Hugging Face Trainer does."""
    for _ in range(workload.batch.accumulation):
        inputs = batch(workload)
        loss = trained(**inputs).loss
        loss.backward()
        del loss
    _update(optimizer, workload)


def _step_keeping_outputs(trained: Any, optimizer: Any, workload: Workload, batch: Batches) -> None:
    """A plain loop, whose ``outputs`` hold the logits until they are replaced."""
    for _ in range(workload.batch.accumulation):
        inputs = batch(workload)
        outputs = trained(**inputs)
        outputs.loss.backward()
    _update(optimizer, workload)


def _step_deleting_outputs(trained: Any, optimizer: Any, workload: Workload, batch: Batches) -> None:
    """A loop that deletes its ``outputs`` once backward is over."""
    for _ in range(workload.batch.accumulation):
        inputs = batch(workload)
        outputs = trained(**inputs)
        outputs.loss.backward()
        del outputs
    _update(optimizer, workload)


def _update(optimizer: Any, workload: Workload) -> None:
    optimizer.step()
    optimizer.zero_grad(set_to_none=workload.optimizer.set_to_none)
