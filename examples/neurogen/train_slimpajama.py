"""Train NeuroGen on SlimPajama, chunk by chunk.

    python train_slimpajama.py --data slimpajama/ --max-chunks 1000

The brain itself is the C++ library built from src/ (see src/python/neurogen_bindings.cpp).
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass
class TrainingConfig:
    # Model
    vocab_size: int = 32000
    embedding_dim: int = 2048  # Quadrupled
    max_seq_length: int = 512  # Doubled for longer context

    # Training
    batch_size: int = 1
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    tokens_per_chunk: int = 4096
    max_chunks: int | None = None
    seed: int = 1234

    # Logging
    log_every: int = 10
    checkpoint_every: int = 500
    checkpoint_dir: str = "checkpoints/slimpajama"


def chunks(folder: Path, config: TrainingConfig) -> Iterator[list[int]]:
    """Token ids of the text files under a folder, in pieces of one chunk."""
    pending: list[int] = []
    for path in sorted(folder.glob("**/*.txt")):
        for line in path.open(encoding="utf-8", errors="replace"):
            pending.extend(byte % config.vocab_size for byte in line.encode())
            while len(pending) >= config.tokens_per_chunk:
                yield pending[: config.tokens_per_chunk]
                pending = pending[config.tokens_per_chunk :]


def sequences(chunk: list[int], config: TrainingConfig) -> Iterator[list[int]]:
    """Windows of at most ``max_seq_length`` tokens."""
    for start in range(0, len(chunk) - 1, config.max_seq_length):
        yield chunk[start : start + config.max_seq_length + 1]


def train(config: TrainingConfig, folder: Path) -> None:
    import neurogen  # the compiled library: make -C src

    brain = neurogen.Brain(config.vocab_size, config.embedding_dim, config.max_seq_length)
    started = time.monotonic()
    for number, chunk in enumerate(chunks(folder, config), start=1):
        losses = [brain.train_step(tokens, config.learning_rate) for tokens in sequences(chunk, config)]
        if number % config.log_every == 0:
            elapsed = time.monotonic() - started
            print(f"chunk {number}  loss {sum(losses) / len(losses):.4f}  {elapsed:.0f} s")
        if number % config.checkpoint_every == 0:
            brain.save(f"{config.checkpoint_dir}/chunk-{number}.bin")
        if number == config.max_chunks:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description="Train NeuroGen on SlimPajama.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--max-chunks", type=int)
    arguments = parser.parse_args()
    train(TrainingConfig(max_chunks=arguments.max_chunks), arguments.data)


if __name__ == "__main__":
    main()
