"""Reading a file as text: what is kept, what is refused, and where an offset lies."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from memplan.documents import source as source_module
from memplan.documents.source import Source, encode
from memplan.domain.edit import Span
from memplan.domain.errors import FileAccessError


@pytest.mark.parametrize(
    "data",
    [
        b"a: 1\n",
        b"\xef\xbb\xbfa: 1\r\nb: \xe2\x82\xac\r\n",
        b"no final newline",
        b"",
        "mixed\r\nline\rends\n😀".encode(),
    ],
)
def test_a_source_encodes_to_the_bytes_it_was_read_from(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(data)
    source = Source.open(path)
    assert encode(source.text) == data
    assert source.sha256 == hashlib.sha256(data).hexdigest()


def test_the_path_shown_is_the_one_the_user_gave(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("a: 1")
    assert Source.open(path, "./config.yaml").path == "./config.yaml"


def test_a_missing_file_a_directory_and_a_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="does not exist"):
        Source.open(tmp_path / "absent.yaml")
    with pytest.raises(FileAccessError, match="is a directory"):
        Source.open(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileAccessError, match="not a regular file"):
        Source.open(tmp_path / "pipe")


def test_a_loop_of_links_and_an_impossible_path_are_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(FileAccessError, match="symbolic links form a loop"):
        Source.open(tmp_path / "loop")
    with pytest.raises(FileAccessError, match="is not a path"):
        Source.open(Path("a\0b"))
    with pytest.raises(FileAccessError, match="cannot be read"):
        Source.open(tmp_path / ("x" * 5000))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.yaml"
    path.write_text("a: 1")
    path.chmod(0)
    with pytest.raises(FileAccessError, match="permission denied"):
        Source.open(path)


def test_bytes_that_are_not_text_are_located(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes("a: 1\nb: é".encode() + b"\xff\n")
    with pytest.raises(FileAccessError, match="not UTF-8") as caught:
        Source.open(path)
    assert caught.value.location is not None
    assert (caught.value.location.line, caught.value.location.column) == (2, 5)


def test_a_nul_is_located_and_utf_16_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"a: 1\nb\0")
    with pytest.raises(FileAccessError, match="binary") as caught:
        Source.open(path)
    assert caught.value.location is not None
    assert (caught.value.location.line, caught.value.location.column) == (2, 2)
    path.write_bytes("a: 1".encode("utf-16"))
    with pytest.raises(FileAccessError) as caught:
        Source.open(path)
    assert "UTF-16" in (caught.value.hint or "")


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big.yaml"
    path.write_text("a: 12345")
    monkeypatch.setattr(source_module, "LARGEST_FILE", 8)
    assert Source.open(path).text == "a: 12345"
    path.write_text("a: 123456")
    with pytest.raises(FileAccessError, match="larger than"):
        Source.open(path)


@pytest.mark.parametrize(
    ("text", "needle", "line", "column", "shown"),
    [
        ("a: 1\nbb: 2\n", "2", 2, 5, "bb: 2"),
        ("a: 1\r\nbb: 2\r\n", "2", 2, 5, "bb: 2"),
        ("a: 1\rbb: 2\r", "2", 2, 5, "bb: 2"),
        ("\ufeffa: 1\n", "1", 1, 4, "a: 1"),
        ("é: 😀 x\n", "x", 1, 6, "é: 😀 x"),
    ],
)
def test_a_location_counts_lines_and_characters(
    text: str, needle: str, line: int, column: int, shown: str
) -> None:
    source = Source.of(text, "c.yaml")
    at = text.index(needle)
    location = source.location(Span(at, at + 1))
    assert (location.line, location.column, location.text) == (line, column, shown)
    assert source.line(at) == line


def test_the_end_of_a_line_belongs_to_the_line() -> None:
    source = Source.of("a\r\nb")
    assert [source.line(at) for at in range(5)] == [1, 1, 1, 2, 2]


def test_a_place_far_into_a_long_line_is_not_shown() -> None:
    source = Source.of("x" * 5000)
    assert source.location(10).text == "x" * 5000
    assert source.location(3000).text == ""
    assert source.location(3000).column == 3001


def test_a_width_ends_with_the_line() -> None:
    assert Source.of("abc\ndef").location(Span(1, 6)).width == 2
