from __future__ import annotations

from memplan.reporters import markdown
from memplan.reporters.blocks import Heading, Table, Verbatim
from memplan.reporters.views import plan as plan_view
from tests.unit.reporters import samples


def test_a_table_has_a_rule_that_says_how_columns_align() -> None:
    table = Table(columns=("name", "size"), align="<>", rows=(("  a_b", "1|2"),), strong=frozenset({0}))
    assert markdown.render((table,)).splitlines() == [
        "| name | size |",
        "| --- | ---: |",
        "| &nbsp;&nbsp;**a\\_b** | **1\\|2** |",
    ]


def test_headings_cannot_start_other_markup() -> None:
    assert markdown.render((Heading("a\n# b <i>"),)) == "### a \\# b \\<i\\>\n"


def test_a_fence_is_longer_than_any_fence_inside() -> None:
    assert markdown.render((Verbatim("```\nx\n```", "diff"),)) == "````diff\n```\nx\n```\n````\n"


def test_a_plan_has_its_tables() -> None:
    text = markdown.render(plan_view.report(samples.reading(), samples.plan()))
    assert "| activations | 2.93 GiB | 1000 MiB | -67 % |" in text
    assert "### Alternatives" in text
