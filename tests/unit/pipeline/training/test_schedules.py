import copy
from collections.abc import Iterator, Sequence
from math import cos, pi
from typing import Any

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from pneumoseg.pipeline.core.config import OptimizationConfig
from pneumoseg.pipeline.training.schedules import Schedule, rate_share

SCHEDULES = ["cosine", "one-cycle", "warm-restarts", "plateau", "constant"]
STEPS, EPOCHS = 10, 6
DICES = [0.5, 0.4, 0.4, 0.6, 0.5, 0.5]


def make(schedule: str, **values: Any) -> tuple[SGD, Schedule]:
    config = OptimizationConfig(
        **{"schedule": schedule, "learning_rate": 1.0, "plateau_patience": 1, "cycles": 2, **values}
    )
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    return optimizer, Schedule(config, optimizer, steps=STEPS, epochs=EPOCHS)


def go(
    optimizer: Optimizer,
    schedule: Schedule,
    *,
    start: int = 0,
    stop: int = STEPS * EPOCHS,
    dices: Sequence[float] = DICES,
) -> Iterator[float]:
    """The rate that each step uses; the Dice of each epoch is told at its end."""
    for step in range(start, stop):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.after_step()
        if (step + 1) % STEPS == 0:
            schedule.after_epoch(dices[step // STEPS], predict_nothing=0)


def rates(schedule: str, dices: Sequence[float] = DICES, **values: Any) -> list[float]:
    return list(go(*make(schedule, **values), dices=dices))


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle", "warm-restarts", "constant"])
def test_in_a_run_that_has_become_longer_the_rate_is_that_of_its_new_length(schedule: str) -> None:
    stop = STEPS * EPOCHS
    optimizer, short = make(schedule)
    list(go(optimizer, short, stop=stop))
    config = OptimizationConfig(schedule=schedule, learning_rate=1.0, cycles=2)  # type: ignore[arg-type]
    resumed = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    longer = Schedule(config, resumed, steps=STEPS, epochs=2 * EPOCHS)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    longer.load_state_dict(copy.deepcopy(short.state_dict()))
    found = list(go(resumed, longer, start=stop, stop=2 * stop, dices=2 * DICES))
    warmup = round(config.warmup_epochs * STEPS)
    assert found == [
        rate_share(config, step, total=2 * stop, warmup=warmup) for step in range(stop, 2 * stop)
    ]


# --- each course


@pytest.mark.parametrize("schedule", ["cosine", "warm-restarts", "constant"])
def test_the_rate_rises_in_even_steps_to_its_highest_in_the_warm_up(schedule: str) -> None:
    expected = [step / 10 for step in range(1, 11)]
    assert rates(schedule, warmup_epochs=1)[:10] == pytest.approx(expected)


def test_a_warm_up_may_be_a_part_of_an_epoch() -> None:
    assert rates("constant", warmup_epochs=0.5)[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


@pytest.mark.parametrize("schedule", ["cosine", "warm-restarts", "plateau", "constant"])
def test_without_a_warm_up_the_first_step_has_the_whole_rate(schedule: str) -> None:
    assert rates(schedule, warmup_epochs=0)[0] == 1


def test_a_constant_rate_stays() -> None:
    assert set(rates("constant", warmup_epochs=0)) == {1.0}


def test_the_rate_is_a_share_of_the_one_that_is_configured() -> None:
    assert rates("constant", warmup_epochs=0, learning_rate=0.25)[7] == 0.25


def test_a_cosine_is_that_of_torch() -> None:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    cosine = CosineAnnealingLR(optimizer, T_max=STEPS * EPOCHS, eta_min=0.01)
    expected = []
    for _ in range(STEPS * EPOCHS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
    assert rates("cosine", warmup_epochs=0) == pytest.approx(expected)


def test_a_cosine_begins_after_the_warm_up_and_ends_at_a_hundredth() -> None:
    config = OptimizationConfig(schedule="cosine")
    at = [rate_share(config, step, total=60, warmup=10) for step in (10, 35, 60)]
    assert at == pytest.approx([1, (1 + 0.01) / 2, 0.01])


@pytest.mark.parametrize(("rise", "peak"), [(0.3, 18), (0.5, 30)])
def test_one_cycle_has_its_peak_where_it_is_told(rise: float, peak: int) -> None:
    found = rates("one-cycle", cycle_rise=rise)
    assert found[peak] == 1
    assert max(found[:peak] + found[peak + 1 :]) < 1
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)


def test_one_cycle_rises_and_falls_along_cosines_between_a_hundredth_and_one() -> None:
    found = rates("one-cycle", cycle_rise=0.5)
    assert found[0] == pytest.approx(0.01)
    assert found[15] == found[45] == pytest.approx((1 + 0.01) / 2)  # halfway up and halfway down
    assert found[10] == pytest.approx(0.01 + 0.99 * (1 - cos(pi / 3)) / 2)


def test_one_cycle_rises_at_least_over_the_warm_up() -> None:
    assert rates("one-cycle", cycle_rise=0.0, warmup_epochs=2).index(1.0) == 20


def test_warm_restarts_go_back_to_the_whole_rate_at_each_cycle() -> None:
    found = rates("warm-restarts", warmup_epochs=0, cycles=3)
    assert [found[step] for step in (0, 20, 40)] == [1, 1, 1]
    # Loshchilov and Hutter 2017, equation 5, with cycles of 20 steps
    assert found[19] == pytest.approx(0.01 + 0.99 * (1 + cos(pi * 19 / 20)) / 2)
    assert found[:20] == pytest.approx(found[20:40])


def test_warm_restarts_share_what_the_warm_up_leaves() -> None:
    found = rates("warm-restarts", warmup_epochs=1, cycles=2)
    assert [step for step, rate in enumerate(found) if rate == 1] == [9, 10, 35]


@pytest.mark.parametrize("cycles", range(1, 12))
def test_no_cycle_begins_late_by_a_rounding(cycles: int) -> None:
    config = OptimizationConfig(schedule="warm-restarts", cycles=cycles)
    for length in range(1, 120):
        starts = [cycle * length for cycle in range(cycles)]
        assert {rate_share(config, step, total=cycles * length, warmup=0) for step in starts} == {1.0}


def test_a_warm_restart_does_not_come_with_the_last_step() -> None:
    config = OptimizationConfig(schedule="warm-restarts", cycles=2)
    assert rate_share(config, 60, total=60, warmup=0) == pytest.approx(0.01)


def test_a_plateau_falls_when_patience_is_at_its_end() -> None:
    # patience 1: the second epoch in a row that is not better lets it fall
    dices = [0.5, 0.4, 0.4, 0.4, 0.6, 0.5]
    found = rates("plateau", dices, warmup_epochs=0, plateau_factor=0.1)
    assert found[::STEPS] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1])


def test_a_plateau_that_rises_keeps_its_rate() -> None:
    dices = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert set(rates("plateau", dices, warmup_epochs=0)) == {1.0}


def test_a_plateau_has_a_warm_up_from_a_hundredth() -> None:
    found = rates("plateau", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], warmup_epochs=1)
    assert found[:11] == pytest.approx([0.01 + 0.99 * step / 10 for step in range(11)])
    assert found[11:] == pytest.approx([1.0] * 49)


