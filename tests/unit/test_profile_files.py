"""Profile files: the shipped ones and their index, a user's own, and wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan import profiles
from memplan.domain.errors import FileAccessError, MemplanError, ProfileError
from memplan.profiles import __main__ as command
from memplan.profiles.folder import read_folder
from memplan.profiles.index import stale_files, write_index
from memplan.profiles.store import OVERLAY_VARIABLE, shipped_folder


@pytest.fixture
def overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for kind in ("gpus", "models", "named"):
        (tmp_path / kind).mkdir()
    monkeypatch.setenv(OVERLAY_VARIABLE, str(tmp_path))
    return tmp_path


def test_the_index_agrees_with_the_yaml() -> None:
    assert stale_files(shipped_folder()) == []


def test_every_shipped_gpu_says_how_it_is_connected() -> None:
    for gpu in profiles.gpus():
        assert gpu.multiprocessors
        assert gpu.host_link
        assert gpu.host_link < gpu.bandwidth
        assert gpu.peer_link is None or gpu.peer_link >= gpu.host_link


GOOD_GPU = {
    "title": "Example Card",
    "compute_capability": '"8.6"',
    "capacity": "20GiB",
    "usable": "19GiB",
    "usable_basis": "measured",
    "usable_source": "nvidia-smi",
    "bandwidth": "500GB/s",
    "tflops": "{fp32: 10, fp16: 20, bf16: 20}",
    "context": "200MiB",
    "context_basis": "measured",
    "context_source": "nvidia-smi",
    "source": "the label",
    "date": "2026-01-31",
}


def _gpu_file(name: str = "mycard", changes: Mapping[str, str | None] | None = None) -> str:
    fields: dict[str, str | None] = {**GOOD_GPU, **(changes or {})}
    lines = [f"    {key}: {value}" for key, value in fields.items() if value is not None]
    return "\n".join(["gpus:", f"  {name}:", *lines, ""])


def test_a_gpu_of_ones_own_is_laid_over_the_shipped_ones(overlay: Path) -> None:
    (overlay / "gpus" / "mine.yaml").write_text(_gpu_file(), encoding="utf-8")
    assert profiles.gpu("My Card").usable == 19 * 2**30
    assert profiles.gpu("rtx3090").title == "NVIDIA GeForce RTX 3090"


def test_a_shipped_gpu_can_be_corrected(overlay: Path) -> None:
    (overlay / "gpus" / "mine.yaml").write_text(_gpu_file("rtx3090"), encoding="utf-8")
    assert profiles.gpu("3090").usable == 19 * 2**30


def test_an_overlay_without_profiles_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OVERLAY_VARIABLE, str(tmp_path))
    with pytest.raises(FileAccessError, match="not a folder of profiles"):
        profiles.gpus()


@pytest.mark.parametrize(
    ("changes", "line", "field", "expected"),
    [
        ({"capacity": None}, 3, "gpus.mycard.capacity: this field is missing", "an amount such as 4096MiB"),
        ({"color": "green"}, 16, "gpus.mycard.color: this field is not known", "one of title"),
        ({"capacity": "20"}, 5, "capacity: 20 is not text", "an amount such as 4096MiB"),
        ({"capacity": "20 parsecs"}, 5, "'parsecs' is not a unit", "an amount such as 4096MiB"),
        ({"capacity": "-20GiB"}, 5, "not an amount of memory", "an amount such as 4096MiB"),
        ({"capacity": "0GiB"}, 5, "greater than 0", "an amount such as 4096MiB"),
        ({"usable": "21GiB"}, 3, "more than the capacity", ""),
        ({"context": "19GiB"}, 3, "leaves no room", ""),
        ({"bandwidth": "500GB"}, 9, "not an amount per second", "192GB/s"),
        ({"compute_capability": "8.6"}, 4, "8.6 is not text", 'a quoted version such as "7.5"'),
        ({"tflops": "{fp32: 10, fp16: 20}"}, 3, "native to this hardware is bf16, fp16, fp32", ""),
        ({"host_link": "PCIe 4.0"}, 16, "not an amount per second", "31.5GB/s"),
        ({"multiprocessors": "0"}, 16, "multiprocessors", "a positive whole number"),
        ({"tflops": "{fp32: .nan, fp16: 20, bf16: 20}"}, 10, "tflops.fp32", "a positive number of TFLOPS"),
        ({"context_basis": "guessed"}, 12, "context_basis", "measured or assumed"),
        ({"date": "yesterday"}, 15, "'yesterday' is not a date", "a day such as 2026-01-31"),
        ({"aliases": "[3090, rtx]"}, 16, "aliases", "text"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(
    overlay: Path, changes: dict[str, str | None], line: int, field: str, expected: str
) -> None:
    path = overlay / "gpus" / "mine.yaml"
    path.write_text(_gpu_file(changes=changes), encoding="utf-8")
    with pytest.raises(ProfileError) as caught:
        profiles.gpus()
    location = caught.value.location
    assert location is not None
    assert (location.path, location.line) == (str(path), line)
    assert field in caught.value.message
    assert expected in (caught.value.expected or "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("[1, 2]\n", "valid dictionary"),
        ("gpus: [\n", "not well-formed YAML"),
        ("gpus: {}\ngpus: {}\n", "'gpus' is given twice"),
        ("gpus: &a {}\nother: *a\n", "anchors and aliases"),
        ("? [a, b]\n: 1\n", "a key must be a plain name"),
        ("gpus: !!python/object/apply:os.system [echo]\n", "not well-formed YAML"),
        ("gpus:\n  a: {date: 2026-99-99}\n", "cannot be read as YAML"),
    ],
)
def test_a_malformed_file_is_a_located_error(overlay: Path, text: str, message: str) -> None:
    (overlay / "gpus" / "mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ProfileError, match=message) as caught:
        profiles.gpus()
    assert caught.value.location is not None


def test_a_binary_file_is_refused(overlay: Path) -> None:
    (overlay / "gpus" / "mine.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(FileAccessError, match="not UTF-8"):
        profiles.gpus()


def test_two_cards_cannot_share_a_name(overlay: Path) -> None:
    (overlay / "gpus" / "a.yaml").write_text(_gpu_file("one", {"aliases": "[shared]"}), encoding="utf-8")
    (overlay / "gpus" / "b.yaml").write_text(
        _gpu_file("two", {"title": "Another", "aliases": "[SHARED]"}), encoding="utf-8"
    )
    with pytest.raises(ProfileError, match="'shared' already leads to one"):
        profiles.gpus()


def test_a_hub_id_cannot_have_two_architectures(overlay: Path) -> None:
    text = (shipped_folder() / "models" / "mistral.yaml").read_text(encoding="utf-8")
    doubled = text.replace("mistralai/Mistral-7B-v0.3", "mistralai/Mistral-7B-v0.1")
    (overlay / "models" / "mine.yaml").write_text(doubled, encoding="utf-8")
    with pytest.raises(ProfileError, match=r"already has the architecture mistral-7b-v0\.1"):
        profiles.model("a/b")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("margin: 40%", "margin: 0.4", "not text"),
        ("margin: 40%", "margin: 140%", "not a share"),
        ("default: balanced", "default: bold", "not among"),
        ("embedding_dim: 768", "embedding_dim: -768", "greater than 0"),
        ("allow: exact", "allow: anything", "allow"),
        ("embedding_dim: 512", "embedding-dim: 512", "embedding-dim"),
    ],
)
def test_a_wrong_named_profile_is_refused(overlay: Path, before: str, after: str, message: str) -> None:
    text = (shipped_folder() / "named" / "gtx1650.yaml").read_text(encoding="utf-8")
    assert before in text
    (overlay / "named" / "mine.yaml").write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(ProfileError, match=message):
        profiles.named("gtx1650")


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_any_profile_file_is_records_or_a_memplan_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "gpus").mkdir()
    (folder / "gpus" / "any.yaml").write_text(text, encoding="utf-8", newline="")
    try:
        read_folder(folder)
    except MemplanError as error:
        message = str(error)
    else:
        message = "fine"
    assert message


def test_the_command_writes_an_index_and_then_finds_it_up_to_date(
    overlay: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "shipped_folder", lambda: overlay)
    path = overlay / "gpus" / "mine.yaml"
    path.write_text(_gpu_file(), encoding="utf-8")
    assert command.main(["--check"]) == 1
    assert command.main(["--index"]) == 0
    assert command.main(["--check"]) == 0
    assert write_index(overlay) == []
    path.write_text(_gpu_file(changes={"capacity": "none"}), encoding="utf-8")
    assert command.main(["--check"]) == 2
    assert command.main([]) == 2
    assert "mine.yaml:5" in capsys.readouterr().err
