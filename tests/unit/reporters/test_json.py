from __future__ import annotations

import json
import subprocess
import sys

from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention, Checkpointing
from memplan.reporters import json as reporter
from tests.unit.reporters import samples


def test_an_estimate_has_the_keys_of_the_contract_in_their_order() -> None:
    payload = reporter.estimate(samples.reading(), samples.estimate())
    assert list(payload) == [
        "schema",
        "source",
        "dialect",
        "workload",
        "warnings",
        "findings",
        "device",
        "host",
        "disk",
        "target",
        "verdict",
        "headroom",
    ]
    assert list(payload["device"]) == [
        "peak_allocated",
        "peak_reserved",
        "context",
        "process",
        "low",
        "high",
        "peak_phase",
        "phases",
        "components",
        "gaps",
        "returned",
        "out_of_memory",
    ]
    assert payload["schema"] == "memplan.estimate/1"
    assert payload["device"]["peak_phase"] == "backward"
    assert payload["device"]["components"][0] == {
        "name": "buffer",
        "bytes": 100 * samples.MIB,
        "basis": "exact",
    }
    assert payload["target"] == {
        "name": "2GiB",
        "capacity": 2048 * samples.MIB,
        "usable": 2048 * samples.MIB,
        "calibrated": None,
    }
    assert payload["verdict"] == "does_not_fit"
    assert payload["headroom"] == (2048 - 3261) * samples.MIB


def test_amounts_are_plain_integers_after_a_round_trip() -> None:
    payload = json.loads(reporter.render(reporter.estimate(samples.reading(), samples.estimate())))
    amounts = [payload["headroom"], payload["disk"]["bytes"], payload["host"]["peak"]]
    amounts += payload["device"]["phases"].values()
    assert all(type(amount) is int for amount in amounts)


def test_without_a_target_there_is_no_verdict_and_no_headroom() -> None:
    payload = reporter.estimate(samples.reading(), samples.estimate(target=None))
    assert (payload["target"], payload["verdict"], payload["headroom"]) == (None, None, None)


def test_a_plan_has_the_keys_of_the_contract() -> None:
    payload = reporter.plan(samples.reading(), samples.plan())
    contract = ["schema", "feasible", "harm", "changes", "before", "after", "edits", "alternatives"]
    assert list(payload)[: len(contract)] == contract
    assert payload["changes"] == [
        {
            "field": "rows",
            "before": 4096,
            "after": 1024,
            "harm": "behaviour",
            "reason": "rung 1",
            "saves": 2000 * samples.MIB,
            "slowdown": 1.0,
            "requires": [],
        }
    ]
    assert payload["edits"] == [{"path": "case/train.py", "line": 7, "before": "4096", "after": "1024"}]
    assert payload["before"]["verdict"] == "does_not_fit"
    assert payload["after"]["verdict"] == "fits"


def test_a_check_has_the_keys_of_the_contract() -> None:
    payload = reporter.check(False, samples.FINDINGS)
    assert list(payload) == ["schema", "passed", "findings"]
    assert list(payload["findings"][0]) == ["path", "line", "code", "level", "message", "fix"]
    assert [item["level"] for item in payload["findings"]] == ["error", "warning", "note"]


def test_an_explanation_goes_down_to_tensors_and_origins() -> None:
    payload = reporter.explanation(samples.reading(), samples.estimate(), "activations")
    assert [part["name"] for part in payload["components"]] == ["activations"]
    assert payload["components"][0]["parts"][0]["count"] == 3
    assert payload["origins"]["rows"] == {"how": "written", "path": "case/train.py", "line": 7, "note": None}


def test_nouns_become_the_names_people_write() -> None:
    assert reporter.value(Checkpointing(every=1)) == "full"
    assert reporter.value(Dtype.BF16) == "bf16"
    assert reporter.value(Attention.SDPA) == "sdpa"
    assert type(reporter.value(Bytes(3))) in (int, Bytes)
    declared = reporter.value(samples.WORKLOAD)["model"]
    assert declared["values"] == {"rows": 4096}
    assert declared["tensors"][0]["bytes"] == 4096 * 1024 * 4


def test_json_needs_no_rich() -> None:
    code = (
        "import sys, memplan.reporters.json; print(sorted({'rich', 'typer', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
