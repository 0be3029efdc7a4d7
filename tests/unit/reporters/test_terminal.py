from __future__ import annotations

import re

import pytest

from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Gap
from memplan.reporters import terminal
from memplan.reporters.blocks import Bullets, Heading, Report, Table
from memplan.reporters.views import check, explain
from memplan.reporters.views import estimate as estimate_view
from memplan.reporters.views import plan as plan_view
from memplan.reporters.words import change
from tests.unit.reporters import samples

NOT_PLAIN = re.compile("[\x00-\x09\x0b-\x1f\x7f\u2500-\u257f\u2580-\u259f]")

REPORTS: dict[str, Report] = {
    "estimate": estimate_view.report(samples.reading(), samples.estimate()),
    "plan": plan_view.report(samples.reading(), samples.plan()),
    "explain": explain.report(samples.reading(), samples.estimate()),
    "check": check.report(False, samples.FINDINGS, 3),
}


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_plain_text_has_no_escapes_and_no_box_drawing(report: Report) -> None:
    assert NOT_PLAIN.search(terminal.plain(report)) is None


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_plain_text_has_no_trailing_spaces_and_one_final_newline(report: Report) -> None:
    text = terminal.plain(report)
    assert [line for line in text.splitlines() if line != line.rstrip()] == []
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_columns_are_aligned_as_the_table_says() -> None:
    table = Table(columns=("name", "size"), align="<>", rows=(("a", "1 B"), ("longer", "10 B")))
    assert terminal.plain((table,)) == "  name    size\n  a        1 B\n  longer  10 B\n"


def test_a_table_refuses_rows_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        Table(columns=("a",), align="<", rows=(("1", "2"),))


def test_a_pipe_gets_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.render(REPORTS["estimate"]) == terminal.plain(REPORTS["estimate"])


class Screen:
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_screen_gets_colours_unless_the_user_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("sys.stdout", Screen())
    assert "\x1b[" in terminal.render((Heading("fits"),))
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.render((Heading("fits"),)) == "fits\n"


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_a_screen_shows_every_word_that_plain_text_has(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    shown = re.sub("\x1b\\[[0-9;]*m", "", terminal.rich(report))
    missing = [word for word in terminal.plain(report).split() if word not in shown]
    assert missing == []


def test_markup_in_a_path_is_shown_and_not_obeyed() -> None:
    assert "[bold]x[/bold]" in terminal.rich((Bullets(("[bold]x[/bold]",)),))


def test_the_headline_says_what_is_missing_and_of_how_much() -> None:
    first = terminal.plain(REPORTS["estimate"]).splitlines()[0]
    assert first == "case on 2GiB: does not fit (3.18 GiB, 1.18 GiB missing, 59.2 % of 2.00 GiB)"


def test_components_come_largest_first_and_close_the_sum() -> None:
    text = terminal.plain(REPORTS["estimate"])
    assert text.index("activations") < text.index("buffer")
    for line in ("GPU, whole process", "reserved, not allocated", "CUDA context", "host RAM", "disk"):
        assert line in text


def test_an_estimate_without_a_target_gives_no_verdict() -> None:
    text = terminal.plain(estimate_view.report(samples.reading(), samples.estimate(target=None)))
    assert "fit (" not in text
    assert "--gpu" in text


def test_what_is_not_modelled_is_named_with_its_bounds() -> None:
    gap = Gap(reason="sample packing", low=Bytes(0), high=Bytes(300 * samples.MIB))
    text = terminal.plain(estimate_view.report(samples.reading(), samples.estimate(gaps=(gap,))))
    assert "sample packing (up to 300 MiB more)" in text
    assert "needs 3.18 GiB to 3.48 GiB" in text


def test_warnings_of_the_reading_are_shown() -> None:
    found = samples.reading(warnings=("the key is spelled twice",))
    assert "the key is spelled twice" in terminal.plain(estimate_view.report(found, samples.estimate()))


def test_a_plan_shows_changes_before_and_after_edits_advice_and_alternatives() -> None:
    text = terminal.plain(REPORTS["plan"])
    assert "case on 2GiB: fits after 1 change with profile balanced" in text
    assert re.search(r"activations +2.93 GiB +1000 MiB +-67 %", text)
    assert re.search(r"headroom +-59.2 % +38.4 %", text)
    assert "case/train.py:7: 4096 → 1024" in text
    assert "case/loop.py:3: loss: set it in code" in text
    assert re.search(r"smaller +rows 1024 .* 1.50x .* more room, less model", text)


def test_a_plan_of_values_declared_tunable_says_so() -> None:
    words = "in values declared tunable only"
    consented = plan_view.report(samples.reading(tunable=("rows",)), samples.plan())
    assert words in terminal.plain(consented)
    assert words not in terminal.plain(REPORTS["plan"])


def test_a_column_of_the_alternatives_that_says_nothing_new_is_left_out() -> None:
    plan = samples.plan()
    assert plan_view.alternatives(plan.alternatives, plan).columns == (
        "plan",
        "changes",
        "total",
        "headroom",
        "step time",
        "trade",
    )
    same_time = samples.plan(slowdown=1.5)
    assert "step time" not in plan_view.alternatives(plan.alternatives, same_time).columns


def test_an_infeasible_plan_says_what_blocks_and_what_more_consent_would_buy() -> None:
    plan = samples.plan(
        feasible=False, after=samples.estimate(), blocking="activations", offer="LoRA would fit"
    )
    text = terminal.plain(plan_view.report(samples.reading(), plan))
    assert "no allowed change makes it fit" in text
    assert "What blocks: activations, still 2.93 GiB." in text
    assert "LoRA would fit" in text


def test_a_plan_without_changes_says_so() -> None:
    same = samples.estimate(table=1000 * samples.MIB)
    plan = samples.plan(changes=(), edits=(), advice=(), alternatives=(), before=same, after=same)
    text = terminal.plain(plan_view.report(samples.reading(), plan))
    assert text.startswith("case on 2GiB: fits as it is, nothing to change\n")


def test_explain_names_the_tensors_and_where_each_value_comes_from() -> None:
    text = terminal.plain(REPORTS["explain"])
    assert re.search(r"\(4096, 1024\) fp32 +3 +2.93 GiB", text)
    assert re.search(r"rows +4096 +case/train.py:7", text)
    assert re.search(r"batch.micro +1 +default", text)
    assert "assumed (nothing says otherwise)" in text
    assert "Tensors of the forward pass that backward needs" in text


def test_explain_can_be_narrowed_to_one_component() -> None:
    text = terminal.plain(explain.report(samples.reading(), samples.estimate(), "activations"))
    assert "activations" in text
    assert "buffer" not in text


def test_the_gate_lists_findings_with_place_and_remedy() -> None:
    text = terminal.plain(REPORTS["check"])
    assert text.startswith("failed: 3 configs checked, 1 error, 1 warning, 1 note\n")
    assert "case/d e.yml:1: warning MP003: cannot be decided" in text
    assert '  try: set "x" to 1' in text


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (5, 5, "="),
        (0, 5, "new"),
        (10, 5, "-50 %"),
        (10, 99, "+890 %"),
        (10, 100, "10x"),
        (4, 40_000, "10,000x"),
    ],
)
def test_a_change_is_told_in_percent_or_as_a_factor(before: int, after: int, said: str) -> None:
    assert change(before, after) == said
