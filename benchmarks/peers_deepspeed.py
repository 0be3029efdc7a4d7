"""Run inside DeepSpeed's environment: what its ZeRO-2 estimator says of one GPU without offloading.

python peers_deepspeed.py PARAMETERS      bytes per GPU
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def main(parameters: str) -> None:
    """Print the estimator's figure, in bytes."""
    module: Any = import_module("deepspeed.runtime.zero.stage_1_and_2")
    _, gpu = module.estimate_zero2_model_states_mem_needs(
        total_params=int(parameters), num_gpus_per_node=1, num_nodes=1, cpu_offload=False
    )
    print(int(gpu))


if __name__ == "__main__":
    main(*sys.argv[1:])
