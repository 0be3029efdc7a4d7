"""The golden table of what is read and what is refused: ``python -m tests.corpus.table --update``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.corpus.outcomes import table

GOLDEN = Path(__file__).with_name("table.txt")

if __name__ == "__main__":
    if "--update" in sys.argv[1:]:
        GOLDEN.write_text(table(), encoding="utf-8")
    else:
        sys.stdout.write(table())
