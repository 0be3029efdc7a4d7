"""The hub is asked only on request; what it does not give is an error that says what to try."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from memplan import hub as models
from memplan.cli import main
from memplan.domain.errors import HubError
from memplan.read import read, reread
from tests.unit.hub.stand_in import LLAMA, REVISION, Hub, safetensors, tensors

CONFIG = json.dumps(LLAMA).encode()
WEIGHTS = safetensors(tensors())
HEADER = 8 + int.from_bytes(WEIGHTS[:8], "little")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "train.yml"
    path.write_text(
        "base_model: some/model\nmicro_batch_size: 1\nsequence_len: 128\noptimizer: adamw_torch\n"
    )
    return path


def test_a_model_of_the_hub_is_read_and_then_known_without_it(hub: Hub, config: Path) -> None:
    hub.repositories["some/model"] = {"config.json": CONFIG, "model.safetensors": WEIGHTS}
    reading = read(config, online=True)
    assert not reading.findings
    asked = len(hub.asked)
    assert reread(reading).workload == reading.workload == read(config).workload
    assert len(hub.asked) == asked


def test_only_headers_of_weights_are_downloaded(hub: Hub) -> None:
    large = safetensors({"model.embed_tokens.weight": ("F32", (4096, 1024))})
    hub.repositories["some/model"] = {"config.json": CONFIG, "model.safetensors": large}
    folder = models.fetch("some/model")
    assert hub.sent < 110_000 < len(large)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json"]
    found = models.published(folder)
    assert found is not None
    assert (found.parameters, found.size) == (4096 * 1024, 4 * 4096 * 1024)


def test_headers_are_asked_for_once_per_revision(hub: Hub) -> None:
    hub.repositories["some/model"] = {"config.json": CONFIG, "model.safetensors": WEIGHTS}
    assert models.fetch("some/model").name == REVISION
    before = [path for _, path, _ in hub.asked if "safetensors" in path]
    models.fetch("some/model")
    assert [path for _, path, _ in hub.asked if "safetensors" in path] == before != []


def test_a_model_in_several_files_is_weighed_whole(hub: Hub) -> None:
    every = list(tensors().items())
    shards = {"a.safetensors": dict(every[::2]), "b.safetensors": dict(every[1::2])}
    weights = {tensor: name for name, entries in shards.items() for tensor in entries}
    files = {name: safetensors(entries) for name, entries in shards.items()}
    index = json.dumps({"metadata": {}, "weight_map": weights}).encode()
    hub.repositories["some/model"] = {"config.json": CONFIG, "model.safetensors.index.json": index, **files}
    found = models.published(models.fetch("some/model"))
    assert found is not None
    assert (found.files, found.size) == (2, len(WEIGHTS) - HEADER)


def test_a_model_without_safetensors_is_read_by_its_config(hub: Hub) -> None:
    hub.repositories["some/model"] = {"config.json": CONFIG}
    assert models.published(models.fetch("some/model")) is None


@pytest.mark.parametrize(
    ("repository", "message", "tries"),
    [
        ("GatedRepo", "is gated", "accept its terms at http"),
        ("RepoNotFound", "has no model some/model", "spelling"),
        ({"README.md": b""}, "has no config.json", "local directory"),
        ("Crash", "answered 500", "later"),
        ({"config.json": CONFIG, "model.safetensors": b"no weights"}, "is not safetensors", None),
    ],
    ids=["gated", "missing", "no config", "server error", "malformed weights"],
)
def test_every_refusal_says_what_to_try(
    hub: Hub, config: Path, repository: dict[str, bytes] | str, message: str, tries: str | None
) -> None:
    hub.repositories["some/model"] = repository
    with pytest.raises(HubError, match=message) as caught:
        read(config, online=True)
    assert str(caught.value.location) == f"{config}:1:13"
    assert (tries or "") in (caught.value.hint or "")


def test_a_config_that_is_no_json_is_refused_at_its_place(hub: Hub, config: Path) -> None:
    hub.repositories["some/model"] = {"config.json": b"<html>"}
    assert main(["estimate", str(config), "--online"]) == 2


def test_a_hub_that_does_not_answer_in_time_is_an_error(
    hub: Hub, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "0.1")
    hub.delay = 0.6
    with pytest.raises(HubError, match="could not be reached"):
        read(config, online=True)


@pytest.mark.usefixtures("hub")
def test_a_hub_that_is_not_there_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="could not be reached") as caught:
        models.fetch("some/model")
    assert "HF_ENDPOINT" in (caught.value.hint or "")


def test_offline_mode_forbids_to_ask(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        models.fetch("some/model")
    assert hub.asked == []


@pytest.mark.parametrize("name", ["model", "a/b/c", "../x", "a--b/c", "a/b?x", ""])
def test_a_name_that_cannot_be_an_id_is_never_asked_for(hub: Hub, name: str) -> None:
    with pytest.raises(HubError, match="cannot be a model"):
        models.fetch(name)
    assert hub.asked == []


def test_without_the_option_nothing_is_asked(
    hub: Hub, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories["some/model"] = {"config.json": CONFIG}
    assert main(["estimate", str(config)]) == 2
    assert "--online" in capsys.readouterr().err
    assert hub.asked == []
    assert main(["estimate", str(config), "--online"]) == 0


def test_without_huggingface_hub_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(HubError, match="not installed") as caught:
        models.fetch("some/model")
    assert "memplan[hub]" in (caught.value.hint or "")


def test_reading_a_known_model_does_not_load_huggingface_hub(tmp_path: Path) -> None:
    (tmp_path / "train.yml").write_text("base_model: Qwen/Qwen2.5-0.5B\nmicro_batch_size: 1\n")
    code = (
        "import sys; from memplan.read import read; read('train.yml');"
        "print({'huggingface_hub', 'memplan.hub.online'} & set(sys.modules))"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"
