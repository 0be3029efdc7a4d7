"""Finding the assignment that is meant: suffixes, nearness, ambiguity and broken files."""

from __future__ import annotations

import pytest

from memplan.documents.assignments import find
from memplan.documents.scopes import mentions
from memplan.documents.source import Source
from memplan.domain.errors import AmbiguousKeyError, DocumentError, FieldError

PYTHON = """\
class Small:
    dim: int = 1
class Large:
    dim: int = 2
    depth: int = 3
dim = 4
"""


def value(text: str, key: str, near: str | None = None, path: str = "t.cpp") -> object:
    return find(Source.of(text, path), key, near).node.value


def test_a_key_matches_the_end_of_a_name_when_only_one_ends_so() -> None:
    assert value(PYTHON, "depth", path="t.py") == 3
    assert value(PYTHON, "Large.dim", path="t.py") == 2
    assert value(PYTHON, "dim", path="t.py") == 4, "the whole name goes before the end of one"
    assert value("void f() { a.cfg->n = 3; }", "cfg.n") == 3
    assert value("void f() { a.cfg->n = 3; }", "cfg->n") == 3
    assert value("namespace s { int n = 3; }", "s::n") == 3


def test_several_matches_are_listed_with_their_lines() -> None:
    text = PYTHON.replace("dim = 4\n", "")
    with pytest.raises(AmbiguousKeyError) as caught:
        value(text, "dim", path="t.py")
    assert "t.py:2, t.py:4" in caught.value.message
    assert caught.value.location is not None
    many = "void f() {\n" + "c.n = 1;\n" * 2000 + "}"
    with pytest.raises(AmbiguousKeyError, match=r"2000 times near 'f'.*and 1990 more"):
        value(many, "n", "f")


def test_an_unknown_key_offers_the_nearest() -> None:
    with pytest.raises(FieldError) as caught:
        value(PYTHON, "Large.deph", path="t.py")
    assert "Large.depth" in (caught.value.hint or "")
    with pytest.raises(FieldError) as caught:
        value("void f() { config.num_outputs = 1; }", "num_output")
    assert "config.num_outputs" in (caught.value.hint or "")
    with pytest.raises(FieldError):
        value("", "x", path="t.py")


@pytest.mark.parametrize(
    "text",
    [
        # The comment directly above.
        "void f() {\n  // Wernicke\n  c.n = 1;\n  // Broca\n  c.n = 2;\n  // PFC\n  c.n = 3;\n}",
        # The comment above the paragraph, with other statements between.
        "void f() {\n  // Wernicke\n  c.k = 0;\n  c.n = 1;\n\n  // Broca: speech\n  c.k = 0;\n  c.n = 2;\n}",
        # A comment of several lines, and one with a blank line below.
        "void f() {\n  // Wernicke\n\n  c.n = 1;\n\n  /* Broca\n     speech */\n\n  c.n = 2;\n}",
        # A string in the same paragraph.
        'void f() {\n  c.n = 1;\n  add("Wernicke", c);\n\n  c.n = 2;\n  add("Broca", c);\n\n  c.n = 3;\n}',
        # A string between two comments of one paragraph.
        'void f() {\n  // one\n  c.n = 1;\n  add("W", c);\n  // two\n  c.n = 2;\n  add("Broca", c);\n}',
        # A name in the same block.
        "void f() {\n  { c.n = 1; w = c; }\n  { c.n = 2; makeBroca(c); }\n}",
        # The condition or the case of the block.
        'void f() {\n  if (s == "Wernicke") { c.n = 1; }\n  else if (s == "Broca") { c.n = 2; }\n}',
        "void f() {\n  switch (k) {\n    case W: c.n = 1;\n    case Kind::Broca: c.n = 2;\n  }\n}",
        # The function, its comment, the class, the namespace.
        "void initWernicke() { c.n = 1; }\nvoid initBroca() { c.n = 2; }",
        "// Wernicke\nvoid f() { c.n = 1; }\n\n// Broca\nvoid g() {\n\n  c.n = 2;\n}",
        "struct Wernicke { int n = 1; };\nstruct BrocaArea { int n = 2; };",
        "namespace broca { void f() { c.n = 2; } }\nnamespace pfc { void f() { c.n = 1; } }",
        # The assigned name itself.
        "void f() {\n  wernicke_config.n = 1;\n  broca_config.n = 2;\n}",
        # A nearer mention goes before a farther one.
        'void f() {\n  // Wernicke\n  c.n = 1;\n  link("Broca");\n\n  // Broca\n  c.n = 2;\n}',
    ],
)
def test_near_picks_the_assignment_that_the_word_surrounds(text: str) -> None:
    assert value(text, "n", "Broca") == 2
    assert value(text, "n", "broca") == 2
    assert value(text.replace("\n", "\r\n"), "n", "Broca") == 2


