"""``memplan watch``: what a command took beside what was predicted, as a report, JSON and live lines."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from memplan.domain.watched import Bound, Moment, Peak, Prediction, Watched, within
from memplan.reporters.blocks import Block, Bullets, Heading, Report, Table, Tone
from memplan.reporters.words import size

LONGEST = 80
"""Characters of a command in a headline."""


def report(watched: Watched, prediction: Prediction | None) -> Report:
    """Headline, peaks beside their bounds, phases that the command told, and what the figures rest on."""
    return tuple(_blocks(watched, prediction))


def _blocks(watched: Watched, prediction: Prediction | None) -> Iterator[Block]:
    passed = within(watched, prediction) if prediction else None
    failed = watched.ending.code not in (0, None) or passed is False
    tone = Tone.BAD if failed else Tone.GOOD if passed else Tone.PLAIN
    yield Heading(f"{_named(watched)}: {_ended(watched)}{_verdict(passed)}", tone)
    yield _peaks(watched, prediction)
    if watched.phases:
        columns = ("phase", "fullest GPU", "RAM held")
        rows = tuple((name, _amount(gpu), size(host)) for name, gpu, host in watched.phases)
        yield Table(columns=columns, align="<>>", rows=rows)
    yield Bullets(tuple(_notes(watched, prediction)), "What this rests on:")


def line(moment: Moment, prediction: Prediction | None) -> str:
    """One look in one line: ``0:01:05  GPU 0 10.2 GiB of at most 11.2 GiB, RSS 6.1 GiB, backward``."""
    high = prediction.process.high if prediction and prediction.process else None
    most = f" of at most {size(high)}" if high is not None else ""
    parts = [f"GPU {index} {size(amount)}{most}" for index, amount in moment.gpus]
    parts.append(f"RSS {size(moment.rss)}")
    if moment.phase:
        parts.append(moment.phase)
    return f"{_clock(moment.seconds)}  {', '.join(parts)}"


def payload(watched: Watched, prediction: Prediction | None) -> dict[str, Any]:
    """``memplan.watch/1``: whole bytes, seconds since the start; null for what is not known or compared."""
    ending = watched.ending
    return {
        "schema": "memplan.watch/1",
        "command": list(watched.command),
        "pid": watched.pid,
        "seconds": round(watched.seconds, 3),
        "exit_code": ending.code,
        "signal": ending.signal,
        "outlived": list(ending.outlived),
        "killed_for_memory": ending.starved,
        "measured": {
            "gpus": [
                {"index": gpu.index, "name": gpu.name, "attributed": gpu.attributed, **_peak(gpu.peak)}
                for gpu in watched.gpus
            ],
            "first_on_gpu": _rounded(watched.first_on_gpu),
            "host": {"shared_once": watched.shared_once, **_peak(watched.held)},
            "rss": _peak(watched.rss),
            "phases": {name: {"gpu": int(gpu), "host": int(host)} for name, gpu, host in watched.phases},
            "looks": watched.looks,
            "interval": watched.interval,
        },
        "predicted": _predicted(prediction) if prediction else None,
        "passed": within(watched, prediction) if prediction else None,
        "notes": list(_notes(watched, prediction)),
    }


def _peak(peak: Peak) -> dict[str, Any]:
    return {"peak": int(peak.bytes) or None, "at": _rounded(peak.seconds), "phase": peak.phase}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _predicted(prediction: Prediction) -> dict[str, Any]:
    return {
        "source": prediction.source,
        "gpu": prediction.gpu,
        "limit": None if prediction.limit is None else int(prediction.limit),
        "process": _bound(prediction.process),
        "host": _bound(prediction.host),
    }


def _bound(bound: Bound | None) -> dict[str, Any] | None:
    if bound is None:
        return None
    high = None if bound.high is None else int(bound.high)
    return {"predicted": int(bound.predicted), "low": int(bound.low), "high": high}


def _peaks(watched: Watched, prediction: Prediction | None) -> Table:
    compared = prediction if prediction and watched.gpus else None
    on_gpu = compared.process if compared else None
    rows = [
        _row(f"GPU {gpu.index} {gpu.name}".strip(), gpu.peak, on_gpu if gpu == watched.fullest else None)
        for gpu in watched.gpus
    ]
    rows.append(_row("RAM held", watched.held, compared.host if compared else None))
    rows.append(_row("RSS, with mapped files", watched.rss, None))
    if compared is None:
        return Table(columns=("", "peak", "after"), align="<>>", rows=tuple(row[:3] for row in rows))
    return Table(columns=("", "peak", "after", "predicted", "bounds", ""), align="<>>>><", rows=tuple(rows))


def _row(name: str, peak: Peak, bound: Bound | None) -> tuple[str, ...]:
    told = "-" if peak.seconds is None else _seconds(peak.seconds)
    when = f"{told}, {peak.phase}" if peak.phase else told
    if bound is None:
        return (name, _amount(peak.bytes), when, "-", "-", "")
    bounds = f"{size(bound.low)} to {size(bound.high)}" if bound.high is not None else "unbounded"
    return (name, _amount(peak.bytes), when, size(bound.predicted), bounds, _judged(bound, peak.bytes))


def _judged(bound: Bound, seen: int) -> str:
    if bound.high is not None and seen > bound.high:
        return f"{size(seen - bound.high)} above"
    if seen < bound.low:
        return f"{size(bound.low - seen)} below"
    return "within"


def _notes(watched: Watched, prediction: Prediction | None) -> Iterator[str]:
    yield (
        f"looked {_times(watched.looks)}, every {watched.interval:g} s:"
        " what came and went in between was not seen"
    )
    if watched.first_on_gpu is not None and not watched.phases:
        yield f"the GPU was first used after {_seconds(watched.first_on_gpu)}"
    if prediction is not None:
        yield from _on_prediction(watched, prediction)
    ending = watched.ending
    if ending.outlived:
        many = "process" if len(ending.outlived) == 1 else "processes"
        what = "still running" if ending.left else "ended by memplan"
        yield f"{len(ending.outlived)} {many} outlived it, {what}: {', '.join(map(str, ending.outlived))}"
    if ending.starved:
        yield f"the kernel killed {_processes(ending.starved)} of this machine meanwhile: memory ran out"
    yield from watched.notes


def _on_prediction(watched: Watched, prediction: Prediction) -> Iterator[str]:
    where = f" on {prediction.gpu}" if prediction.gpu else ""
    fullest = watched.fullest
    if fullest is None:
        yield f"not compared with {prediction.source}: that is for a run on a GPU, and none was used"
        return
    yield f"predicted for {prediction.source}{where}"
    if prediction.process is None:
        yield "no GPU is named to predict for: add --gpu NAME"
    elif prediction.process.high is None:
        yield "the prediction has no upper bound on the GPU: memplan estimate says why"
    if prediction.limit is not None:
        spare = prediction.limit - fullest.peak.bytes
        what = "left" if spare >= 0 else "more than there is"
        yield f"{size(abs(spare))} {what} of {size(prediction.limit)}"
    yield from prediction.notes


def _named(watched: Watched) -> str:
    text = "".join(sign if sign.isprintable() else " " for sign in shlex.join(watched.command))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _ended(watched: Watched) -> str:
    after = f"after {_seconds(watched.seconds)}"
    if watched.ending.signal is not None:
        return f"killed by {watched.ending.signal} {after}"
    if watched.ending.code is None:
        return f"watched for {_seconds(watched.seconds)}"
    return f"exit code {watched.ending.code} {after}"


def _verdict(passed: bool | None) -> str:
    return {None: "", True: ", within the prediction", False: ", beyond the prediction"}[passed]


def _amount(amount: int) -> str:
    return size(amount) if amount else "-"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _processes(count: int) -> str:
    return "a process" if count == 1 else f"{count} processes"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 600 else _clock(seconds)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
