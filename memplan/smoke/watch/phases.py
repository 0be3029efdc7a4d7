"""The phase a command says it is in.

From outside nobody can tell a forward pass from a backward one. A command that wants its peaks told by phase
appends a line with the phase's name to the file that ``MEMPLAN_PHASES`` names, whenever it enters one.
"""

from __future__ import annotations

from pathlib import Path

VARIABLE = "MEMPLAN_PHASES"

LONGEST = 40
"""Characters of a phase's name that are shown."""

MOST_AT_ONCE = 2**16
"""Bytes read at a look: a command that writes more of them tells nothing anyway."""


class PhaseFile:
    """Follows the file; what stands in the last whole line is the phase."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._rest = b""
        self._phase: str | None = None

    def current(self) -> str | None:
        """The phase of now, None as long as none was told."""
        try:
            with self._path.open("rb") as stream:
                size = stream.seek(0, 2)
                stream.seek(max(self._read, size - MOST_AT_ONCE))
                text = self._rest + stream.read(MOST_AT_ONCE)
                self._read = stream.tell()
        except OSError:
            return self._phase
        *lines, self._rest = text[-MOST_AT_ONCE:].split(b"\n")
        names = [name for name in map(_name, lines) if name]
        if names:
            self._phase = names[-1]
        return self._phase


def _name(line: bytes) -> str:
    text = line.decode("utf-8", errors="replace").strip()
    return "".join(sign for sign in text if sign.isprintable())[:LONGEST]
