"""CPU time of a whole ``memplan estimate … --format json`` against a bare typer app that prints one line.

Both run alternately as child processes; the figure is the ratio of the median CPU times (user and
system). A ratio in one run, because absolute times say more about the machine than about memplan.

    python benchmarks/startup.py [PAIRS] [CONFIG] [GPU]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 1.5
PAIRS = 15
CONFIG = ROOT / "examples" / "llama-3.1-8b"
GPU = "rtx3090"

BARE = """
import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def hello(name: str = "world") -> None:
    print(f"hello {name}")


app()
"""


def cpu_seconds(command: list[str]) -> float:
    """User and system time of one run of a command; output is thrown away.

    Raises:
        RuntimeError: the command failed rather than answered.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):
            errors.seek(0)
            raise RuntimeError(f"{command} exited with {process.returncode}: {errors.read().decode()}")
    return usage.ru_utime + usage.ru_stime


def measure(pairs: int, config: str, gpu: str) -> tuple[list[float], list[float]]:
    """CPU seconds of memplan and of the bare app, run in turns after one warm-up each."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE, encoding="utf-8")
        ours = [sys.executable, "-m", "memplan", "estimate", config, "--gpu", gpu, "--format", "json"]
        theirs = [sys.executable, str(bare)]
        cpu_seconds(ours), cpu_seconds(theirs)
        taken = [(cpu_seconds(ours), cpu_seconds(theirs)) for _ in range(pairs)]
    return [first for first, _ in taken], [second for _, second in taken]


def main(arguments: list[str]) -> int:
    """Print both medians and their ratio; 1 when the ratio is above the limit."""
    pairs = int(arguments[0]) if arguments else PAIRS
    config = arguments[1] if len(arguments) > 1 else str(CONFIG)
    gpu = arguments[2] if len(arguments) > 2 else GPU
    ours, theirs = (statistics.median(times) for times in measure(pairs, config, gpu))
    ratio = ours / theirs
    print(
        f"start-up, CPU time: memplan estimate {1000 * ours:.0f} ms, bare typer app {1000 * theirs:.0f} ms, "
        f"median of {pairs} pairs: ratio {ratio:.2f} (at most {LIMIT})"
    )
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
