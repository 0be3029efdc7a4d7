"""What a user gets from ``pip install``: the profiles must be inside."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="hatchling is not installed"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), "-t", "sdist", "-t", "wheel"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def profile_files() -> set[str]:
    return {str(path.relative_to(ROOT)) for path in (ROOT / "profiles").rglob("*") if path.is_file()}


def test_the_wheel_holds_every_profile_under_its_own_package(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"memplan/_{name}" for name in profile_files()} <= names
    assert "memplan/py.typed" in names
    assert not any(name.startswith(("tests/", "profiles/", "examples/")) for name in names)


def test_the_sdist_holds_every_profile_at_the_top(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert profile_files() <= names
    assert {"README.md", "LICENSE", "pyproject.toml"} <= names


def test_an_installed_wheel_finds_its_profiles(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = "from memplan import profiles; print(profiles.gpu('gtx1650').capacity)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "4GiB\n"
