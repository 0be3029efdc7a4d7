"""A cache that is kept comes back whole or not at all, and nothing that is wrong with it is passed over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import memplan
from memplan.domain.errors import DocumentError, FieldError, FileAccessError, UnrecognisedError
from memplan.mechanisms.context import kept
from memplan.mechanisms.context.header import SIZE
from memplan.mechanisms.context.mapped import MappedCache

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(memplan.__file__).parents[1])}


def filled(*, layers: int = 2, tokens: int = 7, bits: int = 0) -> MappedCache:
    """A cache of random numbers."""
    cache = MappedCache(layers=layers, bits=bits)
    for layer in range(layers):
        cache.append(torch.randn(2, 3, tokens, 8), torch.randn(2, 3, tokens, 8), layer)
    return cache


@pytest.mark.parametrize("bits", [0, 8, 4])
def test_what_was_kept_is_what_comes_back_and_can_go_on(tmp_path: Path, bits: int) -> None:
    """Byte for byte; the files stay as they are while the loaded cache grows."""
    cache = filled(bits=bits)
    kept.save(cache, tmp_path / "prompt")
    before = {path.name: path.read_bytes() for path in (tmp_path / "prompt").iterdir()}
    with kept.load(tmp_path / "prompt", tmp_path) as found:
        for layer in range(2):
            for ours, theirs in zip(found.read(layer), cache.read(layer), strict=True):
                assert torch.equal(ours, theirs)
        more = torch.randn(2, 3, 5, 8)
        assert found.update(more, more, 0)[0].shape[2] == 12
    assert {path.name: path.read_bytes() for path in (tmp_path / "prompt").iterdir()} == before
    assert sorted(before) == ["layer-0000.kv", "layer-0001.kv"]


@pytest.mark.parametrize("place", [0, 8, 12, 30, 60, 100, 110, 200, SIZE - 1, SIZE, SIZE + 100, -1])
def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path, place: int) -> None:
    """In the magic, the version, the identity, the shape, the checksums, the padding, the rows."""
    kept.save(filled(), tmp_path / "prompt")
    path = tmp_path / "prompt" / "layer-0001.kv"
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    with pytest.raises((DocumentError, UnrecognisedError), match="layer-0001"):
        kept.load(tmp_path / "prompt", tmp_path)


@pytest.mark.parametrize("length", [0, 5, 100, SIZE - 1, SIZE, SIZE + 1, -1])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, length: int) -> None:
    """Wherever it ends."""
    kept.save(filled(), tmp_path / "prompt")
    path = tmp_path / "prompt" / "layer-0000.kv"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises((DocumentError, UnrecognisedError)):
        kept.load(tmp_path / "prompt", tmp_path)


def test_a_file_that_goes_on_after_its_rows_is_refused(tmp_path: Path) -> None:
    """It is not the one that was written."""
    kept.save(filled(), tmp_path / "prompt")
    with (tmp_path / "prompt" / "layer-0000.kv").open("ab") as file:
        file.write(b"more")
    with pytest.raises(DocumentError, match="longer than it says"):
        kept.load(tmp_path / "prompt", tmp_path)


def test_a_foreign_file_is_refused_by_name(tmp_path: Path) -> None:
    """Such as a picture."""
    (tmp_path / "layer-0000.kv").write_bytes(b"\x89PNG" + bytes(9000))
    with pytest.raises(UnrecognisedError, match="is no cache of keys and values"):
        kept.load(tmp_path, tmp_path)


def test_layers_of_different_caches_are_not_mixed(tmp_path: Path) -> None:
    """Each is whole, but they do not belong together; nor do two that changed places."""
    kept.save(filled(), tmp_path / "one")
    kept.save(filled(), tmp_path / "two")
    second = tmp_path / "two" / "layer-0001.kv"
    first = (tmp_path / "one" / "layer-0001.kv").read_bytes()
    mine = second.read_bytes()
    second.write_bytes(first)
    with pytest.raises(DocumentError, match="belongs to another cache"):
        kept.load(tmp_path / "two", tmp_path)
    second.write_bytes(mine)
    (tmp_path / "two" / "layer-0000.kv").write_bytes(mine)
    with pytest.raises(DocumentError, match="another layer"):
        kept.load(tmp_path / "two", tmp_path)


def test_a_missing_layer_or_folder_is_named(tmp_path: Path) -> None:
    """The file that is not there."""
    with pytest.raises(DocumentError, match=r"layer-0000\.kv is missing"):
        kept.load(tmp_path / "nothing", tmp_path)
    kept.save(filled(layers=3), tmp_path / "prompt")
    (tmp_path / "prompt" / "layer-0002.kv").unlink()
    with pytest.raises(DocumentError, match=r"layer-0002\.kv is missing"):
        kept.load(tmp_path / "prompt", tmp_path)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    """A folder that is there stays as it is."""
    (tmp_path / "prompt").mkdir()
    with pytest.raises(FileAccessError, match="is there already"):
        kept.save(filled(), tmp_path / "prompt")
    assert list(tmp_path.iterdir()) == [tmp_path / "prompt"]


def test_a_step_that_is_half_done_is_not_kept(tmp_path: Path) -> None:
    """Some layers have its tokens and others do not; after truncating, all are alike."""
    cache = filled()
    cache.append(torch.randn(2, 3, 1, 8), torch.randn(2, 3, 1, 8), 0)
    with pytest.raises(FieldError, match="between steps"):
        kept.save(cache, tmp_path / "prompt")
    cache.truncate(cache.tokens)
    kept.save(cache, tmp_path / "prompt")
    with pytest.raises(FieldError, match="between steps"):
        kept.save(MappedCache(layers=1), tmp_path / "empty")


def test_an_error_on_the_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a full disk: neither the folder nor a part of it."""

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileAccessError, match="the disk is full"):
        kept.save(filled(), tmp_path / "prompt")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_leaves_is_recognised_and_removed(tmp_path: Path) -> None:
    """Not what another one is just writing."""
    script = (
        "import os, signal, sys, torch\n"
        "from memplan.mechanisms.context import kept\n"
        "from memplan.mechanisms.context.mapped import MappedCache\n"
        "cache = MappedCache(layers=1)\n"
        "cache.append(torch.ones(1, 1, 9, 8), torch.ones(1, 1, 9, 8), 0)\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "kept.save(cache, sys.argv[1])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "prompt")], env=ENVIRONMENT, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith("prompt.partial-")
    foreign = tmp_path / "download.partial-abcdefgh"
    foreign.mkdir()
    (foreign / "precious.txt").touch()
    with kept._partial(tmp_path / "other"):
        assert kept.stale(tmp_path) == (left,)
        assert kept.remove_stale(tmp_path) == (left,)
        assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == [foreign]


def test_a_folder_that_no_system_could_have_is_refused() -> None:
    with pytest.raises(FileAccessError, match="null byte"):
        kept.load("a\0b")
