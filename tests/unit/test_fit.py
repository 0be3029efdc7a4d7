"""Plans: what is chosen, what is refused, what is said when nothing fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import pytest

from memplan import profiles
from memplan.dialects.reading import Reading
from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError, UnknownNameError
from memplan.domain.estimate import Estimate, Verdict
from memplan.domain.harm import Harm
from memplan.domain.plan import Plan
from memplan.domain.target import Target
from memplan.domain.workload import Adapter, Attention, Checkpointing, Task, Workload
from memplan.fit import fit
from memplan.read import read
from tests.planning import CONFIG, CONTEXT, MIB, UNCOUNTED, Counter, estimate, reading, target, workload

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NEUROGEN = EXAMPLES / "neurogen"
UNKNOWN = CONFIG.replace(
    "llama}",
    "unheard_of, hidden_size: 512, intermediate_size: 1024, num_hidden_layers: 2, "
    "num_attention_heads: 8, vocab_size: 32000}",
)
"""A model type that nobody knows."""

PAIRS = """\
model_name_or_path: HuggingFaceTB/SmolLM2-135M
loss_type: sigmoid
beta: 0.1
max_length: 1024
per_device_train_batch_size: 1
dataset_name: trl-lib/ultrafeedback_binarized
"""
"""Preference training, one pair of completions at a time."""

PEAK = estimate(workload()).device.process
FLOOR = estimate(
    workload(micro=1, accumulation=16).changed("checkpointing", Checkpointing(every=1))
).device.process


def planned(mib: int, what: Workload | None = None, *, keep: Sequence[str] = (), **options: object) -> Plan:
    kept = (*keep, *UNCOUNTED)
    return fit(reading(what), target(mib), estimator=estimate, keep=kept, **options)  # type: ignore[arg-type]


def mib(amount: int) -> int:
    return -(-amount // MIB)


def changed(plan: Plan) -> dict[str, object]:
    return {change.field: change.after for change in plan.changes}


def test_a_config_that_fits_is_left_alone() -> None:
    plan = planned(mib(PEAK))
    assert plan.feasible
    assert plan.changes == ()
    assert plan.edits == ()
    assert plan.slowdown == 1.0
    assert plan.files == {"train.yaml": reading().files["train.yaml"]}


def test_a_margin_can_make_a_config_that_fits_too_large() -> None:
    assert planned(mib(PEAK), margin="1%").changes
    assert planned(mib(PEAK), margin="200MiB").margin == 200 * MIB


def test_the_margin_is_kept_free_of_the_limit() -> None:
    plan = planned(mib(PEAK), margin="30%")
    assert plan.feasible
    assert plan.after.device.high + plan.margin <= mib(PEAK) * MIB
    assert plan.margin == -(-mib(PEAK) * MIB * 30 // 100)


@pytest.mark.parametrize("text", ["ten", "10", "100%", "-5%", "1e2%", "200GiB", "%", "10 %%", ""])
def test_a_margin_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(FieldError):
        planned(4096, margin=text)


def test_the_config_gives_the_margin_unless_the_caller_does() -> None:
    asked = replace(reading(), margin="25%")
    assert fit(asked, target(8000), estimator=estimate).margin == 2000 * MIB
    assert fit(asked, target(8000), margin="0%", estimator=estimate).margin == 0


def test_an_exact_plan_keeps_the_global_batch() -> None:
    plan = planned(mib(PEAK) // 2)
    after = plan.after.workload.batch
    assert plan.feasible
    assert plan.harm is Harm.EXACT
    assert after.micro * after.accumulation == 16


def test_a_smaller_micro_batch_is_preferred_to_the_slower_recomputation() -> None:
    plan = planned(mib(PEAK) * 2 // 3)
    assert changed(plan) == {"batch.micro": 4, "batch.accumulation": 4}


def test_where_another_micro_batch_is_another_experiment_it_needs_permission_and_says_why() -> None:
    harmful = replace(
        reading(), batch_harm=Harm.BEHAVIOUR, batch_reason="experts are balanced per micro-batch"
    )
    kept = fit(harmful, target(2200), estimator=estimate)
    assert "batch.micro" not in changed(kept)
    permitted = fit(harmful, target(2200), estimator=estimate, allow=Harm.BEHAVIOUR, keep=("checkpointing",))
    moved = next(change for change in permitted.changes if change.field == "batch.micro")
    assert moved.harm is Harm.BEHAVIOUR
    assert moved.reason.endswith("experts are balanced per micro-batch")


def test_both_levers_are_pulled_when_one_is_not_enough() -> None:
    plan = planned(mib(FLOOR) + 1)
    assert plan.feasible
    assert changed(plan) == {
        "batch.micro": 1,
        "batch.accumulation": 16,
        "checkpointing": Checkpointing(every=1),
    }


def test_attention_that_stores_scores_is_replaced_before_anything_slower() -> None:
    eager = workload().changed("attention", Attention.EAGER)
    plan = planned(mib(PEAK), eager)
    assert changed(plan) == {"attention": Attention.SDPA}
    assert plan.slowdown < 1


def test_savings_add_up_to_the_whole() -> None:
    plan = planned(mib(FLOOR) + 1)
    assert (
        sum(change.saves or 0 for change in plan.changes)
        == plan.before.device.process - plan.after.device.process
    )


def test_a_plan_carries_the_edits_of_its_config() -> None:
    plan = planned(mib(PEAK) * 2 // 3)
    assert [(edit.before, edit.after) for edit in plan.edits] == [("8", "4"), ("2", "4")]
    assert plan.advice == ()


def test_kept_fields_are_not_touched() -> None:
    plan = planned(mib(PEAK) - 10, keep=["batch.micro"])
    assert plan.feasible
    assert set(changed(plan)) == {"checkpointing"}


@pytest.mark.parametrize("name", ["batch", "batch.accumulation"])
def test_a_section_or_a_part_of_a_lever_can_be_kept(name: str) -> None:
    assert set(changed(planned(mib(PEAK) - 10, keep=[name]))) == {"checkpointing"}


def test_a_part_of_a_changed_value_can_be_kept() -> None:
    plan = planned(mib(FLOOR), keep=["checkpointing.every", "batch"], allow=Harm.BEHAVIOUR)
    assert "checkpointing" not in changed(plan)


def test_an_unknown_field_to_keep_is_an_error_with_the_nearest_names() -> None:
    with pytest.raises(UnknownNameError, match=r"batch\.micro"):
        planned(4096, keep=["batch.mirco"])


def test_when_nothing_fits_the_closest_plan_says_what_blocks() -> None:
    plan = planned(300)
    assert not plan.feasible
    assert plan.after.device.process == FLOOR
    assert plan.blocking == "logits_and_loss"
    assert plan.harm is Harm.EXACT


def test_the_closest_plan_has_no_change_that_saves_nothing() -> None:
    plan = planned(300, workload(micro=1, accumulation=16).changed("checkpointing", Checkpointing(every=1)))
    assert plan.changes == ()
    assert not plan.feasible


def test_an_offer_says_that_more_harm_would_fit() -> None:
    lora = workload(micro=1, accumulation=16).changed("checkpointing", Checkpointing(every=1))
    small = estimate(lora.changed("adapter", Adapter())).device.process
    plan = planned(mib(small) + 2, keep=["sequence"])
    assert not plan.feasible
    assert plan.offer is not None
    assert plan.offer.startswith("--allow behaviour fits with ")
    assert "adapter none → lora of rank 16" in plan.offer
    assert planned(mib(small) + 2, allow=Harm.BEHAVIOUR).feasible


def test_an_offer_says_by_how_much_even_that_misses() -> None:
    plan = planned(200)
    assert plan.offer is not None
    assert plan.offer.startswith("even --allow behaviour misses by ")


def test_nothing_is_offered_when_everything_was_allowed() -> None:
    assert planned(200, allow=Harm.BEHAVIOUR).offer is None


def test_generation_has_no_levers_yet_and_is_reported_as_it_is() -> None:
    plan = planned(200, workload().changed("task", Task.GENERATE))
    assert not plan.feasible
    assert plan.changes == ()


def test_alternatives_trade_speed_for_headroom() -> None:
    plan = planned(mib(PEAK) - 1)
    highs = [plan.after.device.high, *(other.after.device.high for other in plan.alternatives)]
    assert plan.alternatives
    assert len(plan.alternatives) <= 5
    assert highs == sorted(highs, reverse=True)
    assert len({other.name for other in plan.alternatives}) == len(plan.alternatives)
    assert all("more headroom" in other.trade for other in plan.alternatives)
    freed = [one - other for one, other in pairwise(highs)]
    assert all(amount >= (mib(PEAK) - 1) * MIB // 20 for amount in freed)


def test_a_plan_is_never_called_feasible_while_the_bounds_straddle_the_limit() -> None:
    unsure = Counter(spread=100 * MIB)
    plan = fit(reading(), target(mib(PEAK) + 50), estimator=unsure)
    assert plan.changes
    assert plan.feasible
    assert plan.after.device.high <= (mib(PEAK) + 50) * MIB


def test_hopeless_cases_need_few_estimates() -> None:
    counter = Counter()
    large = reading(workload(micro=5040, accumulation=1, length=4096))
    plan = fit(large, target(200), estimator=counter, keep=UNCOUNTED)
    assert not plan.feasible
    assert len(counter.asked) < 20


def test_the_order_of_estimates_is_the_same_every_time() -> None:
    first, second = Counter(), Counter()
    assert fit(reading(), target(900), estimator=first) == fit(reading(), target(900), estimator=second)
    assert first.asked == second.asked


# Declared models


def gtx1650() -> Target:
    return profiles.target("gtx1650")


def neurogen(**options: object) -> Plan:
    return fit(read(NEUROGEN), gtx1650(), estimator=estimate, **options)  # type: ignore[arg-type]


def test_a_declared_model_takes_the_first_rung_of_the_balanced_profile() -> None:
    plan = neurogen()
    assert plan.feasible
    assert plan.profile == "balanced"
    assert changed(plan) == {"embedding_dim": 768, "output_dim": 8192, "max_seq_length": 256}
    assert plan.after.component("decoder_matrix") == 1_048_576_000
    assert plan.after.component("token_embeddings") == 98_304_000
    assert sum(part.bytes for part in plan.after.device.components) == pytest.approx(2.15e9, rel=0.01)


def test_tunable_values_need_no_permission_and_say_why_they_moved() -> None:
    plan = neurogen()
    assert {change.harm for change in plan.changes} == {Harm.BEHAVIOUR}
    assert all("declared tunable" in change.reason for change in plan.changes)


def test_the_other_profiles_are_the_alternatives() -> None:
    found = {other.name: other for other in neurogen().alternatives}
    values = {name: [change.after for change in other.changes] for name, other in found.items()}
    assert values == {"ultra-conservative": [512, 6144, 128], "aggressive": [1024, 12288, 256]}
    assert all(other.feasible for other in found.values())
    assert "% free" in found["aggressive"].trade


def test_a_profile_can_be_chosen_and_brings_its_margin() -> None:
    plan = neurogen(profile="aggressive")
    assert changed(plan) == {"embedding_dim": 1024, "output_dim": 12288, "max_seq_length": 256}
    assert plan.margin == -(-gtx1650().limit // 4)


def test_an_unknown_profile_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="ultra-conservative, balanced, aggressive"):
        neurogen(profile="balancd")


def test_a_kept_value_does_not_move_although_it_is_tunable() -> None:
    assert set(changed(neurogen(keep=["max_seq_length"]))) == {"embedding_dim", "output_dim"}


def test_values_are_never_raised() -> None:
    start = read(NEUROGEN)
    small = replace(start, workload=start.workload.changed("embedding_dim", 64))
    plan = fit(small, gtx1650(), estimator=estimate)
    assert set(changed(plan)) == {"output_dim", "max_seq_length"}


def test_values_not_declared_tunable_stay() -> None:
    frozen = replace(read(NEUROGEN), tunable=("embedding_dim",))
    plan = fit(frozen, gtx1650(), estimator=estimate)
    assert set(changed(plan)) == {"embedding_dim"}
    assert not plan.feasible
    assert plan.blocking == "decoder_matrix"


def test_without_tunable_values_the_way_out_is_named() -> None:
    plan = fit(replace(read(NEUROGEN), tunable=()), gtx1650(), estimator=estimate)
    assert not plan.feasible
    assert plan.changes == ()
    assert plan.offer is not None
    assert "tunable" in plan.offer


def test_a_declared_model_that_fits_is_left_alone() -> None:
    assert fit(read(NEUROGEN), profiles.target("rtx3090"), estimator=estimate).changes == ()


def test_a_card_without_profiles_borrows_those_of_the_next_smaller_one() -> None:
    plan = fit(read(NEUROGEN), Target.of_amount(Bytes.parse("5GiB")), estimator=estimate)
    assert plan.feasible
    assert all("profile of gtx1650" in change.reason for change in plan.changes)


def test_where_the_chosen_profile_misses_another_that_fits_is_offered() -> None:
    tight = Target.of_amount(Bytes(2_000_000_000 + CONTEXT))
    plan = fit(read(NEUROGEN), tight, profile="aggressive", margin="1%", estimator=estimate)
    assert plan.feasible
    tighter = Target.of_amount(Bytes(1_700_000_000 + CONTEXT))
    plan = fit(read(NEUROGEN), tighter, profile="aggressive", margin="1%", estimator=estimate)
    assert not plan.feasible
    assert plan.blocking is not None


def test_a_reading_without_a_profile_of_its_own_is_planned_without_a_margin() -> None:
    plain: Reading = reading()
    assert fit(plain, profiles.target("gtx1650"), estimator=estimate).margin == 0


# What the config can express


def test_a_plan_that_can_be_written_is_preferred_to_a_faster_one_that_cannot() -> None:
    text = "base_model: x/y\nmicro_batch_size: 1\ngradient_accumulation_steps: 16\n"
    what = workload(micro=1, accumulation=16)
    whole = estimate(what).device.process
    native = fit(reading(what), target(mib(whole) - 1), estimator=estimate)
    axolotl = replace(reading(what, text, "train.yml"), dialect="axolotl")
    plan = fit(axolotl, target(mib(whole) - 1), estimator=estimate)
    assert changed(native) == {"checkpointing": Checkpointing(every=4)}
    assert changed(plan) == {"checkpointing": Checkpointing(every=1)}
    assert plan.advice == ()


def test_where_no_plan_can_be_written_the_best_one_comes_with_advice() -> None:
    text = CONFIG.replace("checkpointing: none", "checkpointing: ${C}").replace("micro: 8", 'micro: "${M}"')
    fixed = reading(text=text)
    plan = fit(fixed, target(mib(PEAK) * 2 // 3), estimator=estimate)
    assert plan.feasible
    assert {advice.field for advice in plan.advice} == {"batch.micro"}


# With the real simulator


def test_a_lora_run_that_is_too_large_is_fitted_exactly_and_stays_itself(tmp_path: Path) -> None:
    from memplan.apply import apply
    from memplan.estimate import estimate as simulate

    path = tmp_path / "config.yml"
    original = (EXAMPLES / "axolotl-lora" / "config.yml").read_bytes()
    path.write_bytes(original)
    rtx3090 = profiles.target("rtx3090")
    plan = fit(read(path), rtx3090)
    assert plan.feasible
    assert plan.harm is Harm.EXACT
    assert plan.before.device.low > rtx3090.limit
    apply(read(path), plan)
    again = read(path).workload
    assert again.batch.micro * again.batch.accumulation == 16
    assert simulate(again, rtx3090).device.high <= rtx3090.limit
    lines = zip(original.splitlines(), path.read_bytes().splitlines(), strict=True)
    assert {old.split(b":")[0] for old, new in lines if old != new} <= {
        b"micro_batch_size",
        b"gradient_accumulation_steps",
        b"gradient_checkpointing",
    }


def test_full_training_of_8b_on_4_gib_is_impossible_and_says_why_after_few_simulations() -> None:
    from memplan.estimate import estimate as simulate

    asked = []

    def counted(what: Workload, where: Target | None) -> Estimate:
        asked.append(what)
        return simulate(what, where)

    with patch("memplan.fit.estimate", counted):
        plan = fit(read(EXAMPLES / "llama-3.1-8b"), gtx1650())
    assert not plan.feasible
    assert plan.blocking == "optimizer_state"
    assert plan.offer is not None
    assert plan.offer.startswith("even --allow behaviour misses by ")
    assert len(asked) <= 16


def test_what_nothing_bounds_is_left_as_it_is_where_the_rest_of_it_fits(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(UNKNOWN, encoding="utf-8")
    run = read(path)
    plan = fit(run, Target.of_amount(Bytes(2**40)))
    assert (plan.feasible, plan.changes, plan.offer) == (False, (), None)
    assert plan.after.verdict is Verdict.UNDECIDED
    tight = Target.of_amount(Bytes(plan.before.device.high // 2))
    assert fit(run, tight, brief=True).changes


def test_what_no_framework_runs_is_in_no_plan(tmp_path: Path) -> None:
    path = tmp_path / "dpo.yaml"
    path.write_text(PAIRS, encoding="utf-8")
    run = read(path)
    keep = ("checkpointing", "loss", "kernels", "optimizer", "allocator", "activation_offload", "attention")
    needed = fit(run, Target.of_amount(Bytes(2**40))).before.device
    plan = fit(run, Target.of_amount(Bytes(needed.peak_allocated)), keep=keep, brief=True)
    assert not plan.feasible
    assert "batch.micro" not in changed(plan)
