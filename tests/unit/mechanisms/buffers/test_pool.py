"""A pool of buffers: what it promises, and what it refuses."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'memplan[smoke]'")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from memplan.domain.errors import FieldError, InputError, MemplanError  # noqa: E402
from memplan.mechanisms.buffers import Buffers, BufferShape, Lent  # noqa: E402

SHAPES = {
    "hidden": BufferShape(sides=(4, 8)),
    "token": BufferShape(sides=(1,), dtype=torch.int64),
}


@pytest.fixture
def pool() -> Buffers:
    return Buffers(SHAPES)


def test_a_pool_holds_exactly_what_its_shapes_say(pool: Buffers) -> None:
    assert pool.bytes == 4 * 8 * 4 + 8
    with torch.no_grad(), pool.lent() as lent:
        assert lent["hidden"].shape == (4, 8)
        assert lent["token"].dtype is torch.int64
        assert not lent["hidden"].requires_grad


def test_every_borrower_gets_the_same_memory(pool: Buffers) -> None:
    places = []
    for _ in range(3):
        with torch.inference_mode(), pool.lent() as lent:
            torch.mul(torch.ones(4, 8), 2, out=lent["hidden"])
            places.append(lent["hidden"].data_ptr())
    assert len(set(places)) == 1
    with torch.no_grad(), pool.lent() as lent:
        assert lent["hidden"].eq(2).all()


def test_fewer_rows_lie_in_the_same_memory(pool: Buffers) -> None:
    with torch.no_grad(), pool.lent() as lent:
        assert lent.rows("hidden", 2).data_ptr() == lent["hidden"].data_ptr()
        assert lent.rows("hidden", 2).shape == (2, 8)


def test_what_is_put_is_copied(pool: Buffers) -> None:
    given_ = torch.arange(32.0).view(4, 8)
    with torch.no_grad(), pool.lent() as lent:
        put = lent.put("hidden", given_)
        assert put.data_ptr() == lent["hidden"].data_ptr() != given_.data_ptr()
        assert torch.equal(put, given_)


@pytest.mark.parametrize(
    ("misuse", "said"),
    [
        (lambda lent: lent["hiden"], "did you mean 'hidden'?"),
        (lambda lent: lent["x"], "expected: hidden, token"),
        (lambda lent: lent.rows("hidden", 5), "5 rows do not go into the buffer 'hidden', 4×8 float32"),
        (lambda lent: lent.rows("hidden", 0), "expected: 1 to 4"),
        (lambda lent: lent.put("hidden", torch.zeros(8)), "8 float32 on cpu does not go into"),
        (lambda lent: lent.put("hidden", torch.zeros(4, 8, dtype=torch.float64)), "4×8 float64 on cpu"),
        (lambda lent: lent.put("token", torch.tensor(1)), "expected: 1 int64 on cpu"),
        (lambda lent: lent.put("hidden", torch.zeros(4, 8, device="meta")), "on meta does not go into"),
    ],
)
def test_what_does_not_fit_is_refused(misuse: Callable[[Lent], object], said: str, pool: Buffers) -> None:
    with torch.no_grad(), pytest.raises(FieldError) as caught, pool.lent() as lent:
        misuse(lent)
    assert said in str(caught.value)
    with torch.no_grad(), pool.lent():
        pass


def test_an_op_that_resizes_a_buffer_is_found_out_and_the_buffer_mended(pool: Buffers) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, about the same thing.
        with torch.no_grad(), pytest.raises(InputError) as caught, pool.lent() as lent:
            torch.mul(torch.ones(40, 80), 2, out=lent["hidden"])
        assert "'hidden', 4×8 float32, was given the shape (40, 80)" in str(caught.value)
        with torch.no_grad(), pytest.raises(ZeroDivisionError), pool.lent() as lent:
            _resize_and_fail(lent)
    with torch.no_grad(), pool.lent() as lent:
        assert lent["hidden"].shape == (4, 8)


def _resize_and_fail(lent: Lent) -> None:
    torch.mul(torch.ones(2, 2), 2, out=lent["hidden"])
    raise ZeroDivisionError


def test_nothing_is_lent_while_gradients_are_recorded(pool: Buffers) -> None:
    with pytest.raises(InputError, match="gradients cannot be taken through buffers"), pool.lent():
        pass


def test_a_call_within_a_call_is_refused_and_the_first_goes_on(pool: Buffers) -> None:
    with torch.no_grad(), pool.lent() as lent:
        with pytest.raises(InputError, match="the buffers are in use"), pool.lent():
            pass
        assert lent["hidden"].shape == (4, 8)


def test_another_thread_is_refused(pool: Buffers) -> None:
    said: list[MemplanError] = []

    def borrow() -> None:
        try:
            with torch.no_grad(), pool.lent():
                pass
        except MemplanError as error:
            said.append(error)

    with torch.no_grad(), pool.lent():
        thread = threading.Thread(target=borrow)
        thread.start()
        thread.join()
    assert "the buffers are in use" in str(said[0])


def test_what_was_given_back_is_not_to_be_had(pool: Buffers) -> None:
    with torch.no_grad(), pool.lent() as lent:
        pass
    with pytest.raises(InputError, match="was given back"):
        lent["hidden"]


@pytest.mark.parametrize("sides", [(), (0,), (4, -1), (True,)])
def test_a_buffer_without_a_size_is_refused(sides: tuple[int, ...]) -> None:
    with pytest.raises(FieldError, match="cannot have the sides"):
        BufferShape(sides=sides)


def test_a_pool_without_buffers_is_refused() -> None:
    with pytest.raises(FieldError, match="a pool without buffers"):
        Buffers({})


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=4),
        st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
        min_size=1,
        max_size=4,
    )
)
@settings(deadline=None)
def test_a_pool_takes_the_bytes_of_its_tensors(sides: dict[str, tuple[int, ...]]) -> None:
    pool = Buffers({name: BufferShape(sides=value, dtype=torch.float64) for name, value in sides.items()})
    with torch.no_grad(), pool.lent() as lent:
        assert pool.bytes == sum(lent[name].untyped_storage().nbytes() for name in sides)
