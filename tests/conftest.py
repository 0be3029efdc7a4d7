"""Nothing that a test runs is to depend on the machine's own record of measured runs, or to write to it."""

from __future__ import annotations

import os

from memplan.probe.record import VARIABLE

os.environ[VARIABLE] = ""
