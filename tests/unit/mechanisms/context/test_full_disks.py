"""Disks that are full or closed: errors of the call that asks for space, and nothing cached is lost.

Real ones, as small file systems in memory that a process of its own mounts where only it can see them.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import memplan
from memplan.domain.errors import FileAccessError
from memplan.mechanisms.context import kept
from memplan.mechanisms.context.growing import GrowingFile, in_memory
from memplan.mechanisms.context.mapped import MappedCache

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(memplan.__file__).parents[1])}
ALONE = ["unshare", "--user", "--map-root-user", "--mount"]


def _mounts() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run([*ALONE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return tried.returncode == 0


mounted = pytest.mark.skipif(not _mounts(), reason="no user namespaces with mounts here")


def _run(script: str, mount: str, tmp_path: Path) -> str:
    """What a script prints that has a file system of its own at ``tmp_path``."""
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    place = tmp_path / "disk"
    place.mkdir()
    command = f"mount -t tmpfs -o {mount} none {place} && exec {sys.executable} {tmp_path}/script.py {place}"
    ended = subprocess.run(
        [*ALONE, "sh", "-c", command], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


FULL = """
import sys, torch
from memplan.domain.errors import FileAccessError
from memplan.mechanisms.context import kept
from memplan.mechanisms.context.growing import in_memory
from memplan.mechanisms.context.mapped import MappedCache
from pathlib import Path

assert in_memory(Path(sys.argv[1]))
cache = MappedCache(sys.argv[1], layers=2)
step = torch.arange(64 * 64, dtype=torch.float32).view(1, 1, 64, 64)
steps = 0
try:
    while True:
        for layer in range(2):
            cache.append(step + steps, -step, layer)
        steps += 1
except FileAccessError as error:
    print(error)
cache.truncate(cache.tokens)
for layer in range(2):
    keys, values = cache.read(layer)
    assert keys.shape[2] == 64 * steps
    assert torch.equal(keys, torch.cat([step + number for number in range(steps)], 2))
try:
    kept.save(cache, sys.argv[1] + "/kept")
except FileAccessError as error:
    print(error)
print(sorted(path.name for path in Path(sys.argv[1]).iterdir()), steps)
"""


@mounted
def test_a_full_disk_is_said_at_once_and_what_was_cached_is_there(tmp_path: Path) -> None:
    """All of 1 MiB is used, since a file that cannot be doubled grows as far as it must."""
    first, *rest = _run(FULL, "size=1m", tmp_path).splitlines()
    assert "the disk is full: the cache needs" in first
    assert rest[-1] == "[] 16"
    assert any("the disk is full" in line for line in rest)


READ_ONLY = """
import sys
from memplan.domain.errors import FileAccessError
from memplan.mechanisms.context.mapped import MappedCache

try:
    MappedCache(sys.argv[1], layers=2)
except FileAccessError as error:
    print(error)
"""


@mounted
def test_a_read_only_disk_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """When the cache is made, not when the first token comes."""
    said = _run(READ_ONLY, "ro", tmp_path)
    assert "cannot be written to: Read-only file system" in said
    assert "name a directory on a disk that can be written to" in said


LIMITED = """
import resource, sys, torch
from memplan.domain.errors import FileAccessError
from memplan.mechanisms.context.mapped import MappedCache

resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
cache = MappedCache(sys.argv[1], layers=1)
cache.append(torch.ones(1, 1, 512, 64), torch.ones(1, 1, 512, 64), 0)
try:
    cache.append(torch.ones(1, 1, 4096, 64), torch.ones(1, 1, 4096, 64), 0)
except FileAccessError as error:
    print(error)
assert cache.read(0)[0].shape[2] == 512
"""


def test_a_limit_on_the_size_of_files_is_like_a_full_disk(tmp_path: Path) -> None:
    """The kernel's own limit, without a signal."""
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "files may not be so large here" in ended.stdout


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_space_that_cannot_be_had_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The file is as long as before, and what it holds is what it held."""
    file = GrowingFile(tmp_path)
    file.reserve(4096)
    file.write(torch.arange(16, dtype=torch.uint8), 0)

    def full(descriptor: int, start: int, count: int) -> None:
        os.ftruncate(descriptor, start + count // 2)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(FileAccessError, match=r"cache needs 96\.0 KiB more"):
        file.reserve(100 * 1024)
    assert os.fstat(file.descriptor).st_size == file.size == 4096
    assert file.mapped()[:16].tolist() == list(range(16))


def test_systems_without_fallocate_write_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As macOS: the space is taken all the same."""
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    file = GrowingFile(tmp_path)
    file.reserve(10_000)
    assert os.fstat(file.descriptor).st_blocks * 512 >= 10_000
    assert not file.mapped().any()
    assert list(tmp_path.iterdir()) == []


def test_keeping_a_cache_in_a_place_that_is_none_is_refused(tmp_path: Path) -> None:
    """The folder's parent is not there."""
    with MappedCache(layers=1) as cache:
        cache.append(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2), 0)
        with pytest.raises(FileAccessError, match="No such file"):
            kept.save(cache, tmp_path / "missing" / "prompt")


def test_evicting_and_releasing_change_no_byte(tmp_path: Path) -> None:
    """Pages come back from the file."""
    file = GrowingFile(tmp_path)
    file.reserve(8192)
    file.write(torch.arange(100, dtype=torch.uint8), 4000)
    seen = file.mapped()
    before = seen.clone()
    file.release()
    file.evict()
    assert torch.equal(seen, before)


def test_a_disk_is_told_from_memory() -> None:
    """``/dev/shm`` is a tmpfs where there is one."""
    if not Path("/dev/shm").is_dir():
        pytest.skip("no /dev/shm")
    assert in_memory(Path("/dev/shm"))
    assert not in_memory(Path("/proc"))
