"""Record training steps with Liger's kernels on the CPU: ``python -m tests.oracle.record_liger``.

Needs liger-kernel of ``liger_cases.RELEASE`` but no Triton: kernels are replaced by functions without effect,
so that only what Liger's own Python code allocates is left. Its package is copied and made to take the CPU
for a GPU of 108 multiprocessors and compute capability 8.0. The tests need none of it: they read
``liger_events.json``.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import shutil
import sys
import tempfile
import types
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
import transformers

from memplan.domain.kernels import GLU, RMS_NORM, ROPE
from tests.oracle.artefacts import SMALLEST
from tests.oracle.cpu_step import DTYPES, prepared, second_step_of
from tests.oracle.liger_cases import CASES, EVENTS, Case

MULTIPROCESSORS, CAPABILITY = 108, (8, 0)
ON_A_GPU = ("rms_norm", "layer_norm", "fused_linear_cross_entropy")
"""Files of Liger that ask for the kind of device."""


class Kernel:
    """``kernel[grid](…)`` of a function that is never run."""

    def __getitem__(self, _: object) -> Any:
        return lambda *_args, **_kwargs: None


def jit(function: Any = None, **_: object) -> Any:
    return jit if function is None else Kernel()


class Stub(types.ModuleType):
    """A module that has whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock()


class Triton(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``triton`` and all its modules, in which nothing happens."""

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] != "triton":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        found = Stub(spec.name)
        if spec.name == "triton":
            found.jit = jit  # type: ignore[attr-defined]
            found.__version__ = "3.5.0"  # type: ignore[attr-defined]
            found.cdiv = lambda a, b: -(-a // b)  # type: ignore[attr-defined]
            found.next_power_of_2 = lambda n: 1 << (n - 1).bit_length()  # type: ignore[attr-defined]
            for name in ("heuristics", "autotune"):
                setattr(found, name, lambda *_args, **_kwargs: lambda function: function)
        return found

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def patches() -> Any:
    """Liger's module that patches models, from a copy that takes the CPU for a GPU."""
    found = importlib.util.find_spec("liger_kernel")
    assert found is not None
    (folder,) = found.submodule_search_locations or []
    copied = Path(tempfile.mkdtemp()) / "liger_kernel"
    shutil.copytree(folder, copied)
    for name in ON_A_GPU:
        path = copied / "ops" / f"{name}.py"
        text = path.read_text()
        for sign in ("==", "!="):
            text = text.replace(f'device.type {sign} "cuda"', f'device.type {sign} "cpu"')
        path.write_text(text)
    sys.path.insert(0, str(copied.parent))
    sys.meta_path.insert(0, Triton())
    properties = types.SimpleNamespace(multi_processor_count=MULTIPROCESSORS)
    torch.cuda.get_device_properties = lambda *_: properties
    torch.cuda.get_device_capability = lambda *_: CAPABILITY
    return importlib.import_module("liger_kernel.transformers.monkey_patch")


def events(case: Case, liger: Any) -> list[int]:
    """Allocations (positive) and frees (negative) of the second step, in bytes, in order."""
    asked, config = case.workload, dict(case.model)
    name = config.pop("model_type")
    shape = transformers.AutoConfig.for_model(name, use_cache=False, **config)
    dtype = DTYPES[asked.precision.params]
    model = transformers.AutoModelForCausalLM.from_config(shape, dtype=dtype, attn_implementation="eager")
    module, functional = importlib.import_module(type(model).__module__), torch.nn.functional
    before, entropy = dict(vars(module)), functional.cross_entropy
    names = inspect.signature(liger.MODEL_TYPE_TO_APPLY_LIGER_FN[name]).parameters
    switches = {
        "rms_norm": RMS_NORM in case.kernels,
        "geglu" if "geglu" in names else "swiglu": GLU in case.kernels,
        "rope": ROPE in case.kernels,
        "fused_linear_cross_entropy": case.loss == "fused_linear",
        "cross_entropy": case.loss == "liger_cross_entropy",
    }
    liger._apply_liger_kernel_to_instance(model=model, **switches)
    try:
        return second_step_of(prepared(model, asked), asked)
    finally:
        # Liger also replaces the classes, for models that are built later.
        vars(module).update(before)
        functional.cross_entropy = entropy


def main() -> None:
    """Write the file anew."""
    torch.set_num_threads(1)
    torch.backends.mkldnn.set_flags(_enabled=False)
    torch.manual_seed(0)
    liger = patches()
    found = {
        name: [size for size in events(case, liger) if abs(size) >= SMALLEST] for name, case in CASES.items()
    }
    lines = [f"{json.dumps(name)}: {json.dumps(sizes)}" for name, sizes in found.items()]
    EVENTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
