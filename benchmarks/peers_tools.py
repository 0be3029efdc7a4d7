"""The estimators compared: how each is installed, asked about a row, and read.

They are run as their users run them, from PyPI, each in an environment of its own; nothing of them is copied.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import peers_cases
from benchmarks.peers_cases import Case
from memplan.domain.workload import Attention

MIB = 2**20
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """An answer, in bytes: the peak of PyTorch's tensors, and of the whole process where a tool has it."""

    allocated: int
    process: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One command line and the variables it needs."""

    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """An estimator. ``steps`` are what pip is asked for, in order; ``packages`` whose versions count.

    ``obstacle`` says why a row cannot be put to it, ``call`` how to ask, with the tool's folder of programs
    and a folder to write to, and ``read`` takes the answer from what it printed.
    """

    name: str
    steps: tuple[tuple[str, ...], ...]
    packages: tuple[str, ...]
    obstacle: Callable[[Case], str | None]
    call: Callable[[Case, Path, Path], Call]
    read: Callable[[str], Figures]

    @property
    def environment(self) -> str:
        """The folder of its environment, below the cache."""
        return "-".join((self.name, *self.packages)).replace("==", "-").lower().replace(" ", "-")


def cache() -> Path:
    """Where environments are kept: ``MEMPLAN_PEERS``, else ``memplan-peers`` in the user's cache folder."""
    chosen = os.environ.get("MEMPLAN_PEERS")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(home) / "memplan-peers"


def install(tool: Tool) -> Path:
    """The folder of a tool's programs, installed the first time.

    Raises:
        CalledProcessError: pip could not install it; ``stderr`` says why.
    """
    if not tool.steps:
        return Path(sys.executable).parent
    environment = cache() / tool.environment
    done = environment / ".installed"
    if not done.is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
        for step in tool.steps:
            pip = (str(environment / "bin" / "python"), "-m", "pip", "install", "-qq", "--no-input", *step)
            subprocess.run(pip, check=True, capture_output=True, text=True)
        done.touch()
    return environment / "bin"


def _memplan(case: Case, programs: Path, _: Path) -> Call:
    command = (str(programs / "python"), "-m", "memplan", "estimate", str(case.row.path))
    return Call(arguments=(*command, "--format", "json"), variables={"PYTHONPATH": str(HERE.parent)})


def _read_memplan(printed: str) -> Figures:
    device = json.loads(printed)["device"]
    return Figures(allocated=device["peak_allocated"], process=device["process"])


def _foreign(case: Case) -> str | None:
    return (
        None if case.workload.framework.code == "transformers" else "models in other code than transformers'"
    )


_VRAMCALC_MODELS = ("llama", "mistral", "qwen2", "gemma", "gemma2")
"""The model types it says it supports."""


def _vramcalc_obstacle(case: Case) -> str | None:
    if _foreign(case):
        return _foreign(case)
    if case.config["model_type"] not in _VRAMCALC_MODELS:
        return f"no {case.config['model_type']} models"
    return "no quantized weights" if case.workload.quantization else None


def _vramcalc(case: Case, programs: Path, folder: Path) -> Call:
    workload = case.workload
    kernels = {Attention.EAGER: "eager", Attention.FLASH_ATTENTION_2: "flash"}
    arguments = [str(programs / "vramcalc"), "estimate", str(peers_cases.write_config(case, folder))]
    if not case.generates:
        arguments += ["--train", "--precision", "amp" if case.mixed else "pure"]
    arguments += ["--dtype", case.compute.label]
    arguments += ["--batch", str(workload.batch.micro), "--seq", str(workload.sequence.length)]
    arguments += ["--attn", kernels.get(workload.attention, "sdpa"), "--json"]
    if workload.adapter:
        arguments += ["--lora", str(workload.adapter.rank)]
    if workload.checkpointing.every:
        arguments.append("--grad-checkpoint")
    return Call(arguments=tuple(arguments))


def _read_vramcalc(printed: str) -> Figures:
    found = json.loads(printed)["estimate"]
    return Figures(allocated=found["total"], process=found["total"] + found["overhead"])


_FITCHECK_GPUS = {"t4": "t4", "rtx-a6000": "a6000", "a100-80gb": "a100-80"}


