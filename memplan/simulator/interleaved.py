"""Numbers that belong together as neighbours: every second one, and the rotation of pairs."""

from __future__ import annotations

from memplan.simulator import ops, shapes
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.ops import finish
from memplan.simulator.splits import split_last
from memplan.simulator.tensor import Tensor


def every_second(x: Tensor) -> Tensor:
    """``x[..., ::2]`` (or ``1::2``): a view; backward zero-fills a tensor of the whole size."""
    source = x.shape

    def run(_: Node, gradient: Tensor) -> Gradients:
        return (gradient.tape.empty(source, gradient.dtype, "slice_backward"),)

    node = begin(run, x)
    result = x.alias((*source[:-1], source[-1] // 2), (*x.strides[:-1], 2 * x.strides[-1]))
    return finish(node, result)


def rotate_pairs(query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """``apply_rotary_pos_emb_interleave`` on (B, H, S, D) tensors (DeepSeek-V3)."""
    half = cosine.shape[-1] // 2
    cosine = shapes.unsqueeze(shapes.narrow_last(cosine, half), 1)
    sine = shapes.unsqueeze(shapes.narrow_last(sine, half), 1)
    q1, q2 = every_second(query), every_second(query)
    k1, k2 = every_second(key), every_second(key)
    query = _rotated(q1, q2, cosine, sine)
    key = _rotated(k1, k2, cosine, sine)
    return query, key


def rotate_halves(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """``_apply_rotary_emb`` of GPT-OSS: the halves of (B, H, S, D) are what belongs together."""
    half = x.shape[-1] // 2
    first, second = split_last(x, (half, half))
    return _rotated(first, second, cosine, sine)


def _rotated(first: Tensor, second: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Both results of one rotation, one behind the other."""
    turned = ops.sub(ops.mul(first, cosine), ops.mul(second, sine))
    rest = ops.add(ops.mul(second, cosine), ops.mul(first, sine))
    return shapes.cat_last(turned, rest)
