"""Sweeps as tables, sketches, pictures and rows."""

from __future__ import annotations

import csv
import json as stdlib_json
from collections.abc import Sequence
from functools import cache
from io import BytesIO, StringIO
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from memplan import profiles
from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError, FileAccessError, InputError
from memplan.domain.estimate import Estimate, Verdict
from memplan.domain.target import Target
from memplan.domain.workload import Workload
from memplan.reporters import json, terminal
from memplan.reporters.pictures import check, drawn, html, png, svg, write
from memplan.reporters.pictures.frontier import crossings
from memplan.reporters.pictures.shapes import Drawing, Text
from memplan.reporters.sketches import ASCII, UNICODE, Signs, sketch
from memplan.reporters.views import sweep as view
from memplan.reporters.views import sweep_data
from memplan.sweep import sweep
from memplan.sweep.axes import parse
from memplan.sweep.grid import Sweep
from tests import planning

MIB = 2**20
READING = planning.reading()


@pytest.fixture(autouse=True)
def formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures by a formula: what is tested here is how they look."""

    def estimates(what: Workload, targets: Sequence[Target | None]) -> tuple[Estimate, ...]:
        return tuple(planning.estimate(what, target, spread=200 * MIB) for target in targets)

    monkeypatch.setattr("memplan.sweep.estimates", estimates)


@cache
def swept(*texts: str, gpus: tuple[int, ...] = (6000, 20000)) -> Sweep:
    """A sweep of the planning tests' model, on GPUs of so many MiB."""
    return sweep(READING, parse(READING.workload, texts), [profiles.target(f"{size}MiB") for size in gpus])


@cache
def mapped() -> Sweep:
    return swept("micro_batch=1..16", "sequence=512..4096")


@cache
def curved() -> Sweep:
    return swept("micro_batch=1..16")


def plain(found: Sweep) -> str:
    return terminal.plain(view.report(READING, found, sketch(found, 80, ASCII)))


def test_a_table_of_two_values_has_a_figure_for_every_combination() -> None:
    (table,) = view.crossed(mapped())
    assert table.columns[0] == "micro_batch"
    assert [row[0] for row in table.rows] == ["1", "2", "4", "8", "16"]
    for row, micro in zip(table.rows, mapped().axes[0].settings, strict=True):
        for cell, length in zip(row[1:], mapped().axes[1].settings, strict=True):
            device = mapped().at((micro, length)).estimates[mapped().widest].device
            assert cell.split()[0] == view.figure(device.process, 2**30)


def test_the_longer_axis_goes_down() -> None:
    found = swept("micro_batch=1,2", "sequence=512..4096")
    (table,) = view.crossed(found)
    assert table.columns[0] == "sequence"
    assert len(table.rows) == 4
    assert "sequence downwards, micro_batch across" in plain(found)


def test_columns_that_have_no_room_go_into_another_table() -> None:
    first, second = view.crossed(swept("micro_batch=1..10:1", "sequence=1..10:1"))
    assert [column.strip() for column in (*first.columns[1:], *second.columns[1:])] == [
        str(number) for number in range(1, 11)
    ]


def test_a_figure_is_marked_where_it_does_not_fit() -> None:
    (table,) = view.crossed(swept("micro_batch=1,64", "sequence=512,4096", gpus=(6000,)))
    rows = table.rows
    assert rows[-1][-1].endswith(" ×")
    assert rows[0][1].rstrip().replace(".", "").isdigit()


def test_one_value_gets_a_verdict_for_every_gpu() -> None:
    table = view.listed(curved())
    assert table.columns[:3] == ("micro_batch", "whole process", "bounds")
    assert table.columns[3:] == tuple(target.name for target in curved().targets)
    assert {cell for row in table.rows for cell in row[3:]} <= {"fits", "does not fit", "cannot be decided"}


def test_the_report_says_up_to_where_it_fits_and_what_happens_to_the_batch() -> None:
    text = plain(mapped())
    assert "What fits" in text
    assert "--hold batch.global" in text
    assert "\x1b" not in text


def test_without_a_gpu_there_are_figures_and_no_verdicts() -> None:
    text = plain(swept("micro_batch=1,2", "sequence=512,1024", gpus=()))
    assert "No target" in text
    assert "without the CUDA context" in text
    assert "What fits" not in text


def test_refused_combinations_are_told_once_per_reason() -> None:
    found = sweep(READING, parse(READING.workload, ["micro_batch=3,5,8"]), hold=["batch.global"])
    text = plain(found)
    assert text.count("do not make a global batch of 16") == 2
    assert "refused" in text.lower()


@pytest.mark.parametrize("columns", [20, 40, 80, 300])
@pytest.mark.parametrize("signs", [ASCII, UNICODE], ids=["ascii", "unicode"])
def test_a_sketch_is_no_wider_than_there_is_room(columns: int, signs: Signs) -> None:
    for found in (mapped(), curved(), swept("checkpointing=none,full")):
        picture = sketch(found, columns, signs)
        assert picture is not None
        lines = picture.text.splitlines()[:-1]
        assert max(map(len, lines)) <= max(columns, 40) + 30
        assert signs is UNICODE or picture.text.isascii()


def test_a_sketch_of_two_values_shows_the_smallest_gpu_that_fits() -> None:
    picture = sketch(mapped(), 80, ASCII)
    assert picture is not None
    rows = picture.text.splitlines()[1:6]
    for row, micro in zip(reversed(rows), mapped().axes[0].settings, strict=True):
        cells = row.partition("|")[2].split()
        for sign, length in zip(cells, mapped().axes[1].settings, strict=True):
            point = mapped().at((micro, length))
            fitting = [number for number in (0, 1) if point.verdict(number) is Verdict.FITS]
            expected = ASCII.fills[fitting[0]] if fitting else None
            assert sign[0] == expected if expected else sign[0] in "?."


