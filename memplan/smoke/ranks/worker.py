"""The process of one rank: ``python -m memplan.smoke.ranks.worker FOLDER RANK``."""

from __future__ import annotations

import os
import sys
import traceback
from datetime import timedelta
from pathlib import Path

from memplan.smoke.child import lifeline
from memplan.smoke.ranks.job import Failure, Folder, Outcome

_LOOPBACK = "lo"
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting")
"""What gloo says when another rank is gone."""


def main(folder: Folder, rank: int) -> int:
    """Do a rank's part of the job and leave what came of it; the exit code."""
    try:
        outcome: Outcome = _run(folder, rank)
    except Exception as error:
        outcome = _failure(error)
    folder.tell(rank, outcome)
    return int(isinstance(outcome, Failure))


def _run(folder: Folder, rank: int) -> Outcome:
    job = folder.job()
    # All ranks are on this machine, and nothing of it is for the network.
    if Path("/sys/class/net", _LOOPBACK).exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK)
    # DeepSpeed asks the environment, whoever has set the process group up.
    os.environ.update(DS_ACCELERATOR="cpu", RANK=str(rank), LOCAL_RANK=str(rank))
    os.environ.update(WORLD_SIZE=str(job.world), LOCAL_SIZE=str(job.world))
    import torch

    from memplan.smoke.ranks.run import run

    torch.manual_seed(rank)
    torch.distributed.init_process_group(
        "gloo",
        init_method=folder.meeting.as_uri(),
        rank=rank,
        world_size=job.world,
        timeout=timedelta(seconds=job.patience),
    )
    try:
        return run(job.workload, job.steps)
    finally:
        torch.distributed.destroy_process_group()


def _failure(error: Exception) -> Failure:
    from memplan.smoke.ranks.run import memory_was_short

    message = " ".join(str(error).split())
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return Failure(
        kind=type(error).__name__,
        message=message,
        place=f"{frame.filename}:{frame.lineno}",
        memory=memory_was_short(error),
        lost=any(words in message for words in _LOST),
    )


if __name__ == "__main__":
    lifeline()
    code = main(Folder(Path(sys.argv[1])), int(sys.argv[2]))
    sys.stdout.flush()
    # Libraries may have threads that wait for others which are gone.
    os._exit(code)
