from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import shapes
from memplan.simulator.tensor import Parameter, Storage, Tape, cublas_workspace
from tests.unit.simulator.runs import AMPERE, alive


def test_a_storage_is_freed_with_its_last_reference() -> None:
    tape = Tape(AMPERE)
    x = tape.empty((4, 8), Dtype.BF16, "made")
    other = x
    del x
    assert tape.trace.events == [0]
    del other
    assert tape.trace.events == [0, ~0]


def test_a_view_keeps_the_memory_of_its_base() -> None:
    tape = Tape(AMPERE)
    view = shapes.transpose(tape.empty((4, 8), Dtype.BF16, "made"), 0, 1)
    assert alive(tape.trace) == {0}
    del view
    assert alive(tape.trace) == set()


def test_a_detached_tensor_shares_memory_and_is_no_view() -> None:
    tape = Tape(AMPERE)
    x = tape.empty((4,), Dtype.FP32, "made")
    assert x.detach().storage is x.storage
    assert x.detach().base is None
    assert x.alias((2, 2), (2, 1)).alias((4,), (1,)).base is x


def test_sizes_are_sides_times_item_size() -> None:
    tape = Tape(AMPERE)
    kept = [tape.empty((3, 5), dtype, "made") for dtype in (Dtype.FP32, Dtype.BF16, Dtype.BOOL, Dtype.INT64)]
    kept.append(tape.empty((), Dtype.FP32, "scalar"))
    assert tape.trace.sizes == [60, 30, 15, 120, 4]
    assert len(kept) == 5


def test_a_block_is_labelled_with_component_scope_op_shape_and_dtype() -> None:
    tape = Tape(AMPERE)
    tape.component, tape.scope = "logits_and_loss", "lm_head"
    tape.empty((2, 3), Dtype.FP16, "linear")
    Parameter(tape, (7,), Dtype.BF16, "blocks", "norm.weight")
    assert tape.trace.tags == [
        ("logits_and_loss", "lm_head", "linear", (2, 3), Dtype.FP16),
        ("blocks", "norm.weight", "parameter", (7,), Dtype.BF16),
    ]


def test_each_thread_takes_one_workspace_of_each_library_and_keeps_it() -> None:
    tape = Tape(AMPERE)
    for _ in range(3):
        tape.take_workspace()
    tape.in_backward = True
    tape.take_workspace()
    tape.take_workspace()
    tape.take_workspace("cublaslt")
    assert tape.trace.sizes == [8_519_680, 8_519_680, 2**20]
    assert len(alive(tape.trace)) == 3


def test_hopper_has_the_larger_workspace() -> None:
    assert cublas_workspace((9, 0)) == 32 * 2**20
    assert {cublas_workspace(capability) for capability in ((7, 5), (8, 0), (8, 9), (12, 0))} == {8_519_680}


def test_a_closed_trace_does_not_see_the_teardown() -> None:
    tape = Tape(AMPERE)
    held = Storage(tape.trace, 10, ("blocks", "", "", (10,), Dtype.UINT8))
    closed = tape.trace.closed()
    del held
    assert alive(closed) == {0}
    assert alive(tape.trace) == set()
