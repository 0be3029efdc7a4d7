"""Pictures of several curves: what was predicted and what was measured on one scale."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.domain.errors import InputError
from memplan.reporters.pictures import svg
from memplan.reporters.pictures.curves import Curve, Figure, Mark, draw
from memplan.reporters.pictures.shapes import Area, Dot, Drawing, Line, Text

points = st.lists(
    st.tuples(st.integers(1, 2**24), st.integers(1, 2**45)),
    min_size=1,
    max_size=12,
    unique_by=lambda item: item[0],
).map(sorted)


def figure(*curves: Curve, doubling: bool = True, marks: tuple[Mark, ...] = ()) -> Figure:
    return Figure(
        title="Peak <by> size",
        about="of something & more",
        across="size",
        curves=curves,
        marks=marks,
        doubling=doubling,
        doubling_bytes=doubling,
    )


def within(drawing: Drawing) -> bool:
    """Whether all places lie on the sheet."""
    places = [shape.centre for shape in drawing.shapes if isinstance(shape, Dot)]
    places += [shape.place for shape in drawing.shapes if isinstance(shape, Text)]
    for shape in drawing.shapes:
        if isinstance(shape, Line | Area):
            places += shape.places
    return all(0 <= over <= drawing.width and 0 <= down <= drawing.height for over, down in places)


@given(points, st.booleans())
def test_any_points_lie_on_the_sheet_and_make_well_formed_svg(
    found: list[tuple[int, int]], doubling: bool
) -> None:
    drawing = draw(
        figure(
            Curve(name="predicted", points=tuple(found)),
            Curve(name="measured", points=tuple(found), measured=True, like="predicted"),
            doubling=doubling,
            marks=(Mark(name="limit", bytes=2**33),),
        )
    )
    assert within(drawing)
    root = ElementTree.fromstring(svg.render(drawing))
    assert root[0].text == "Peak <by> size"


@given(points, st.booleans())
def test_what_was_measured_as_predicted_lies_on_the_line_in_its_colour(
    found: list[tuple[int, int]], doubling: bool
) -> None:
    other = Curve(name="other", points=((3, 3),))
    line = Curve(name="predicted", points=tuple(found))
    dots = Curve(name="seen", points=tuple(found), measured=True, like="predicted")
    drawing = draw(figure(other, line, dots, doubling=doubling))
    seen = [shape for shape in drawing.shapes if isinstance(shape, Dot) and shape.title]
    bends = [shape for shape in drawing.shapes if isinstance(shape, Area)][1:]
    assert len(seen) == len(found)
    for dot, bend in zip(seen, bends, strict=True):
        (left, top), (right, bottom) = bend.places[0], bend.places[2]
        assert dot.centre == pytest.approx(((left + right) / 2, (top + bottom) / 2))
        assert dot.fill == bend.fill
    assert {dot.fill for dot in seen} != {next(s for s in drawing.shapes if isinstance(s, Area)).fill}


@given(points)
def test_more_bytes_are_never_drawn_lower(found: list[tuple[int, int]]) -> None:
    drawing = draw(figure(Curve(name="seen", points=tuple(found), measured=True)))
    downs = [shape.centre[1] for shape in drawing.shapes if isinstance(shape, Dot) and shape.title]
    ordered = sorted(zip((down for _, down in found), downs, strict=True))
    assert [down for _, down in ordered] == sorted(downs, reverse=True)


def test_a_limit_is_a_dashed_line_with_its_name() -> None:
    drawing = draw(
        figure(Curve(name="a", points=((1, 2**20), (2, 2**22))), marks=(Mark(name="cap", bytes=2**21),))
    )
    assert "cap" in [shape.words for shape in drawing.shapes if isinstance(shape, Text)]
    assert sum(shape.dash is not None for shape in drawing.shapes if isinstance(shape, Line)) == 1


def test_even_scales_begin_at_nothing_and_go_in_round_steps() -> None:
    drawing = draw(figure(Curve(name="a", points=((1, 3 * 2**20), (24, 25 * 2**20))), doubling=False))
    words = [shape.words for shape in drawing.shapes if isinstance(shape, Text)]
    assert ["0 B", "4 MiB", "8 MiB"] == [word for word in words if word in ("0 B", "4 MiB", "8 MiB")]
    assert [word for word in words if word in ("0", "5", "10", "25")] == ["0", "5", "10", "25"]


@pytest.mark.parametrize("curves", [(), (Curve(name="a", points=()),)])
def test_nothing_is_not_drawn(curves: tuple[Curve, ...]) -> None:
    with pytest.raises(InputError, match="nothing to draw"):
        draw(figure(*curves))


@pytest.mark.parametrize("point", [(0, 5), (5, 0), (-1, 5)])
def test_powers_of_two_do_not_reach_nothing(point: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="powers of two"):
        draw(figure(Curve(name="a", points=(point,))))


def test_a_long_line_under_the_title_goes_on_below() -> None:
    drawn = Figure(
        title="Peak", about="memory " * 40, across="size", curves=(Curve(name="a", points=((1, 1),)),)
    )
    drawing = draw(drawn)
    lines = [shape for shape in drawing.shapes if isinstance(shape, Text) and "memory" in shape.words]
    assert len(lines) == 3
    assert len({line.place[1] for line in lines}) == 3
    assert " ".join(line.words for line in lines) == ("memory " * 40).strip()
    assert within(drawing)
