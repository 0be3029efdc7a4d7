"""Headers of weight files: what they say of a model's weights, and what is refused."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan import hub
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.errors import DocumentError
from memplan.domain.published import Published
from memplan.hub.packing import Tensor, summary
from tests.unit.hub.stand_in import safetensors, tensors

Entries = dict[str, tuple[str, tuple[int, ...]]]
PARAMETERS = 256 * 64 + 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128 + 2 * 64) + 64

LAYOUTS: dict[str, tuple[str | None, int, Entries]] = {
    "bf16": (None, 8 * 16, {"w.weight": ("BF16", (8, 16))}),
    "bitsandbytes nf4": (
        "bitsandbytes",
        8 * 16,
        {
            "w.weight": ("U8", (64, 1)),
            "w.weight.absmax": ("U8", (2,)),
            "w.weight.nested_absmax": ("F32", (1,)),
            "w.weight.nested_quant_map": ("F32", (256,)),
            "w.weight.quant_map": ("F32", (16,)),
            "w.weight.quant_state.bitsandbytes__nf4": ("U8", (80,)),
        },
    ),
    "bitsandbytes int8": (
        "bitsandbytes",
        8 * 16,
        {"w.weight": ("U8", (8, 16)), "w.SCB": ("F32", (8,)), "w.weight_format": ("U8", ())},
    ),
    "GPTQ 4 bit": (
        "gptq",
        64 * 32,
        {
            "w.qweight": ("I32", (8, 32)),
            "w.qzeros": ("I32", (1, 4)),
            "w.scales": ("F16", (1, 32)),
            "w.g_idx": ("I32", (64,)),
        },
    ),
    "GPTQ 8 bit": (
        "gptq",
        64 * 32,
        {"w.qweight": ("I32", (16, 32)), "w.scales": ("F16", (1, 32)), "w.g_idx": ("I32", (64,))},
    ),
    "AWQ": (
        "awq",
        64 * 32,
        {"w.qweight": ("I32", (64, 4)), "w.qzeros": ("I32", (1, 4)), "w.scales": ("F16", (1, 32))},
    ),
    "fp8": ("fp8", 8 * 16, {"w.weight": ("F8_E4M3", (8, 16)), "w.weight_scale_inv": ("F32", (1, 1))}),
    "MXFP4": (
        "mxfp4",
        2 * 64 * 64,
        {"w.down_proj_blocks": ("U8", (2, 64, 2, 16)), "w.down_proj_scales": ("U8", (2, 64, 2))},
    ),
    "NVFP4": (
        "nvfp4",
        8 * 16,
        {
            "w.weight": ("U8", (8, 8)),
            "w.weight_scale": ("F8_E4M3", (8, 1)),
            "w.weight_scale_2": ("F32", ()),
            "w.input_scale": ("F32", ()),
        },
    ),
    "old buffers": (
        None,
        8,
        {
            "h.0.attn.bias": ("U8", (1, 1, 4, 4)),
            "h.0.attn.c_attn.bias": ("F32", (8,)),
            "h.0.self_attn.rotary_emb.inv_freq": ("F32", (4,)),
        },
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_weights_are_counted_as_the_model_has_them_once_loaded(name: str, tmp_path: Path) -> None:
    layout, parameters, entries = LAYOUTS[name]
    (tmp_path / "model.safetensors").write_bytes(safetensors(entries))
    found = hub.published(tmp_path)
    assert found is not None
    assert (found.layout, found.parameters) == (layout, parameters)


def test_the_bytes_of_a_file_are_exact(tmp_path: Path) -> None:
    content = safetensors(tensors())
    (tmp_path / "model.safetensors").write_bytes(content)
    size = Bytes(2 * PARAMETERS)
    found = hub.published(tmp_path)
    assert found == Published(parameters=PARAMETERS, size=size, dtypes=(("BF16", size),))
    assert size == len(content) - 8 - int.from_bytes(content[:8], "little")
    assert found.dtype is Dtype.BF16


def test_a_model_in_several_files_is_one_model(tmp_path: Path) -> None:
    every = list(tensors().items())
    shards = {"a.safetensors": dict(every[::2]), "b.safetensors": dict(every[1::2])}
    for name, entries in shards.items():
        (tmp_path / name).write_bytes(safetensors(entries))
    weights = {tensor: name for name, entries in shards.items() for tensor in entries}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    found = hub.published(tmp_path)
    assert found is not None
    assert (found.parameters, found.files) == (PARAMETERS, 2)
    (tmp_path / "b.safetensors").unlink()
    assert hub.published(tmp_path) is None


def test_a_folder_without_weights_says_nothing(tmp_path: Path) -> None:
    assert hub.published(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\n",
        (2).to_bytes(8, "little") + b"[]",
        (9).to_bytes(8, "little") + b'{"w": 1 }',
        (4).to_bytes(8, "little") + b"\xff\xfe{}",
        b"\xff" * 8,
        safetensors(tensors(), data=False),
        safetensors({"w": ("F32", (2,))}).replace(b"F32", b"F99"),
        safetensors({"w": ("F32", (2,))}).replace(b"[2]", b"[-2"[:3]),
    ],
    ids=[
        "empty",
        "pointer",
        "a list",
        "no entry",
        "no text",
        "endless header",
        "cut short",
        "dtype",
        "shape",
    ],
)
def test_what_is_no_safetensors_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(DocumentError, match=r"model\.safetensors is "):
        hub.published(tmp_path)


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"w": "../x"}}'])
def test_what_is_no_index_is_refused(index: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(DocumentError, match="has no weight_map"):
        hub.published(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["F32", "U8"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["w", "dtype", "shape", "data_offsets"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_a_header_holds_it_is_counted_or_refused(header: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        with contextlib.suppress(DocumentError):
            found = hub.published(Path(folder))
            assert found is not None
            assert found.parameters >= 0


def test_a_scalar_counts_as_one_element() -> None:
    assert summary([Tensor.of("temperature", "F32", (), 32)]).parameters == 1
