"""What a run asks of the machine around the GPU: how it loads, feeds and saves, and what that takes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from memplan.domain.dtype import Dtype

LOADINGS = ("mapped", "direct", "state_dict", "initialised")
"""How weights come in.

``mapped``: safetensors files are mapped, the model is made of them in RAM and then moved to the GPU.
``direct``: the same, but every tensor goes to the GPU as it is read (``device_map``).
``state_dict``: a model is initialised, then given a whole ``torch.load``-ed state dict.
``initialised``: the weights are made in RAM, in fp32.
"""


class ActivationOffload(StrEnum):
    """Which of the tensors that autograd saves wait for backward in host memory.

    ``save_on_cpu`` sends all of them, as PyTorch's context manager does. ``single_stream`` and ``streams``
    are those that ``OffloadActivations`` of TRL sends, copied between kernels or beside them.
    """

    NONE = "none"
    SAVE_ON_CPU = "save_on_cpu"
    SINGLE_STREAM = "single_stream"
    STREAMS = "streams"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostUse:
    """How a process uses host memory.

    ``published`` is the dtype of the files (None: that of the parameters). ``workers`` are DataLoader
    workers, each with ``prefetch`` batches under way; ``pinned`` says that batches are copied to
    pinned memory.
    """

    loading: str = "mapped"
    published: Dtype | None = None
    workers: int = 0
    prefetch: int = 2
    pinned: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """Checkpoints on disk: how many are ``kept``, and whether they hold the ``optimizer``'s state.

    ``kept`` 0 means that none is ever written.
    """

    kept: int = 1
    optimizer: bool = True
