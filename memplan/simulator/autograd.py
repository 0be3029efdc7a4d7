"""Reverse-mode autograd: which tensors a graph keeps, and in which order backward frees them.

Follows PyTorch's engine (torch/csrc/autograd/engine.cpp, input_buffer.cpp,
functions/accumulate_grad.cpp): nodes run by descending sequence number as soon as all their
gradients have arrived, leaf accumulation runs at once, saved tensors are released after their node
ran, and gradients that meet are added in place when nobody else holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from math import prod
from sys import getrefcount
from typing import TYPE_CHECKING
from weakref import ref

from memplan.domain.dtype import Dtype
from memplan.domain.trace import OUTSIDE, Trace
from memplan.simulator import layout
from memplan.simulator.layout import Shape
from memplan.simulator.tensor import Parameter, Tape, Tensor

if TYPE_CHECKING:
    from memplan.simulator.checkpoint import Packed
    from memplan.simulator.offload import Offloaded

Gradients = tuple[Tensor | None, ...]
Run = Callable[["Node", Tensor], Gradients]

_RUNS_AT_ONCE = 1 << 62
"""Added to the sequence numbers of leaf accumulations, which go ahead of every op."""


def _references_of_a_local() -> int:
    probe = object()
    return getrefcount(probe)


SOLE = _references_of_a_local()
"""What ``getrefcount`` says of an object that one local variable holds (it differs between Pythons)."""


class _Connected:
    """The nodes behind a node. CPython clears the slots of a subclass first: a node that dies lets go of what
    it saved before they die (``deleteNode`` in torch/csrc/autograd/function.cpp).
    """

    __slots__ = ("edges",)

    edges: tuple[Node | None, ...]


class Node(_Connected):
    """One op of the graph: how to run it backward, what it saved, and whose gradients it yields.

    ``edges`` lines up with the op's inputs (``None``: needs no gradient). ``shape`` and ``dtype``
    are those of the op's result: a gradient arriving in another shape or dtype is reduced or cast.
    ``flattens`` says that the op ran on rows: a gradient whose strides do not allow that view is copied.
    """

    __slots__ = ("component", "dtype", "flattens", "layer", "order", "run", "saved", "scope", "shape")

    def __init__(self, tape: Tape, run: Run, edges: tuple[Node | None, ...]) -> None:
        self.run = run
        self.edges = edges
        self.saved: tuple[Tensor | None, ...] | Packed | Offloaded = ()
        self.component = tape.component
        self.scope = tape.scope
        self.layer = tape.trace.layer
        self.shape: Shape = ()
        self.dtype = Dtype.FP32
        self.flattens = False
        tape.order += 1
        self.order = tape.order

    def save(self, tape: Tape, *tensors: Tensor | None) -> None:
        """Keep tensors for backward, or hand them to the checkpointed region or the hooks in force."""
        hooks = tape.region or tape.offload
        self.saved = tensors if hooks is None else hooks.pack(tensors)

    def unpack(self) -> tuple[Tensor | None, ...]:
        """The saved tensors; a checkpointed region is recomputed, or memory copied, to get them."""
        saved = self.saved
        return saved if isinstance(saved, tuple) else saved.unpack()

    def saved_tensor(self) -> Tensor:
        """The one tensor this node saved."""
        (tensor,) = self.unpack()
        assert tensor is not None
        return tensor

    def finish(self, result: Tensor) -> None:
        """Make ``result`` the output of this op."""
        self.shape = result.shape
        self.dtype = result.dtype
        result.node = self


class Leaf(Node):
    """Gradient accumulation into a tensor no op made: a parameter, or an input told to need a gradient.

    ``after`` is called whenever a gradient has been accumulated. ``parameter`` is the parameter it belongs
    to, if any, as long as that lives.
    """

    __slots__ = ("after", "grad", "held", "parameter", "strides", "trace")

    def __init__(self, tensor: Tensor, name: str, *, hold: bool = False) -> None:
        super().__init__(tensor.tape, _accumulate, ())
        self.order += _RUNS_AT_ONCE
        self.trace: Trace = tensor.tape.trace
        self.scope = name
        self.shape = tensor.shape
        self.strides = tensor.strides
        self.dtype = tensor.dtype
        self.grad: Tensor | None = None
        self.after: Callable[[Leaf], None] | None = None
        self.held = tensor.detach() if hold else None
        self.parameter = ref(tensor) if isinstance(tensor, Parameter) else None


def each(leaves: Iterable[Leaf]) -> Iterator[Leaf]:
    """Leaves one by one; what is allocated for each belongs to its layer."""
    for leaf in leaves:
        leaf.trace.layer = leaf.layer
        yield leaf
        leaf.trace.layer = OUTSIDE


def require_grad(x: Tensor, name: str) -> Tensor:
    """``x.requires_grad_()`` on an op's result: now a leaf, which the graph keeps and gives a ``grad``."""
    x.node = Leaf(x, name, hold=True)
    return x


def begin(run: Run, *inputs: Tensor) -> Node | None:
    """A node for an op on ``inputs``, or ``None`` when nothing needs a gradient.

    Ops begin their node, save inputs, and only then allocate the result: PyTorch's generated
    autograd wrappers do so too, which shows when recomputation stops early.
    """
    tape = inputs[0].tape
    if not tape.grad_enabled:
        return None
    edges = tuple([tensor.node for tensor in inputs])
    return Node(tape, run, edges) if any(edges) else None


