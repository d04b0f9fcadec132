import copy

import pytest
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from pneumoseg.pipeline.training.averaging import EpochAverage, RunningAverage, average_weights


class Numbers(nn.Module):
    """A weight, a buffer that is averaged like it, and a counter."""

    mean: Tensor
    seen: Tensor

    def __init__(self, value: float = 0.0, seen: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2))
        self.register_buffer("mean", torch.empty(2))
        self.register_buffer("seen", torch.empty((), dtype=torch.int64))
        self.set(value, seen)

    def set(self, value: float, seen: int = 0) -> "Numbers":
        with torch.no_grad():
            self.weight.copy_(torch.tensor([value, -value]))
            self.mean.copy_(torch.tensor([10 * value, 0.0]))
            self.seen.fill_(seen)
        return self


def followed(decay: float, values: list[float]) -> Numbers:
    """The running average of a network that had these values after its steps."""
    network = Numbers(100.0)
    average = RunningAverage(network, decay)
    for step, value in enumerate(values):
        network.set(value, seen=step)
        average.update()
    return average.module


# --- the running average


def test_the_first_step_takes_the_place_of_the_random_start() -> None:
    assert followed(0.999, [3.0]).weight.tolist() == [3.0, -3.0]


def test_the_average_is_short_at_first() -> None:
    # the n-th further step keeps (1 + n) / (10 + n): 2/11 of 1, then 3/12 of what is there
    second = 2 / 11 * 1 + 9 / 11 * 2
    third = 3 / 12 * second + 9 / 12 * 5
    assert followed(0.999, [1.0, 2.0]).weight[0].item() == pytest.approx(second)
    assert followed(0.999, [1.0, 2.0, 5.0]).weight[0].item() == pytest.approx(third)


def test_the_average_is_never_longer_than_its_decay() -> None:
    # (1 + n) / (10 + n) reaches 0.5 at n = 8; after that it is an exponential average with decay 0.5
    expected = 0.25 * 1 + 0.25 * 3 + 0.5 * 7
    assert followed(0.5, [1.0] * 9 + [3.0, 7.0]).weight[0].item() == pytest.approx(expected)


def test_a_long_run_is_averaged_as_the_formula_says() -> None:
    values = [float(value) for value in torch.randn(300, generator=torch.Generator().manual_seed(0))]
    expected = values[0]
    for count, value in enumerate(values[1:], start=1):
        kept = min(0.9, (1 + count) / (10 + count))
        expected = kept * expected + (1 - kept) * value
    assert followed(0.9, values).weight[0].item() == pytest.approx(expected, abs=1e-5)


def test_running_means_of_a_normalization_are_averaged_and_its_counter_is_copied() -> None:
    average = followed(0.999, [1.0, 2.0])
    assert average.mean[0].item() == pytest.approx(10 * (2 / 11 * 1 + 9 / 11 * 2))
    assert average.seen.item() == 1


def test_the_network_itself_is_left_as_it_is() -> None:
    network = Numbers(1.0)
    average = RunningAverage(network, 0.9)
    average.update()
    network.set(2.0, seen=4)
    average.update()
    assert (network.weight.tolist(), network.mean.tolist(), network.seen.item()) == ([2, -2], [20, 0], 4)


def test_a_resumed_running_average_is_that_of_a_run_that_never_stopped() -> None:
    network = Numbers()
    average = RunningAverage(network, 0.9)
    for value in (1.0, 2.0, 5.0):
        network.set(value)
        average.update()
    network = Numbers()
    again = RunningAverage(network, 0.9)
    again.load_state_dict(copy.deepcopy(average.state_dict()))
    network.set(-4.0)
    again.update()
    assert torch.equal(again.module.weight, followed(0.9, [1.0, 2.0, 5.0, -4.0]).weight)


def test_a_real_normalization_can_be_averaged() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    average = RunningAverage(network, 0.999)
    for _ in range(3):
        network(torch.rand(2, 1, 8, 8))
        average.update()
    averaged = average.module.state_dict()
    assert averaged["1.num_batches_tracked"].item() == 3
    assert averaged["1.running_mean"].dtype == torch.float32


# --- over epochs


def test_the_average_over_epochs_is_their_mean() -> None:
    network = Numbers()
    average = EpochAverage(network, share_epochs=3, last_epoch=3)
    for value in (1.0, 2.0, 6.0):
        network.set(value, seen=int(value))
        average.add()
    assert average.module.weight.tolist() == pytest.approx([3.0, -3.0])
    assert average.module.mean.tolist() == pytest.approx([30.0, 0.0])
    assert average.module.seen.item() == 6


def test_it_knows_over_how_many_epochs_it_is() -> None:
    average = EpochAverage(Numbers(), share_epochs=2, last_epoch=2)
    assert average.count == 0
    average.add()
    average.add()
    assert average.count == 2


def test_the_last_epochs_of_a_run_are_averaged() -> None:
    network = Numbers()
    average = EpochAverage(network, share_epochs=1.5, last_epoch=4)
    engine = Engine(lambda _, __: None)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: network.set(float(engine.state.epoch)))
    average.attach(engine)
    engine.run([0], max_epochs=4)
    assert (average.count, average.module.weight[0].item()) == (2, 3.5)


def test_the_average_over_epochs_starts_again_only_in_a_run_that_has_become_longer() -> None:
    average = EpochAverage(Numbers(3.0), share_epochs=2, last_epoch=4)
    average.add()
    for last_epoch, epochs in ((4, 1), (6, 0)):
        resumed = EpochAverage(Numbers(), share_epochs=2, last_epoch=last_epoch)
        resumed.load_state_dict(copy.deepcopy(average.state_dict()))
        assert resumed.count == epochs


# --- over files


def test_the_mean_of_weights_is_taken_tensor_by_tensor() -> None:
    members = [Numbers(value, seen=seen).state_dict() for value, seen in ((1.0, 7), (2.0, 8), (6.0, 9))]
    mean = average_weights(members)
    assert mean["weight"].tolist() == pytest.approx([3.0, -3.0])
    assert mean["mean"].tolist() == pytest.approx([30.0, 0.0])
    assert mean["seen"].item() == 7
    assert mean["seen"].dtype == torch.int64


def test_the_mean_is_computed_in_float64() -> None:
    # in float32, 1e8 + 1 is 1e8
    members = [{"w": torch.tensor([value])} for value in (1e8, 1.0, -1e8)]
    mean = average_weights(members)["w"]
    assert mean.item() == pytest.approx(1 / 3)
    assert mean.dtype == torch.float32


def test_weights_may_come_one_after_the_other() -> None:
    assert average_weights({"w": torch.tensor([value])} for value in (1.0, 3.0))["w"].item() == 2


def test_the_mean_shares_no_memory_with_its_members() -> None:
    member = Numbers(1.0, seen=3).state_dict()
    for value in average_weights([member]).values():
        value.zero_()
    assert member["weight"].tolist() == [1, -1]
    assert member["seen"].item() == 3