def test_near_works_in_python_too() -> None:
    text = "class A:\n    # encoder\n    dim = 1\nclass B:\n    # decoder side\n    dim = 2\n"
    assert value(text, "dim", "decoder", path="t.py") == 2
    assert value(text, "dim", "A", path="t.py") == 1


def test_near_that_does_not_decide_is_refused() -> None:
    text = "void f() {\n  // Broca in\n  c.n = 1;\n\n  // Broca out\n  c.n = 2;\n}"
    with pytest.raises(AmbiguousKeyError, match=r"2 times near 'Broca': t\.cpp:3, t\.cpp:6"):
        value(text, "n", "Broca")
    with pytest.raises(FieldError, match="stands near 'PFC'"):
        value(text, "n", "PFC")
    with pytest.raises(FieldError, match="stands near 'PFC'"):
        value("void f() { c.n = 1; }", "n", "PFC")


def test_surroundings_come_nearest_first() -> None:
    text = '// file\nvoid outer() {\n  // above\n  c.n = 1;\n  use("text");\n}'
    found = find(Source.of(text, "t.cpp"), "n")
    surroundings = found.surroundings
    assert surroundings.index("// above") < surroundings.index('"text"') < surroundings.index("outer")
    assert found.distance("above") == 0
    assert found.distance("elsewhere") is None


@pytest.mark.parametrize(
    ("text", "word", "expected"),
    [
        ("BrocaModule", "Broca", True),
        ("init_broca(2)", "Broca", True),
        ("// Broca's area", "broca", True),
        ("Brocade", "Broca", False),
        ("HTTPBroca2", "broca2", True),
        ("speech area", "speech area", True),
        ("area of speech", "speech area", False),
        ("a → b", "→", True),
    ],
)
def test_a_mention_is_of_whole_words(text: str, word: str, expected: bool) -> None:
    assert mentions(text, word) is expected


@pytest.mark.parametrize(
    ("path", "text", "line"),
    [
        ("t.cpp", "void f() {\n  c.k = 1;\n  c.n = (2;\n}", 3),
        ("t.cpp", "void f() {\n  c.n = ;\n}", 2),
        ("t.cpp", "int }{ c.n = 2", 1),
        ("t.cpp", "\nint n = 08;", 2),
        ("t.py", "class A:\n    n: int = = 3\n", 2),
        ("t.py", "x = (\nn = 3\n", 1),
        ("t.py", "n = 3 3\n", 1),
    ],
)
def test_an_error_at_the_assignment_is_located(path: str, text: str, line: int) -> None:
    with pytest.raises(DocumentError, match="not well-formed") as caught:
        value(text, "n", path=path)
    assert caught.value.location is not None
    assert caught.value.location.line == line


def test_an_error_elsewhere_does_no_harm_to_what_is_found() -> None:
    assert value("void f() { g(; }\nvoid h() {\n  c.n = 2;\n}", "n") == 2
    assert value("def f(:\n    pass\n\n\nclass A:\n    n = 3\n", "n", path="t.py") == 3


def test_an_error_that_names_the_key_is_not_read_over() -> None:
    text = "void f() { c.n = 2; }\n\nvoid g() { x( other.n 3; }\n"
    with pytest.raises(DocumentError):
        value(text, "n")


def test_other_languages_are_refused() -> None:
    with pytest.raises(DocumentError, match="neither Python nor C"):
        value("n = 1", "n", path="t.toml")


def test_deep_and_long_programs_are_read_without_recursion() -> None:
    for path, text in (
        ("t.cpp", "{" * 20_000),
        ("t.py", "(" * 20_000),
        ("t.cpp", "void f() { " + "a = " * 5_000 + "3; }"),
        ("t.py", "x = " + "[" * 5_000 + "]" * 5_000),
    ):
        with pytest.raises((DocumentError, FieldError)):
            value(text, "n", path=path)
