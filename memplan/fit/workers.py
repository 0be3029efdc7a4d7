"""One function over many arguments, on all cores; in this process where others would not pay."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

Result = TypeVar("Result")

FEW = 8
"""Calls for which no process is started: it takes as long to start as some configs take to plan."""


def each(
    function: Callable[..., Result],
    calls: Sequence[tuple[Any, ...]],
    *,
    workers: int | None = None,
    advance: Callable[[], None] | None = None,
) -> list[Result]:
    """The function's results in the order of the calls, whatever the number of processes.

    Function, arguments and results have to be picklable. What a call raises is raised here. When this process
    is interrupted or dies, so do the others; when one of them dies, its calls are made in this process.

    Args:
        function: what to call; a function of a module.
        calls: the arguments of each call.
        workers: processes to use; 1 is this one. Default: one a core that this process may use.
        advance: called whenever one more result is there.
    """
    done = advance or _nothing
    count = min(workers if workers is not None else cores(), len(calls))
    results: dict[int, Result] = {}
    if count > 1 and (workers is not None or len(calls) >= FEW):
        for place, result in _elsewhere(function, calls, count):
            results[place] = result
            done()
    for place, arguments in enumerate(calls):
        if place not in results:
            results[place] = function(*arguments)
            done()
    return [results[place] for place in range(len(calls))]


def cores() -> int:
    """Cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1


def _nothing() -> None:
    return None


def _elsewhere(
    function: Callable[..., Result], calls: Sequence[tuple[Any, ...]], count: int
) -> Iterator[tuple[int, Result]]:
    """Results as they come, with the places of their calls; fewer than calls if processes cannot go on."""
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import active_children, get_context

    others = active_children()
    pool = ProcessPoolExecutor(
        max_workers=count,
        mp_context=get_context("spawn"),
        initializer=_prepared,
        initargs=(gc.get_threshold(),),
    )
    try:
        places: dict[Future[Result], int] = {
            pool.submit(function, *arguments): place for place, arguments in enumerate(calls)
        }
        for future in as_completed(places):
            yield places[future], future.result()
        pool.shutdown()
    except (BrokenProcessPool, OSError):
        return
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(active_children()).difference(others):
            child.terminate()
            child.join()


def _prepared(threshold: tuple[int, int, int]) -> None:
    """In a new process: leave interrupts to the one that started it, and end when that ends."""
    import signal
    from multiprocessing import parent_process
    from threading import Thread

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.set_threshold(*threshold)
    parent = parent_process()
    if parent is not None:
        Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