def backward(loss: Tensor) -> None:
    """Run the graph from a scalar loss; afterwards every trainable parameter reached has its ``grad``."""
    tape = loss.tape
    if loss.node is None:
        return
    component, tape.component = tape.component, "temporaries"
    # The gradient of the loss itself is the caller's, who holds it until the whole pass is over.
    first = tape.empty(loss.shape, loss.dtype, "ones_like")
    tape.component = component
    run_graph(loss.node, first)
    if tape.offload is not None:
        tape.offload.over()


def run_graph(root: Node, first: Tensor) -> None:
    """Run a graph from its root, whose gradient is ``first``. A node may call this from its own run."""
    tape = first.tape
    trace = tape.trace
    scope, component, layer = tape.scope, tape.component, trace.layer
    state = tape.grad_enabled, tape.in_backward
    tape.grad_enabled, tape.in_backward = False, True
    waiting = _dependencies(root)
    buffers = {root: first}
    ready = [(-root.order, root)]
    while ready:
        node = heappop(ready)[1]
        tape.scope = node.scope
        trace.layer = node.layer
        tape.component = "temporaries" if node.component == "activations" else node.component
        gradient = buffers.pop(node)
        if tape.before and node in tape.before:
            tape.before.pop(node)()
        if node.flattens and not layout.has_rows(gradient.shape, gradient.strides):
            gradient = tape.empty(gradient.shape, gradient.dtype, "clone")
        outputs = _conform(node.edges, node.run(node, gradient))
        if tape.offload is not None:
            tape.offload.ran()
        del gradient
        node.saved = ()
        for edge in node.edges:
            output = outputs.pop()
            if edge is None:
                continue
            if output is not None:
                _deliver(buffers, edge, output)
            del output
            waiting[edge] -= 1
            if not waiting[edge] and edge in buffers:
                heappush(ready, (-edge.order, edge))
        del outputs, node
    tape.scope, tape.component, trace.layer = scope, component, layer
    tape.grad_enabled, tape.in_backward = state


def _dependencies(root: Node) -> dict[Node, int]:
    """How many gradients each node of the graph waits for."""
    counts: dict[Node, int] = {root: 0}
    stack = [root]
    while stack:
        for edge in stack.pop().edges:
            if edge is None:
                continue
            if edge in counts:
                counts[edge] += 1
            else:
                counts[edge] = 1
                stack.append(edge)
    return counts


def _conform(edges: tuple[Node | None, ...], gradients: Gradients) -> list[Tensor | None]:
    """Gradients reduced and cast to what each edge expects (``validate_outputs``), last one first."""
    conformed = list(gradients)
    # What a sum or a cast replaces goes at once.
    del gradients
    for place, edge in enumerate(edges):
        gradient, conformed[place] = conformed[place], None
        if edge is None or gradient is None:
            continue
        if gradient.shape != edge.shape:
            gradient = gradient.tape.empty(edge.shape, gradient.dtype, "sum_to_size")
        if gradient.dtype is not edge.dtype:
            _, strides = layout.elementwise((gradient.shape, gradient.strides))
            gradient = gradient.tape.empty(edge.shape, edge.dtype, "to", strides)
        conformed[place] = gradient
    conformed.reverse()
    return conformed


def _deliver(buffers: dict[Node, Tensor], edge: Node, gradient: Tensor) -> None:
    """Put a gradient where its node will find it, adding to one that is there already."""
    if edge not in buffers:
        buffers[edge] = gradient
        return
    held = buffers.pop(edge)
    storage = held.storage
    # One reference more than SOLE: the storage is held by the tensor and by the local above.
    alone = held.base is None and getrefcount(held) == SOLE and getrefcount(storage) == SOLE + 1
    if not (alone and layout.is_dense(held.shape, held.strides)):
        shape, strides = layout.elementwise((held.shape, held.strides), (gradient.shape, gradient.strides))
        held = held.tape.empty(shape, held.dtype, "add", strides)
    buffers[edge] = held


def _laid_out_alike(gradient: Tensor, leaf: Leaf) -> bool:
    """Whether strides are those of the leaf; where a side is 1 they do not count.

    ``obeys_layout_contract`` in torch/csrc/autograd/utils/grad_layout_contract.h.
    """
    if gradient.strides == leaf.strides:
        return True
    pairs = zip(leaf.shape, gradient.strides, leaf.strides, strict=True)
    return all(side == 1 or step == other for side, step, other in pairs)


def _accumulate(node: Node, gradient: Tensor) -> Gradients:
    """Keep the first gradient of a leaf, by stealing or copying it; add later ones in place."""
    assert isinstance(node, Leaf)
    if node.grad is None:
        tape = gradient.tape
        # The engine holds one reference of its own while a node runs.
        if getrefcount(gradient) > SOLE + 1 or not _laid_out_alike(gradient, node):
            gradient = tape.empty(node.shape, gradient.dtype, "clone")
        if node.held is None:
            if tape.gradients not in (None, gradient.dtype):
                gradient = tape.empty(node.shape, tape.gradients or gradient.dtype, "to")
            block = gradient.storage.block
            # A view keeps all of what it is a view of.
            alone = tape.trace.sizes[block] == prod(node.shape) * gradient.dtype.itemsize
            whole = node.shape if alone else tape.trace.tags[block][3]
            tape.trace.tags[block] = ("gradients", node.scope, "grad", whole, gradient.dtype)
        node.grad = gradient.detach()
    if node.after is not None:
        node.after(node)
    return ()
