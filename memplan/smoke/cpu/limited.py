"""A limit on the memory of this process that the kernel keeps, and what PyTorch says when it refuses.

``RLIMIT_DATA`` counts private pages that can be written to, which is what tensors are made of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memplan.domain.bytes import Bytes

_STATUS = Path("/proc/self/status")
_REFUSED = re.compile(r"tried to allocate (\d+) bytes")
"""``alloc_cpu`` in c10/core/impl/alloc_cpu.cpp."""


def possible() -> bool:
    """Whether this system says what the process has, so that it can be limited."""
    return _private() is not None


@contextmanager
def limited(budget: int) -> Iterator[None]:
    """Within the block no more than ``budget`` bytes beside what is there can be allocated."""
    import resource

    used = _private()
    assert used is not None, "ask whether it is possible"
    before = resource.getrlimit(resource.RLIMIT_DATA)
    most = used + budget
    most = most if before[1] == resource.RLIM_INFINITY else min(most, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def refused(error: BaseException) -> Bytes | None:
    """The bytes of the allocation that an error is about; None if it is about something else."""
    found = _REFUSED.search(str(error))
    return Bytes(int(found[1])) if found else None


def _private() -> int | None:
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), None)
