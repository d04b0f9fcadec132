import json
import math

import pytest

from benchmarks import comparison
from benchmarks.comparison import Comparison, Timing, describe, relate, take_turns


def test_a_ratio_is_the_peers_cost_by_ours_and_the_limit_its_least_value() -> None:
    line = Comparison("x", ours=0.5, peer=2.0, limit=3.0)
    assert (line.ratio, line.passed) == (4.0, True)
    assert line.fraction == pytest.approx(4 / 3)
    assert Comparison("x", ours=0.5, peer=1.0, limit=3.0).passed is False
    assert Comparison("x", ours=0.5, peer=1.0).passed is None


def test_what_was_not_measured_neither_passes_nor_fails_and_is_null_in_json() -> None:
    line = Comparison.unmeasured("int8", limit=7.0, note="no VNNI")
    assert line.passed is None
    assert json.loads(json.dumps(line.as_json(), allow_nan=False))["ratio"] is None
    assert describe(line) == "int8: not measured (no VNNI)"


def test_sides_take_turns_in_rotated_order_after_one_call_each() -> None:
    calls: list[str] = []
    turns = take_turns({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=2, sample_s=0)  # type: ignore[misc]
    assert "".join(calls) == "aabb" + "ab" + "ba"  # the second of the first calls tells how often to repeat
    assert turns["a"].samples == 2


def test_samples_taken_while_others_used_the_processor_are_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = iter([(1.0, True), (9.0, False), (2.0, True), (9.0, False), (3.0, True)])
    monkeypatch.setattr(comparison, "_sample", lambda call, repeats: next(samples))
    assert take_turns({"a": lambda: None}, rounds=5, sample_s=0)["a"] == Timing(2.0, samples=3, quiet=True)


def test_on_a_busy_machine_all_samples_are_used_and_the_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = iter([(1.0, True), (9.0, False), (2.0, False), (3.0, False)])
    monkeypatch.setattr(comparison, "_sample", lambda call, repeats: next(samples))
    timing = take_turns({"a": lambda: None}, rounds=4, sample_s=0)["a"]
    assert timing == Timing(2.5, samples=4, quiet=False)
    assert describe(relate("x", timing, timing, limit=None)).endswith("machine was busy")


def test_own_work_does_not_count_as_load_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100.0, 100.5])
    monkeypatch.setattr(comparison, "_busy_s", lambda: next(ticks))
    monkeypatch.setattr("os.times", iter([(1.0, 0, 0, 0, 0), (1.25, 0.25, 0, 0, 0)]).__next__)
    assert comparison._sample(lambda: None, 1)[1]


def test_costs_are_described_in_a_fitting_unit() -> None:
    text = describe(Comparison("x", ours=2e-4, peer=0.012, limit=7.0))
    assert text == "x: 200 us against 12 ms, ratio 60.00, limit 7.00, fraction 8.57, passed"
    assert math.isinf(Comparison("lost", ours=0.0, peer=0.005, unit="Dice").ratio)