def test_a_sweep_of_three_values_is_a_table_alone() -> None:
    found = swept("micro_batch=1,2", "sequence=512,1024", "checkpointing=none,full")
    assert sketch(found, 80, ASCII) is None
    assert len(view.listed(found).rows) == 8
    with pytest.raises(FieldError, match="a picture has two axes"):
        check(Path("out.svg"), found.axes)
    check(Path("out.csv"), found.axes)


def test_json_has_every_point_and_the_boundaries() -> None:
    told = stdlib_json.loads(json.render(sweep_data.payload(READING, mapped())))
    assert told["schema"] == "memplan.sweep/1"
    assert [axis["field"] for axis in told["axes"]] == ["batch.micro", "sequence.length"]
    assert len(told["points"]) == 20
    first = told["points"][0]
    assert first["values"] == {"micro_batch": 1, "sequence": 512}
    assert len(first["estimates"]) == len(told["targets"]) == len(told["boundaries"]) == 2
    assert first["estimates"][0]["process"] == int(mapped().points[0].estimates[0].device.process)


def test_csv_has_a_row_for_every_point_and_gpu() -> None:
    rows = list(csv.DictReader(StringIO(sweep_data.table(mapped()))))
    assert len(rows) == 40
    assert {row["gpu"] for row in rows} == {target.name for target in mapped().targets}
    assert all(int(row["low"]) <= int(row["process"]) <= int(row["high"]) for row in rows)


def pictures() -> list[Drawing]:
    return [drawn("train.yml", found) for found in (mapped(), curved(), swept("checkpointing=none,full"))]


def test_svg_is_well_formed_and_says_what_a_pointer_rests_on() -> None:
    for drawing in pictures():
        root = ElementTree.fromstring(svg.render(drawing))
        titles = [item.text or "" for item in root.iter("{http://www.w3.org/2000/svg}title")]
        assert any("fits" in title for title in titles)
        assert drawing.title in titles
        assert not list(root.iter("{http://www.w3.org/2000/svg}script"))


def test_names_that_mean_something_to_xml_are_only_words() -> None:
    drawing = drawn('<script>"&\x07', curved())
    root = ElementTree.fromstring(svg.render(drawing))
    assert root[0].text == '<script>"& : memory over micro_batch'
    page = html.render(drawing, (view.listed(curved()),), ("<b>",))
    assert "<script>" not in page
    assert "<b>" not in page


def test_nothing_is_drawn_outside_the_sheet() -> None:
    for drawing in pictures():
        for shape in drawing.shapes:
            places = getattr(shape, "places", None) or [
                getattr(shape, name) for name in ("place", "centre") if hasattr(shape, name)
            ]
            for over, down in places:
                assert 0 <= over <= drawing.width
                assert 0 <= down <= drawing.height


def test_labels_of_an_axis_do_not_run_into_each_other() -> None:
    drawing = drawn("train.yml", swept("micro_batch=1000000..1000120:8"))
    lowest = max(shape.place[1] for shape in drawing.shapes if isinstance(shape, Text))
    labels = [
        shape.place[0]
        for shape in drawing.shapes
        if isinstance(shape, Text) and shape.place[1] == lowest - 22
    ]
    assert 1 < len(labels) < 15
    assert all(right - left > 40 for left, right in pairwise(labels))


def test_the_frontier_lies_between_the_last_that_fits_and_the_first_that_does_not() -> None:
    for number in (0, 1):
        verdicts = [point.verdict(number) for point in curved().points]
        sure, may = crossings(curved().points, number)
        fitting = verdicts.count(Verdict.FITS)
        possible = fitting + verdicts.count(Verdict.UNDECIDED)
        assert fitting <= sure < fitting + 1
        assert max(sure, possible) <= may < possible + 1


def test_png_is_an_image_of_twice_the_size() -> None:
    pytest.importorskip("PIL", reason="Pillow is not installed")
    from PIL import Image

    drawing = drawn("train.yml", swept("micro_batch=1..16", "sequence=512..1024"))
    image = Image.open(BytesIO(png.render(drawing)))
    assert image.size == (round(drawing.width) * 2, round(drawing.height) * 2)
    assert len(image.getcolors(2**16) or ()) > 100
    assert png.render(drawn("train.yml", curved()))


def test_without_pillow_a_png_is_refused_before_anything_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs Pillow") as caught:
        check(Path("out.png"), curved().axes)
    assert "memplan[plot]" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["out.svg", "out.html", "out.csv", "OUT.SVG"])
def test_a_file_has_the_form_its_name_ends_in(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, "train.yml", mapped())
    start = {"svg": "<svg", "html": "<!DOCTYPE html>", "csv": "micro_batch,"}[name.lower()[4:]]
    assert (tmp_path / name).read_text("utf-8").startswith(start)
    assert [item.name for item in tmp_path.iterdir()] == [name]


def test_a_file_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="cannot be written"):
        write(tmp_path / "nowhere" / "out.svg", "train.yml", curved())
    with pytest.raises(FieldError, match="no form of picture"):
        check(tmp_path / "out.gif", curved().axes)


def test_where_everything_is_refused_there_is_nothing_to_draw() -> None:
    found = sweep(READING, parse(READING.workload, ["micro_batch=3,5"]), hold=["batch.global"])
    with pytest.raises(FieldError, match="nothing to draw"):
        drawn("train.yml", found)
    assert sketch(found, 80, ASCII) is None
    assert "Refused:" in plain(found)


def test_limits_are_in_the_legend() -> None:
    words = [shape.words for shape in drawn("train.yml", mapped()).shapes if isinstance(shape, Text)]
    assert any(Bytes(6000 * MIB).rounded() in text for text in words)
