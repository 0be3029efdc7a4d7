"""Stands in for the compiled library where there is no GPU: takes in RAM what the library takes of one.

    memplan watch --config examples/neurogen -- python examples/neurogen/standin.py --share 8

The amounts follow from the values that stand in the sources now, so they are those memplan predicts. With
``--share 8`` it is an eighth of everything, for a machine that has other things to do.
"""

import argparse
import os
import re
import time
from pathlib import Path

from train_slimpajama import TrainingConfig

FLOAT = 4
BINDINGS = Path(__file__).parent / "src" / "python" / "neurogen_bindings.cpp"
OUTPUT_DIM = re.compile(r"gpu_decoder_config\.output_dim\s*=\s*(\d+)\s*;")


def amounts(config: TrainingConfig, output_dim: int) -> dict[str, int]:
    """Bytes of everything the library keeps; the last two were measured, and stand in memplan.yaml."""
    return {
        "token_embeddings": config.vocab_size * config.embedding_dim * FLOAT,
        "decoder_matrix": output_dim * config.vocab_size * FLOAT,
        "brain_modules": 533_330_000 + 8138 * output_dim,
        "working_memory": 400_000_000,
    }


def enter(phase: str) -> None:
    """Tell memplan watch; without it nobody listens."""
    if told := os.environ.get("MEMPLAN_PHASES"):
        with open(told, "a", encoding="utf-8") as stream:
            stream.write(f"{phase}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Take as much memory as NeuroGen, in RAM.")
    parser.add_argument("--share", type=int, default=1, metavar="N", help="take only one in N bytes")
    parser.add_argument("--pause", type=float, default=0.3, metavar="SECONDS", help="how long to hold it")
    arguments = parser.parse_args()
    found = OUTPUT_DIM.search(BINDINGS.read_text(encoding="utf-8"))
    assert found is not None, f"no output_dim in {BINDINGS}"
    held = {}
    for name, size in amounts(TrainingConfig(), int(found[1])).items():
        enter(name)
        # Written to, so that every page of it is there.
        held[name] = b"1" * (size // arguments.share)
        print(f"{name:18}{len(held[name]) / 2**20:8.1f} MiB")
        time.sleep(arguments.pause)
    print(f"{'in all':18}{sum(map(len, held.values())) / 2**20:8.1f} MiB")


if __name__ == "__main__":
    main()
