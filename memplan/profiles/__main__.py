"""``python -m memplan.profiles --index`` writes the index of the profiles; ``--check`` compares it."""

from __future__ import annotations

import sys

from memplan.domain.errors import MemplanError
from memplan.profiles.index import stale_files, write_index
from memplan.profiles.store import shipped_folder

_USAGE = "usage: python -m memplan.profiles --index | --check"


def main(arguments: list[str]) -> int:
    """Write or check the index of the shipped profiles; the exit code."""
    if arguments not in (["--index"], ["--check"]):
        print(_USAGE, file=sys.stderr)
        return 2
    try:
        if arguments == ["--index"]:
            for path in write_index(shipped_folder()):
                print(f"wrote {path}")
            return 0
        stale = stale_files(shipped_folder())
    except MemplanError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for path in stale:
        print(f"{path} does not agree with the YAML: run python -m memplan.profiles --index", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
