"""A round that is foretold to be out of memory, on a machine that has no more than its budget.

The kernel keeps the process within the budget. PyTorch's request beyond it fails, as it would on the card,
and is the last of the run.
"""

from __future__ import annotations

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.trace import Trace
from memplan.smoke.cpu.events import Events
from memplan.smoke.cpu.limited import limited, refused
from memplan.smoke.declared.stand_ins import stand_ins
from memplan.smoke.systems.runner import Runner, conditions, runner


def round_within(model: DeclaredModel, budget: Bytes) -> Trace:
    """The allocations of a round up to the first that does not fit ``budget`` bytes; all if all do.

    Raises:
        InputError: already what is there from the start does not fit, or something else went wrong.
    """
    # The limit is set when the libraries are there: the budget is for the mechanism.
    with conditions(), limited(budget):
        declared = list(stand_ins(model, written=True))
        running = runner(model)
        events = Events()
        with events.watching([*declared, *running.tensors()]) as found:
            tried = _tried(running, events)
    return found[0] if tried is None else _ending(found[0], tried)


def _tried(running: Runner, events: Events) -> Bytes | None:
    """The request that was refused in a round, if one was."""
    try:
        running.step(events)
    except RuntimeError as error:
        tried = refused(error)
        if tried is None:
            raise
        return tried
    return None


def _ending(seen: Trace, tried: Bytes) -> Trace:
    """The trace without what was freed on the way out of the failed op, and with the request itself."""
    last = max(index for index, event in enumerate(seen.events) if event >= 0)
    kept = seen.closed()
    del kept.events[last + 1 :]
    component, scope, _, _, _ = seen.tags[seen.events[last]]
    kept.allocate(tried, (component, scope, "", (tried,), Dtype.UINT8))
    return kept