def test_only_a_plateau_looks_at_the_dice() -> None:
    for schedule in SCHEDULES:
        differ = rates(schedule, [0.5] * 6) != rates(schedule, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
        assert differ is (schedule == "plateau")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_step_has_a_rate_of_zero_or_above_the_highest(schedule: str) -> None:
    assert 0 < min(rates(schedule)) <= max(rates(schedule)) <= 1 + 1e-12


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_warm_up_that_is_longer_than_the_run_does_no_harm(schedule: str) -> None:
    found = rates(schedule, warmup_epochs=EPOCHS + 4)
    assert found[:20] == sorted(found[:20])


# --- going on


@pytest.mark.parametrize("cut", [0, 1, 9, 10, 11, 29, 30, 45, 59])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_that_goes_on_has_the_rates_of_one_that_never_stopped(schedule: str, cut: int) -> None:
    whole = rates(schedule, warmup_epochs=1.5)
    optimizer, moved = make(schedule, warmup_epochs=1.5)
    before = list(go(optimizer, moved, stop=cut))
    saved = copy.deepcopy((optimizer.state_dict(), moved.state_dict()))
    optimizer, moved = make(schedule, warmup_epochs=1.5)
    optimizer.load_state_dict(saved[0])
    moved.load_state_dict(saved[1])
    assert before + list(go(optimizer, moved, start=cut)) == whole


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_its_state_needs_no_code_to_be_read(schedule: str, tmp_path: Any) -> None:
    optimizer, moved = make(schedule)
    list(go(optimizer, moved, stop=25))
    torch.save(moved.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == moved.state_dict()


def test_ties_with_predicting_nothing_are_no_plateau() -> None:
    optimizer, schedule = make("plateau", warmup_epochs=0)  # which waits for one epoch
    for _ in range(10):
        schedule.after_epoch(0.75, predict_nothing=0.75)
    assert optimizer.param_groups[0]["lr"] == 1
    for dice in (0.8, 0.75, 0.75):
        schedule.after_epoch(dice, predict_nothing=0.75)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.3)
