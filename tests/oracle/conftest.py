"""Settings under which PyTorch's CPU backend allocates most like CUDA's."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.oracle.libraries import library


@pytest.fixture(autouse=True, scope="session")
def quiet_cpu() -> Iterator[None]:
    """One thread, and no oneDNN: its scratch memory has no counterpart on a GPU."""
    torch = library("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    _use_onednn(torch, False)
    yield
    _use_onednn(torch, True)
    torch.set_num_threads(threads)


def _use_onednn(torch: Any, wanted: bool) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TF32 acceleration on top of oneDNN", UserWarning)
        torch.backends.mkldnn.set_flags(_enabled=wanted)
