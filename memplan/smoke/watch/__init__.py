"""A command, or a process that runs already, watched from outside until it ends. Knows nothing of torch."""

from __future__ import annotations

import os
from collections.abc import Sequence

from memplan.domain.errors import InputError
from memplan.domain.watched import Watched
from memplan.smoke.watch.session import Observer

__all__ = ["attach", "watch"]


def watch(
    command: Sequence[str], *, interval: float = 0.5, leave: bool = False, observer: Observer | None = None
) -> Watched:
    """Run a command to its end, looking at its memory every ``interval`` seconds, more often at first.

    Its streams are this process's own and signals are passed on to it. Processes that outlive it are ended,
    unless they are to be ``leave``-d.

    Raises:
        InputError: the command cannot be run, or this system has no POSIX processes.
    """
    _require()
    from memplan.smoke.watch.launch import launch

    return launch(tuple(command), interval, leave=leave, observer=observer)


def attach(pid: int, *, interval: float = 0.5, observer: Observer | None = None) -> Watched:
    """Watch a process and its descendants until it ends, or until Ctrl-C, which it does not notice.

    Raises:
        InputError: no such process runs, or this system has no POSIX processes.
    """
    _require()
    from memplan.smoke.watch.join import join

    return join(pid, interval, observer=observer)


def _require() -> None:
    if os.name != "posix":
        raise InputError("processes can be watched on Linux and macOS", hint="run it under WSL")
    try:
        import psutil  # noqa: F401 -- asked for here, so that nothing has been started without it
    except ImportError:
        raise InputError("watching needs psutil", hint="pip install psutil") from None
