from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumoseg.pipeline.dataset.sampling import BatchPlan, DrawPlan


def plan(
    positives: int = 6,
    negatives: int = 14,
    *,
    rate: float | None = 0.5,
    batch_size: int = 4,
    seed: int = 0,
    **run: Any,
) -> DrawPlan:
    flags = [True] * positives + [False] * negatives
    return DrawPlan(positive=flags, positive_rate=rate, batch_size=batch_size, seed=seed, **run)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.25, 0.5, 0.8, 1.0])
def test_the_share_of_positives_in_an_epoch_is_exact(rate: float) -> None:
    drawn = plan(rate=rate).epoch(0)
    assert (drawn < 6).sum() == round(rate * 20)


def test_an_epoch_has_as_many_draws_as_cases_in_whole_batches() -> None:
    assert plan(6, 15).epoch(0).shape == (5, 4)


def test_fewer_cases_than_a_batch_still_make_a_step() -> None:
    assert plan(1, 1, batch_size=8).epoch(0).shape == (1, 8)


def test_without_a_rate_each_case_is_drawn_once() -> None:
    assert sorted(plan(rate=None).epoch(3).ravel().tolist()) == list(range(20))


@given(
    positives=st.integers(1, 12),
    negatives=st.integers(1, 30),
    rate=st.floats(0, 1),
    epoch=st.integers(0, 100),
)
@settings(deadline=None, max_examples=50)
def test_no_case_of_a_kind_comes_again_before_all_of_that_kind_have_come(
    positives: int, negatives: int, rate: float, epoch: int
) -> None:
    counts = Counter(plan(positives, negatives, rate=rate, batch_size=2).epoch(epoch).ravel().tolist())
    for kind in (range(positives), range(positives, positives + negatives)):
        times = [counts[index] for index in kind]
        assert max(times) - min(times) <= 1


@pytest.mark.parametrize(("positives", "negatives"), [(0, 8), (8, 0)])
def test_cases_of_one_kind_only_are_all_drawn(positives: int, negatives: int) -> None:
    assert sorted(plan(positives, negatives).epoch(0).ravel().tolist()) == list(range(8))


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    np.testing.assert_array_equal(plan(seed=5).epoch(7), plan(seed=5).epoch(7))


def test_epochs_and_seeds_differ() -> None:
    draws = {plan(seed=seed).epoch(epoch).tobytes() for seed in range(3) for epoch in range(3)}
    assert len(draws) == 9


def test_positives_are_spread_over_the_batches() -> None:
    drawn = plan(50, 150, batch_size=10).epoch(0)
    per_batch = (drawn < 50).sum(axis=1)
    assert per_batch.max() < 10
    assert per_batch.min() > 0


def test_augmentation_seeds_differ_between_draws_epochs_and_runs() -> None:
    seeds = {
        plan(seed=seed).augmentation_seed(epoch, position)
        for seed in range(3) for epoch in range(10) for position in range(100)
    }  # fmt: skip
    assert len(seeds) == 3000


def test_the_batches_of_a_run_are_those_of_its_epochs_in_order() -> None:
    batches = list(BatchPlan(plan(), phases=[0, 0, 1]))
    drawn = np.array([[draw.index for draw in batch] for batch in batches])
    np.testing.assert_array_equal(drawn, np.concatenate([plan().epoch(epoch) for epoch in range(3)]))


def test_each_draw_knows_the_phase_of_its_epoch() -> None:
    batches = BatchPlan(plan(), phases=[0, 0, 1, 2], first_step=9)
    assert [{draw.phase for draw in batch} for batch in batches] == [{0}] + [{1}] * 5 + [{2}] * 5


def test_a_run_says_how_many_steps_are_left() -> None:
    assert len(BatchPlan(plan(), phases=[0, 0, 1])) == 15
    assert len(BatchPlan(plan(), phases=[0, 0, 1], first_step=7)) == 8


@pytest.mark.parametrize("done", [0, 1, 5, 7, 10, 14, 15])
def test_going_on_from_any_step_gives_the_rest_of_the_whole_run(done: int) -> None:
    whole = list(BatchPlan(plan(), phases=[0, 0, 1]))
    assert list(BatchPlan(plan(), phases=[0, 0, 1], first_step=done)) == whole[done:]


def test_iterating_again_gives_the_same_batches() -> None:
    batches = BatchPlan(plan(), phases=[0, 0])
    assert list(islice(batches, 3)) == list(islice(batches, 3))


# --- a share of positives that moves


def test_the_share_of_positives_goes_in_a_straight_line_to_its_last() -> None:
    moving = plan(10, 30, rate=0.8, final_positive_rate=0.2, epochs=5)
    assert [moving.rate(epoch) for epoch in range(5)] == pytest.approx([0.8, 0.65, 0.5, 0.35, 0.2])
    drawn = [int((moving.epoch(epoch) < 10).sum()) for epoch in range(5)]
    assert drawn == [32, 26, 20, 14, 8]  # of 40 draws


def test_without_a_last_share_it_stays() -> None:
    assert {plan(rate=0.8, epochs=5).rate(epoch) for epoch in range(5)} == {0.8}


def test_without_a_first_share_there_is_none() -> None:
    drawn = plan(rate=None, final_positive_rate=0.5, epochs=2).epoch(1)
    assert sorted(drawn.ravel().tolist()) == list(range(20))


def test_a_run_of_one_epoch_has_the_first_share() -> None:
    assert plan(rate=0.8, final_positive_rate=0.2, epochs=1).rate(0) == 0.8


# --- several processes


@pytest.mark.parametrize("processes", [2, 4])
def test_the_shares_of_all_processes_are_the_whole_batch_and_have_nothing_in_common(processes: int) -> None:
    whole = list(BatchPlan(plan(), phases=[0, 1]))
    shares = [list(BatchPlan(plan(), phases=[0, 1], shard=(rank, processes))) for rank in range(processes)]
    for step, batch in enumerate(whole):
        mine = [share[step] for share in shares]
        assert {len(share) for share in mine} == {4 // processes}
        draws = [(draw.index, draw.seed, draw.phase) for share in mine for draw in share]
        assert sorted(draws) == sorted((draw.index, draw.seed, draw.phase) for draw in batch)


def test_a_process_that_goes_on_draws_its_share_of_the_rest() -> None:
    whole = list(BatchPlan(plan(), phases=[0, 1], shard=(1, 2)))
    assert list(BatchPlan(plan(), phases=[0, 1], shard=(1, 2), first_step=7)) == whole[7:]
    assert len(BatchPlan(plan(), phases=[0, 1], shard=(1, 2), first_step=7)) == 3
