"""A decoder reads a long context in chunks as it would at once, within the memory it was given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import memplan
from memplan.domain.errors import FieldError
from memplan.mechanisms.context.decoder import Decoder
from memplan.mechanisms.context.mapped import MappedCache

pytestmark = pytest.mark.usefixtures("one_thread")

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(memplan.__file__).parents[1])}


def made(*, layers: int = 2, interval: int = 0) -> Decoder:
    """A small one of random weights."""
    torch.manual_seed(0)
    return Decoder(layers=layers, heads=2, head_dim=8, hidden=24, vocab=50, interval=interval)


@given(tokens=st.integers(1, 60), chunk=st.sampled_from([0, 1, 7, 20, 59, 60, 100]), in_memory=st.booleans())
@settings(max_examples=25, deadline=None)
def test_reading_in_chunks_is_reading_at_once(tokens: int, chunk: int, in_memory: bool) -> None:
    """Up to the rounding of sums; chunks that do not divide, chunks larger than everything."""
    decoder = made()
    sequence = torch.randint(0, 50, (tokens,))
    with MappedCache(layers=2, in_memory=in_memory) as cache:
        found = decoder.read(sequence, cache, chunk=chunk)
    with torch.no_grad():
        assert torch.allclose(decoder.head(found), decoder(sequence), atol=1e-5)


@pytest.mark.parametrize("chunk", [0, 30, 64])
def test_files_and_memory_give_the_same_bits(chunk: int) -> None:
    """What is read back is what was written, so nothing that follows differs."""
    decoder = made()
    sequence = torch.randint(0, 50, (100,))
    with MappedCache(layers=2) as files, MappedCache(layers=2, in_memory=True) as memory:
        assert torch.equal(
            decoder.read(sequence, files, chunk=chunk), decoder.read(sequence, memory, chunk=chunk)
        )
        for layer in range(2):
            for ours, theirs in zip(files.read(layer), memory.read(layer), strict=True):
                assert torch.equal(ours, theirs)


def test_reading_goes_on_where_it_stopped() -> None:
    """A cache that holds the beginning stands for it."""
    decoder = made()
    sequence = torch.randint(0, 50, (60,))
    with MappedCache(layers=2) as whole, MappedCache(layers=2) as parts:
        at_once = decoder.read(sequence, whole, chunk=10)
        decoder.read(sequence[:40], parts, chunk=10)
        assert torch.allclose(decoder.read(sequence[40:], parts, chunk=10), at_once[40:], atol=1e-5)


@pytest.mark.parametrize("interval", [1, 2, 3])
def test_checkpoints_change_no_gradient(interval: int) -> None:
    """The same operations on the same numbers."""
    sequence = torch.randint(0, 50, (30,))
    gradients = []
    for every in (0, interval):
        decoder = made(layers=3, interval=every)
        torch.nn.functional.cross_entropy(decoder(sequence), sequence).backward()
        gradients.append([parameter.grad for parameter in decoder.parameters()])
    for plain, again in zip(*gradients, strict=True):
        assert plain is not None
        assert again is not None
        assert torch.equal(plain, again)


def test_what_makes_no_sense_is_refused() -> None:
    """No layers, intervals beyond them, no tokens, negative chunks."""
    with pytest.raises(FieldError, match="side of 0"):
        Decoder(layers=0, heads=1, head_dim=1, hidden=1, vocab=1)
    with pytest.raises(FieldError, match="every 5 of 3 layers"):
        made(layers=3, interval=5)
    with MappedCache(layers=2) as cache:
        with pytest.raises(FieldError, match="0 tokens"):
            made().read(torch.empty(0, dtype=torch.int64), cache)
        with pytest.raises(FieldError, match="chunks of -1"):
            made().read(torch.zeros(3, dtype=torch.int64), cache, chunk=-1)


LONG = """
import json, sys, torch, zlib
from contextlib import suppress
from pathlib import Path
from memplan.mechanisms.context.decoder import Decoder
from memplan.mechanisms.context.mapped import MappedCache

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":")), 0)

torch.set_num_threads(1)
torch.manual_seed(0)
decoder = Decoder(layers=2, heads=8, head_dim=32, hidden=32, vocab=64)
tokens = torch.randint(0, 64, (32768,))
with torch.no_grad():
    decoder(tokens[:64])
with suppress(OSError):
    Path("/proc/self/clear_refs").write_text("5")
before = {name: status(name) for name in ("RssAnon", "RssFile", "RssShmem", "VmHWM")}
found = torch.empty(0)
with MappedCache(sys.argv[2], layers=2, in_memory=sys.argv[1] == "memory") as cache:
    # Keys and values of all tokens, which only the last of them attend to: the arithmetic of one in 512.
    for start in range(0, 32768, 1024):
        x = decoder.embedding(tokens[start : start + 1024]).unsqueeze(0).detach()
        for block, layer in zip(decoder.blocks, cache.layers):
            with torch.no_grad():
                _, keys, values = block._split(x)
                layer.append(keys, values)
    cache.truncate(32768 - 64)
    hidden = decoder.read(tokens[-64:], cache, chunk=1024)
    checksum = 0
    for layer in cache.layers:
        for keys, values in layer.chunks(1024):
            for part in (keys, values):
                checksum = zlib.crc32(part.contiguous().numpy().tobytes(), checksum)
    after = {name: status(name) for name in before}
    print(json.dumps({
        "grown": {name: after[name] - before[name] for name in before},
        "disk": cache.disk, "checksum": checksum, "last": hidden[-1].tolist(),
    }))
"""

CACHE = 2 * 32768 * 8 * 32 * 2 * 4
"""Bytes of the cache: 128 MiB."""

CAP = 32 * 2**20
"""What the process may grow by with the cache in files."""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_32768_tokens_are_read_back_equal_under_a_cap_on_resident_memory(tmp_path: Path) -> None:
    """128 MiB of keys and values: in files it grows by less than 32 MiB, in memory by all of them."""
    found = {}
    for kind in ("mapped", "memory"):
        ended = subprocess.run(
            [sys.executable, "-c", LONG, kind, str(tmp_path)],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        found[kind] = json.loads(ended.stdout)
    mapped, memory = found["mapped"], found["memory"]
    assert mapped["checksum"] == memory["checksum"]
    assert mapped["last"] == memory["last"]
    assert mapped["disk"] == CACHE
    assert memory["disk"] == 0
    assert mapped["grown"]["VmHWM"] < CAP
    assert mapped["grown"]["RssFile"] + mapped["grown"]["RssShmem"] < CAP
    assert memory["grown"]["RssAnon"] > 0.95 * CACHE
