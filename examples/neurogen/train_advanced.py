"""Advanced training: curriculum, consolidation ("sleep") phases and a warm-up schedule.

    python train_advanced.py --data slimpajama/ --phase all
"""

import argparse
import math
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Phase:
    name: str
    steps: int
    learning_rate: float
    max_seq_length: int = 128


@dataclass
class AdvancedConfig:
    vocab_size: int = 32000
    embedding_dim: int = 2048  # Quadrupled
    max_seq_length: int = 256

    warmup_steps: int = 200
    consolidation_every: int = 1000  # replay from the hippocampus
    consolidation_steps: int = 50
    dropout: float = 0.1

    phases: list[Phase] = field(
        default_factory=lambda: [
            Phase("babble", steps=2000, learning_rate=1e-3),
            Phase("words", steps=8000, learning_rate=5e-4),
            Phase("text", steps=40000, learning_rate=2e-4, max_seq_length=256),
        ]
    )


def rate(step: int, phase: Phase, config: AdvancedConfig) -> float:
    """Linear warm-up, then a cosine down to a tenth."""
    if step < config.warmup_steps:
        return phase.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, phase.steps - config.warmup_steps)
    return phase.learning_rate * (0.55 + 0.45 * math.cos(math.pi * min(1.0, progress)))


def train(config: AdvancedConfig, folder: Path, wanted: str) -> None:
    import neurogen  # the compiled library: make -C src

    brain = neurogen.Brain(config.vocab_size, config.embedding_dim, config.max_seq_length)
    text = b"".join(path.read_bytes() for path in sorted(folder.glob("**/*.txt")))
    for phase in config.phases:
        if wanted not in ("all", phase.name):
            continue
        length = min(phase.max_seq_length, config.max_seq_length)
        for step in range(phase.steps):
            start = step * length % max(1, len(text) - length)
            loss = brain.train_step(list(text[start : start + length + 1]), rate(step, phase, config))
            if step % config.consolidation_every == 0:
                brain.consolidate(config.consolidation_steps)
                print(f"{phase.name}  step {step}  loss {loss:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train NeuroGen with a curriculum.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--phase", default="all")
    arguments = parser.parse_args()
    train(AdvancedConfig(), arguments.data, arguments.phase)


if __name__ == "__main__":
    main()
