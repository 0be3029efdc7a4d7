"""The process that runs a user's code: ``python -m memplan.smoke.own.worker FOLDER``."""

from __future__ import annotations

import os
import pickle
import resource
import sys
import traceback
from pathlib import Path

from memplan.domain.own_model import OwnModel
from memplan.smoke.child import lifeline
from memplan.smoke.own.request import Complaint, Request


def main(folder: Path) -> None:
    """Do what is asked, and leave the answer."""
    request: Request = pickle.loads((folder / "request").read_bytes())
    # Private memory that can be written to; addresses that are only reserved do not count.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = request.memory if hard == resource.RLIM_INFINITY else min(request.memory, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        answer: OwnModel | Complaint = _run(request)
    # Code that calls sys.exit has failed as well.
    except (Exception, SystemExit) as error:
        answer = _complaint(error, request.file)
    (folder / "answer").write_bytes(pickle.dumps(answer))


def _run(request: Request) -> OwnModel:
    from memplan.smoke.own.run import run

    return run(request.file, request.name, request.shapes, fake=request.fake)


def _complaint(error: BaseException, file: Path) -> Complaint:
    """An error with the innermost place of it in the user's files."""
    said = " ".join(str(error).split())[:500]
    memory = isinstance(error, MemoryError) or "can't allocate memory" in said
    if isinstance(error, SyntaxError) and error.filename:
        return Complaint(
            kind=type(error).__name__,
            message=error.msg,
            path=error.filename,
            line=error.lineno or 1,
            column=error.offset or 1,
        )
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(file.parent)]
    place = own[-1] if own else None
    return Complaint(
        kind="" if type(error).__name__ == "NoModelError" else type(error).__name__,
        message=said,
        path=place.filename if place else str(file),
        line=(place.lineno or 1) if place else 0,
        column=(place.colno or 0) + 1 if place else 1,
        memory=memory,
    )


if __name__ == "__main__":
    lifeline()
    main(Path(sys.argv[1]))
    sys.stdout.flush()
    # Whatever threads the user's code has started.
    os._exit(0)
