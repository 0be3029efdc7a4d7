"""Releases of the libraries that run a workload, and what depends on them."""

from __future__ import annotations

from dataclasses import dataclass


def _older(version: str, than: tuple[int, ...]) -> bool:
    parts = version.split(".")[: len(than)]
    return all(part.isdecimal() for part in parts) and tuple(int(part) for part in parts) < than


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """Library versions whose habits the simulation follows.

    ``code`` is the library whose model classes run: ``transformers``, ``litgpt`` or ``torchtune``.
    """

    torch: str = "2.14"
    transformers: str = "5.17"
    code: str = "transformers"
    litgpt: str = "0.5.13"
    liger: str = "0.8.5"

    def torch_before(self, major: int, minor: int) -> bool:
        """Whether the PyTorch release is older than ``major.minor``; unreadable versions are new."""
        return _older(self.torch, (major, minor))

    def transformers_before(self, major: int, minor: int) -> bool:
        """Whether the transformers release is older than ``major.minor``; unreadable versions are new."""
        return _older(self.transformers, (major, minor))

    def litgpt_before(self, *release: int) -> bool:
        """Whether the litgpt release is older than that; unreadable versions are new."""
        return _older(self.litgpt, release)

    def liger_before(self, *release: int) -> bool:
        """Whether the Liger-Kernel release is older than that; unreadable versions are new."""
        return _older(self.liger, release)
