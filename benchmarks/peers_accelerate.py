"""Run inside accelerate's environment: what ``accelerate estimate-memory`` says of a local model directory.

The command asks the hub for a model's library before it builds the model from its config. There is no network
here, so that one question is answered in the hub's place; everything else is the command's own.

python peers_accelerate.py DIRECTORY DTYPE      bytes of "Training using Adam"
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import SimpleNamespace
from typing import Any


def main(directory: str, dtype: str) -> None:
    """Print the command's figure, in bytes."""
    command: Any = import_module("accelerate.commands.estimate")
    command.model_info = lambda *_, **__: SimpleNamespace(library_name="transformers", config={})
    asked = SimpleNamespace(model_name=directory, library_name=None, trust_remote_code=False, dtypes=[dtype])
    ((_, _, _, training),) = command.gather_data(asked)
    print(int(max(training.values())))


if __name__ == "__main__":
    main(*sys.argv[1:])
