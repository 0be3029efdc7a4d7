"""``memplan gpus``: what is known of each GPU, and how."""

from __future__ import annotations

from collections.abc import Iterable

from memplan.domain.target import Gpu
from memplan.profiles import NamedProfile
from memplan.reporters.blocks import Heading, Report, Table
from memplan.reporters.words import size


def listing(known: Iterable[Gpu]) -> Report:
    """One row per GPU."""
    rows = tuple(
        (
            gpu.name,
            gpu.title,
            size(gpu.capacity),
            size(gpu.usable),
            _version(gpu.compute_capability),
            " ".join(dtype.label for dtype in gpu.dtypes),
        )
        for gpu in known
    )
    columns = ("name", "GPU", "capacity", "usable", "capability", "trains in")
    return (Table(columns=columns, align="<<>>><", rows=rows),)


def details(gpu: Gpu, profiles: Iterable[NamedProfile]) -> Report:
    """Every fact about one GPU with its basis and source, and its named profiles."""
    rows = (
        ("capacity", size(gpu.capacity), "as the driver reports it"),
        ("usable", size(gpu.usable), f"{gpu.usable_basis}: {gpu.usable_source}"),
        ("CUDA context", size(gpu.context), f"{gpu.context_basis}: {gpu.context_source}"),
        ("compute capability", _version(gpu.compute_capability), ""),
        ("trains in", " ".join(dtype.label for dtype in gpu.dtypes), _forbidden(gpu)),
        ("bandwidth", f"{gpu.bandwidth / 10**9:.0f} GB/s", ""),
        ("dense TFLOPS", ", ".join(f"{label} {rate:g}" for label, rate in gpu.tflops.items()), ""),
        ("other names", ", ".join(gpu.aliases) or "none", ""),
        ("source", f"{gpu.source} ({gpu.date})", ""),
    )
    table = Table(columns=("fact", "value", "how known"), align="<<<", rows=rows)
    report: Report = (Heading(f"{gpu.name}: {gpu.title}"), table)
    named = tuple((item.name, f"{item.margin:.0%}", _rungs(item), item.summary) for item in profiles)
    if not named:
        return report
    columns = ("profile", "keeps free", "rungs for tunable values", "meant for")
    return (*report, Table(columns=columns, align="<><<", rows=named))


def _forbidden(gpu: Gpu) -> str:
    lacks = [
        word
        for word, present in (("FlashAttention-2", gpu.flash_attention_2), ("fp8", gpu.fp8))
        if not present
    ]
    return f"no {', no '.join(lacks)}" if lacks else ""


def _rungs(profile: NamedProfile) -> str:
    return "; ".join(", ".join(f"{name} {number}" for name, number in rung.items()) for rung in profile.rungs)


def _version(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