def _fitcheck_obstacle(case: Case) -> str | None:
    if _foreign(case):
        return _foreign(case)
    if case.generates:
        return "weights and cache of inference, not what a prefill computes"
    return "no fp32 parameters under autocast" if case.mixed else None


def _fitcheck(case: Case, programs: Path, folder: Path) -> Call:
    workload, adapter = case.workload, case.workload.adapter
    home = peers_cases.write_hub_cache(case, folder)
    arguments = [str(programs / "fitcheck"), case.model, "--json", "--gpu", _FITCHECK_GPUS[case.gpu]]
    arguments += ["--precision", case.compute.label, "--seq-len", str(workload.sequence.length)]
    arguments += ["--batch-size", str(workload.batch.micro)]
    if adapter:
        arguments += ["--lora-r", str(adapter.rank), "--lora-targets", ",".join(adapter.targets)]
    else:
        arguments += ["--no-lora", "--optimizer-dtype", workload.precision.params.label]
    if workload.quantization:
        arguments += ["--quant", workload.quantization.kind]
    if workload.checkpointing.every:
        arguments.append("--grad-checkpoint")
    if workload.attention is not Attention.EAGER:
        arguments.append("--flash-attn")
    return Call(arguments=tuple(arguments), variables={"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"})


def _read_fitcheck(printed: str) -> Figures:
    found = json.loads(printed)["memory_mib"]
    tensors = sum(found[name] for name in ("weights", "lora", "optimizer", "gradients", "activations"))
    return Figures(allocated=round(tensors * MIB), process=round(found["total"] * MIB))


def _only_mixed(case: Case) -> str | None:
    if _foreign(case):
        return _foreign(case)
    if case.generates:
        return "training alone"
    if case.workload.adapter:
        return "no adapters"
    return None if case.mixed else "half precision means fp32 masters to it, which the run did not have"


def _accelerate(case: Case, programs: Path, folder: Path) -> Call:
    config = peers_cases.write_config(case, folder)
    script = str(HERE / "peers_accelerate.py")
    return Call(
        arguments=(str(programs / "python"), script, str(config.parent), "float16"),
        variables={"HF_HUB_OFFLINE": "1"},
    )


def _deepspeed(case: Case, programs: Path, _: Path) -> Call:
    script = str(HERE / "peers_deepspeed.py")
    return Call(arguments=(str(programs / "python"), script, str(case.parameters)))


def _read_last_line(printed: str) -> Figures:
    return Figures(allocated=int(printed.split()[-1]))


_TORCH = "torch==2.13.0"

TOOLS = (
    Tool(
        name="memplan",
        steps=(),
        packages=(),
        obstacle=lambda _: None,
        call=_memplan,
        read=_read_memplan,
    ),
    Tool(
        name="vramcalc",
        steps=(("vramcalc==0.1.2",),),
        packages=("vramcalc==0.1.2",),
        obstacle=_vramcalc_obstacle,
        call=_vramcalc,
        read=_read_vramcalc,
    ),
    Tool(
        name="fitcheck-llm",
        steps=(("fitcheck-llm==0.3.1",),),
        packages=("fitcheck-llm==0.3.1",),
        obstacle=_fitcheck_obstacle,
        call=_fitcheck,
        read=_read_fitcheck,
    ),
    Tool(
        name="accelerate estimate-memory",
        # torch first and pinned, so that pip does not resolve another build of it.
        steps=((_TORCH,), (_TORCH, "accelerate==1.15.0", "transformers==5.23.0")),
        packages=("accelerate==1.15.0",),
        obstacle=_only_mixed,
        call=_accelerate,
        read=_read_last_line,
    ),
    Tool(
        name="DeepSpeed's ZeRO-2 estimator",
        steps=(
            (_TORCH, "setuptools==84.2.1", "wheel==0.48.0", "ninja==1.13.2"),
            (_TORCH, "--no-build-isolation", "deepspeed==0.19.8"),
        ),
        packages=("deepspeed==0.19.8",),
        obstacle=_only_mixed,
        call=_deepspeed,
        read=_read_last_line,
    ),
)
"""memplan first, asked in the same way as the others."""
