"""Run the cases of ``deepspeed_cases.py`` under DeepSpeed and write what PyTorch's profiler saw.

    DS_ACCELERATOR=cpu python -m tests.oracle.record_deepspeed

DeepSpeed (0.19.8 wrote the file) is no dependency of the tests. Two processes share the work on the CPU. What
collectives allocate is up to their library: they are replaced by ones that allocate nothing.
"""

from __future__ import annotations

import gc
import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from memplan.domain.dtype import Dtype
from tests.oracle.deepspeed_cases import BATCH, CASES, CONFIG, LENGTH, RANKS, TARGETS
from tests.oracle.deepspeed_workloads import owner

FILE = Path(__file__).with_name("deepspeed_events.json")
SMALLEST = 1024
STEPS = 3
PORT = "29671"


class Done:
    """A collective that is over."""

    def wait(self, *_: Any, **__: Any) -> bool:
        """Nothing to wait for."""
        return True


def main() -> None:
    """One process for each rank; the first writes the file."""
    context = import_module("torch.multiprocessing")
    context.set_sharing_strategy("file_system")
    found = context.get_context("spawn").Manager().dict()
    context.spawn(work, args=(found,), nprocs=RANKS)
    FILE.write_text(json.dumps({name: found[name] for name in CASES}, separators=(",", ":")) + "\n")


def work(rank: int, found: Any) -> None:
    """Run every case as one of the ranks; the one that memplan simulates reports."""
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": RANKS, "LOCAL_SIZE": RANKS}
    os.environ.update({name: str(value) for name, value in places.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=PORT, DS_ACCELERATOR="cpu")
    torch = import_module("torch")
    silence(import_module("torch.distributed"))
    for name, case in CASES.items():
        load, step = run(torch, case)
        if rank == owner(case):
            found[name] = {"resident": load, "events": step}


def silence(distributed: Any) -> None:
    """Gathers give zeros, reductions nothing."""

    def gather(output_tensor: Any, *_: Any, async_op: bool = False, **__: Any) -> Any:
        output_tensor.zero_()
        return Done() if async_op else None

    def reduce(*_: Any, async_op: bool = False, **__: Any) -> Any:
        return Done() if async_op else None

    for module in (distributed, distributed.distributed_c10d):
        module.all_gather_into_tensor = gather
        module.reduce_scatter_tensor = reduce
        module.all_reduce = reduce


def run(torch: Any, case: dict[str, Any]) -> tuple[int, list[int]]:
    """Bytes there before the last step, and the events of that step."""
    # The engine of the last case goes before this one is watched.
    gc.collect()
    trained = model(torch, case)
    weights = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, foreach=True)
    deepspeed = import_module("deepspeed")

    def start() -> Any:
        return deepspeed.initialize(model=trained, optimizer=optimizer, config=settings(case))[0]

    events, engine = recorded(torch, start)
    torch.set_num_threads(1)
    torch.backends.mkldnn.set_flags(_enabled=False)
    gc.disable()
    steps = [recorded(torch, lambda: step(torch, engine, case))[0] for _ in range(STEPS)]
    gc.enable()
    engine.destroy()
    resident = sum(events) + sum(map(sum, steps[:-1]))
    return resident, [size for size in steps[-1] if abs(size) >= SMALLEST]


def model(torch: Any, case: dict[str, Any]) -> Any:
    """The model of transformers, with adapters and checkpointing as the case has them."""
    torch.manual_seed(0)
    transformers = import_module("transformers")
    shape = {name: value for name, value in CONFIG.items() if name != "model_type"}
    shape["num_hidden_layers"] = case.get("layers", shape["num_hidden_layers"])
    config = transformers.LlamaConfig(use_cache=False, **shape)
    found = transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.bfloat16, attn_implementation="eager"
    )
    if case.get("lora"):
        peft = import_module("peft")
        adapter = peft.LoraConfig(r=8, target_modules=list(TARGETS), task_type="CAUSAL_LM")
        found = peft.get_peft_model(found, adapter)
    if case.get("checkpointed"):
        found.gradient_checkpointing_enable({"use_reentrant": False})
    return found.train()


def settings(case: dict[str, Any]) -> dict[str, Any]:
    """DeepSpeed's configuration."""
    given: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": BATCH,
        "gradient_accumulation_steps": case.get("accumulation", 1),
        "zero_optimization": case["zero"],
        "bf16": {"enabled": True},
        "gradient_clipping": 1.0 if case.get("clipping") else 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "communication_data_type": case.get("communication"),
    }
    if "gradients" in case:
        given["data_types"] = {"grad_accum_dtype": Dtype.parse(case["gradients"]).label}
    return given


def step(torch: Any, engine: Any, case: dict[str, Any]) -> None:
    """One optimizer step."""
    for _ in range(case.get("accumulation", 1)):
        size = (BATCH, LENGTH)
        words = {name: torch.zeros(size, dtype=torch.int64) for name in ("input_ids", "labels")}
        loss = engine(**words).loss
        engine.backward(loss)
        del loss
        engine.step()


def recorded(torch: Any, action: Any) -> tuple[list[int], Any]:
    """Allocations and frees of a call, in bytes, and its result."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds, profile_memory=True) as profile:
        result = action()
    events = profile.profiler.kineto_results.events()
    return [event.nbytes() for event in events if event.name() == "[memory]"], result


if __name__ == "__main__":
    main()
