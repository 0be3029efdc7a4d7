"""A rank that behaves as ``PRETENDED`` says: ``kill`` or ``hang`` for each rank, by its number."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from memplan.domain.bytes import Bytes
from memplan.domain.ranks import Holdings
from memplan.smoke.child import lifeline
from memplan.smoke.ranks.job import Failure, Folder, Outcome

DONE = Holdings(parameters=Bytes(4), gradients=Bytes(3), optimizer_state=Bytes(2), peak_allocated=Bytes(9))
MEMORY = Failure(kind="RuntimeError", message="can't allocate memory", place="a.py:1", memory=True)
LOST = Failure(kind="RuntimeError", message="Connection closed by peer", place="b.py:2", lost=True)
BROKEN = Failure(kind="ValueError", message="no such width", place="model.py:7")


def main(folder: Folder, rank: int, behaviour: str) -> None:
    """Behave."""
    (folder.path / f"started{rank}").touch()
    if behaviour == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif behaviour == "hanging":
        time.sleep(600)
    elif behaviour == "quitting":
        print("the driver is too old\n")
        sys.exit(3)
    else:
        outcomes: dict[str, Outcome] = {"done": DONE, "short": MEMORY, "lost": LOST, "broken": BROKEN}
        folder.tell(rank, outcomes[behaviour])
        sys.exit(int(behaviour != "done"))


if __name__ == "__main__":
    lifeline()
    number = int(sys.argv[2])
    main(Folder(Path(sys.argv[1])), number, os.environ["PRETENDED"].split(",")[number])
