"""The three batch sizes of a DeepSpeed config, any two of which decide the third.

Source: ``_set_batch_related_parameters`` and ``_batch_assertion`` in deepspeed/runtime/config.py (0.19.8).
"""

from __future__ import annotations

from collections.abc import Mapping

from memplan.dialects.contradiction import contradiction
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Origin, Reading
from memplan.documents.tree import MappingNode, Node, ScalarNode
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError, Location
from memplan.domain.finding import Finding
from memplan.domain.workload import Batch, Workload

TOTAL = "train_batch_size"
MICRO = "train_micro_batch_size_per_gpu"
ACCUMULATION = "gradient_accumulation_steps"
SIZES = (TOTAL, MICRO, ACCUMULATION)


def written(keys: Keys) -> dict[str, int]:
    """The sizes that are numbers; those left to the Trainer (``auto``) or to the others are left out."""
    found = {}
    for name in SIZES:
        value = keys.get(name)
        if value is not None and value.written() != "auto":
            found[name] = value.whole()
    return found


def derived(sizes: Mapping[str, int], gpus: int) -> Batch | None:
    """Micro-batch and accumulation as DeepSpeed works them out; None where it refuses to."""
    total, micro, accumulation = (sizes.get(name) for name in SIZES)
    if micro is None and total is None:
        return None
    if micro is None:
        micro = (total or 0) // gpus // (accumulation or 1)
    if accumulation is None:
        accumulation = 1 if total is None else total // micro // gpus if micro else 0
    return Batch(micro=micro, accumulation=accumulation) if micro and accumulation else None


def implied_gpus(sizes: Mapping[str, int], batch: Batch) -> int | None:
    """Over how many GPUs a global batch is spread, where it is written beside both other sizes."""
    product = batch.micro * batch.accumulation
    whole = TOTAL in sizes and sizes[TOTAL] % product == 0
    return sizes[TOTAL] // product if whole else None


def contradictions(keys: Keys, reading: Reading, gpus: int | None) -> list[Finding]:
    """Sizes that are not those of the config that names this one: then the Trainer refuses to start.

    Source: ``trainer_config_process`` in transformers src/transformers/integrations/deepspeed.py.
    """
    batch, sizes = reading.workload.batch, written(keys)
    wanted = {MICRO: (batch.micro, "batch.micro"), ACCUMULATION: (batch.accumulation, "batch.accumulation")}
    found = [
        _contradiction(keys, name, sizes[name], number, reading.origins.get(field))
        for name, (number, field) in wanted.items()
        if name in sizes and sizes[name] != number
    ]
    product = batch.micro * batch.accumulation
    if not found and TOTAL in sizes and sizes[TOTAL] != product * (gpus or implied_gpus(sizes, batch) or 0):
        spread = f"{batch.micro} x {batch.accumulation}" + (f" x {gpus} GPUs" if gpus else "")
        found.append(_contradiction(keys, TOTAL, sizes[TOTAL], spread, reading.origins.get("batch.micro")))
    return found


def write(reading: Reading, after: Workload) -> list[Edit]:
    """The sizes of a workload in the keys that hold numbers; ``auto`` and products that stay are left.

    Raises:
        EditRefusedError: a size is ``auto``, and nothing but this file decides it.
    """
    from memplan.dialects.writing import put

    root = reading.document.root
    if not isinstance(root, MappingNode) or after.batch == reading.workload.batch:
        return []
    alone, gpus = reading.dialect == "deepspeed", after.world.data_parallel
    batch = after.batch
    before = reading.workload.batch.micro * reading.workload.batch.accumulation
    wanted = {MICRO: batch.micro, ACCUMULATION: batch.accumulation}
    if before != batch.micro * batch.accumulation:
        wanted[TOTAL] = batch.micro * batch.accumulation * gpus
    sizes = _numbers(root)
    after_sizes = {name: wanted.get(name, number) for name, number in sizes.items()}
    inserted = [] if not alone else _missing(after_sizes, wanted, batch, gpus, root, reading)
    source = reading.document.source
    edits: list[Edit] = []
    for name in (*(name for name in sizes if after_sizes[name] != sizes[name]), *inserted):
        edits += put(source, root, name, wanted[name], next((key for key in SIZES if root.item(key)), None))
    return edits


def _missing(
    sizes: Mapping[str, int],
    wanted: Mapping[str, int],
    batch: Batch,
    gpus: int,
    root: MappingNode,
    reading: Reading,
) -> list[str]:
    """The keys to add so that DeepSpeed works out this batch: as few as do."""
    for more in ([], [ACCUMULATION], [MICRO], [MICRO, ACCUMULATION]):
        if derived({**sizes, **{name: wanted[name] for name in more}}, gpus) == batch:
            for name in more:
                _refuse_auto(root.get(name), name, reading)
            return more
    raise EditRefusedError(f"{TOTAL} = {sizes.get(TOTAL)} on {gpus} GPUs leaves no room for it")


def _refuse_auto(node: Node | None, name: str, reading: Reading) -> None:
    if node is not None:
        place = reading.document.source.location(node.span)
        raise EditRefusedError(f"{name} is auto: the Trainer's arguments decide it", location=place)


def _numbers(root: MappingNode) -> dict[str, int]:
    nodes = {name: root.get(name) for name in SIZES}
    return {
        name: node.value
        for name, node in nodes.items()
        if isinstance(node, ScalarNode) and isinstance(node.value, int)
    }


def _contradiction(keys: Keys, name: str, here: int, there: int | str, origin: Origin | None) -> Finding:
    value = keys.get(name)
    assert value is not None
    other: Location | None = origin.location if origin is not None else None
    says = f"{there}" if other is not None else f"{there} by default"
    return contradiction(
        value.location,
        f"{name} is {here}",
        other,
        says,
        "the Trainer refuses to start",
        refused=True,
        fix=f'write {name}: "auto"',
    )
