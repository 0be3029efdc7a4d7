"""The command line: parse, call one verb, report, exit with a meaningful code.

Exit codes: 0 fits, written or gate passed; 1 does not fit or gate failed (an answer, not an
error); 2 bad input, nothing written; 3 cannot be decided; 70 a defect in memplan itself.

Importing this package imports next to nothing: every command loads what it needs when it runs.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

EXIT_DEFECT = 70
EXIT_INTERRUPTED = 130
COLLECT_AFTER = 100_000
"""Allocations between garbage collections: a run is short, and Python's 700 cost it a tenth of its time."""

TRACEBACK_VARIABLE = "MEMPLAN_TRACEBACK"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (``sys.argv`` by default) and return its exit code. Raises nothing."""
    from memplan.domain.errors import MemplanError

    gc.set_threshold(COLLECT_AFTER)
    for stream in (sys.stdout, sys.stderr):
        _survive_narrow_encodings(stream)
    try:
        from memplan.cli.commands import run

        return run(sys.argv[1:] if arguments is None else arguments)
    except MemplanError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        return _defect(error)


def _survive_narrow_encodings(stream: object) -> None:
    """Let a terminal that cannot show ``→`` or ``×`` print an escape instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _defect(error: Exception) -> int:
    if os.environ.get(TRACEBACK_VARIABLE):
        import traceback

        traceback.print_exc()
    said = " ".join(str(error).split())[:300]
    print(f"this is a defect in memplan: {type(error).__name__}: {said}", file=sys.stderr)
    print(f"set {TRACEBACK_VARIABLE}=1 to see the traceback", file=sys.stderr)
    return EXIT_DEFECT
