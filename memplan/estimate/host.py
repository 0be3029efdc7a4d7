"""Host RAM and disk of a run, as far as they are known."""

from __future__ import annotations

from memplan.domain.architecture import Architecture, DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.estimate import Basis, Component, HostMemory
from memplan.domain.workload import Workload


def host(workload: Workload) -> HostMemory:
    """Host RAM at loading: the weights pass through it once, in their own dtype (assumed)."""
    amount = _weights(workload)
    return HostMemory(
        peak=amount, components=(Component(name="weights_in_loading", bytes=amount, basis=Basis.ASSUMED),)
    )


def disk(workload: Workload) -> Bytes:
    """Disk: the weights themselves."""
    return _weights(workload)


def _weights(workload: Workload) -> Bytes:
    model = workload.model
    if isinstance(model, DeclaredModel):
        return Bytes(0)
    assert isinstance(model, Architecture)
    dtype: Dtype = workload.precision.params
    return Bytes(model.parameters * dtype.itemsize)
