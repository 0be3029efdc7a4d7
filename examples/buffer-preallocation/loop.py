"""Training loop of a recurrent "brain": one token after the other goes through it."""

from dataclasses import dataclass


@dataclass
class LoopConfig:
    vocab_size: int = 500
    embedding_dim: int = 1536
    state_dim: int = 256
    broca_output_dim: int = 12288  # what the decoder reads
    tokens: int = 500  # per sequence
    decoding: str = "sampled"
    buffers: str = "per_token"  # per_token | preallocated | batched
    chunk: int = 0  # tokens at once when batched
