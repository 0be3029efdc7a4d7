"""The cache of the hub is found and read as huggingface_hub lays it out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan import hub
from memplan.hub import cache as layout


def written(cache: Path, hub_id: str, revision: str, *, main: str | None = None) -> Path:
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    folder = repository / "snapshots" / revision
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    if main is not None:
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(main)
    return folder


def test_the_snapshot_that_main_names_is_found(cache: Path) -> None:
    written(cache, "some/model", "aaa")
    newest = written(cache, "some/model", "bbb", main="bbb")
    assert hub.cached("some/model") == newest


def test_a_single_snapshot_needs_no_ref(cache: Path) -> None:
    assert hub.cached("some/model") is None
    only = written(cache, "some/model", "aaa")
    assert hub.cached("some/model") == only


def test_of_several_snapshots_without_a_ref_none_is_picked(cache: Path) -> None:
    written(cache, "some/model", "aaa")
    written(cache, "some/model", "bbb")
    assert hub.cached("some/model") is None


def test_a_snapshot_without_a_config_does_not_count(cache: Path) -> None:
    (written(cache, "some/model", "aaa", main="aaa") / "config.json").unlink()
    assert hub.cached("some/model") is None


@pytest.mark.parametrize("named", ["../../elsewhere", "", "a b", "\x00"])
def test_a_ref_that_is_no_revision_leads_nowhere(cache: Path, named: str) -> None:
    written(cache, "some/model", "aaa")
    written(cache, "some/model", "bbb", main=named)
    assert hub.cached("some/model") is None


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HUB_CACHE": "/one"}, "/one"),
        ({"HF_HOME": "/two"}, "/two/hub"),
        ({"HF_HUB_CACHE": "/one", "HF_HOME": "/two"}, "/one"),
        ({"HF_HOME": "", "XDG_CACHE_HOME": "/three"}, "/three/huggingface/hub"),
    ],
)
def test_the_environment_says_where_the_cache_is(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert layout.root() == Path(expected)


@given(st.text(max_size=40))
def test_no_name_leads_out_of_the_cache(name: str) -> None:
    if layout.HUB_ID.fullmatch(name):
        assert ".." not in name
        assert name.count("/") == 1
    else:
        assert hub.cached(name) is None
