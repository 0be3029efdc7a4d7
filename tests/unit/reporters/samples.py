"""Small made-up answers for the reporters to show."""

from __future__ import annotations

from pathlib import Path

from memplan.dialects.reading import Document, Origin, Reading
from memplan.documents.source import Source
from memplan.documents.tree import MappingNode
from memplan.documents.yaml import parse
from memplan.domain.architecture import DeclaredModel, DeclaredTensor, Role
from memplan.domain.bytes import Bytes
from memplan.domain.edit import Advice, Edit, Span
from memplan.domain.errors import Location
from memplan.domain.estimate import (
    Basis,
    Component,
    DeviceMemory,
    Estimate,
    Gap,
    HostMemory,
    Part,
    Verdict,
)
from memplan.domain.finding import Finding, Level
from memplan.domain.harm import Harm
from memplan.domain.plan import Alternative, Change, Plan
from memplan.domain.target import Target
from memplan.domain.trace import Phase
from memplan.domain.workload import Workload

MIB = 2**20
CONFIG = "memplan: 1\n"

WORKLOAD = Workload(
    model=DeclaredModel(
        tensors=(DeclaredTensor(name="table", role=Role.WEIGHT, shape=("rows", 1024)),),
        values=(("rows", 4096),),
    )
)
TARGET = Target.of_amount(Bytes(2048 * MIB))


def reading(**changes: object) -> Reading:
    source = Source.of(CONFIG, "case/memplan.yaml")
    root = parse(source)
    assert isinstance(root, MappingNode)
    values: dict[str, object] = {
        "path": Path("case"),
        "dialect": "native",
        "workload": WORKLOAD,
        "origins": {
            "rows": Origin(how="written", location=Location(path="case/train.py", line=7)),
            "batch.micro": Origin(how="default"),
            "precision.params": Origin(how="assumed", note="nothing says otherwise"),
        },
        "document": Document(path=Path("case/memplan.yaml"), source=source, root=root),
    }
    return Reading(**(values | changes))  # type: ignore[arg-type]


def estimate(
    *, table: int = 3000 * MIB, target: Target | None = TARGET, gaps: tuple[Gap, ...] = ()
) -> Estimate:
    buffer = 100 * MIB
    allocated, context = table + buffer, 141 * MIB
    reserved = allocated + 20 * MIB
    process = reserved + context
    room = target.limit - process if target else 0
    verdict = None if target is None else Verdict.FITS if room >= 0 else Verdict.DOES_NOT_FIT
    return Estimate(
        workload=WORKLOAD,
        target=target,
        device=DeviceMemory(
            peak_allocated=Bytes(allocated),
            peak_reserved=Bytes(reserved),
            context=Bytes(context),
            process=Bytes(process),
            low=Bytes(process - sum(gap.low for gap in gaps)),
            high=Bytes(process + sum(gap.high for gap in gaps)),
            peak_phase=Phase.BACKWARD,
            phases=((Phase.FORWARD, Bytes(table)), (Phase.BACKWARD, Bytes(allocated))),
            components=(
                Component(name="buffer", bytes=Bytes(buffer), basis=Basis.EXACT),
                Component(
                    name="activations",
                    bytes=Bytes(table),
                    basis=Basis.MODELLED,
                    parts=(Part(tag="(4096, 1024) fp32", count=3, bytes=Bytes(table)),),
                ),
            ),
            gaps=gaps,
        ),
        host=HostMemory(
            peak=Bytes(512 * MIB),
            components=(Component(name="interpreter", bytes=Bytes(512 * MIB), basis=Basis.ASSUMED),),
        ),
        disk=Bytes(64 * MIB),
        verdict=verdict,
        headroom=Bytes(room),
    )


CHANGE = Change(
    field="rows", before=4096, after=1024, harm=Harm.BEHAVIOUR, reason="rung 1", saves=Bytes(2000 * MIB)
)


def plan(**changes: object) -> Plan:
    after = estimate(table=1000 * MIB)
    values: dict[str, object] = {
        "feasible": True,
        "harm": Harm.BEHAVIOUR,
        "changes": (CHANGE,),
        "before": estimate(),
        "after": after,
        "margin": Bytes(200 * MIB),
        "slowdown": 1.25,
        "profile": "balanced",
        "edits": (
            Edit(
                path="case/train.py", span=Span(3, 7), replacement="1024", line=7, before="4096", after="1024"
            ),
        ),
        "advice": (Advice(field="loss", message="set it in code", path="case/loop.py", line=3),),
        "alternatives": (
            Alternative(
                name="smaller",
                changes=(CHANGE,),
                harm=Harm.BEHAVIOUR,
                feasible=True,
                after=estimate(table=500 * MIB),
                slowdown=1.5,
                trade="more room, less model",
            ),
        ),
    }
    return Plan(**(values | changes))  # type: ignore[arg-type]


FINDINGS = (
    Finding(
        path="case/a,b:c.yml",
        line=3,
        code="MP001",
        level=Level.ERROR,
        message="does not fit: 100% <full> & more\nsecond line",
        fix='set "x" to 1',
    ),
    Finding(path="case/d e.yml", line=1, code="MP003", level=Level.WARNING, message="cannot be decided"),
    Finding(path="case/f.yml", line=9, code="MP001", level=Level.NOTE, message="known from the baseline"),
)
