import numpy as np
import pytest
import torch
from tests.unit.pipeline.inference.networks import Coins, member, predictor, with_head
from torch import Tensor

from pneumoseg.pipeline.inference.monte_carlo import RunningStatistics


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(0))


def fields(image: Tensor, *networks: object, passes: int = 3, **options: object) -> tuple[Tensor, ...]:
    """The first four fields of the prediction: means and standard deviations."""
    found = predictor(*networks, dropout_passes=passes, **options).predict_batch(image)  # type: ignore[arg-type]
    assert found.pixel_std is not None
    assert found.image_std is not None
    return found.probabilities, found.image_probability, found.pixel_std, found.image_std


@torch.no_grad()
@pytest.mark.parametrize("image_head", [False, True])
def test_means_and_standard_deviations_are_those_of_all_samples_at_once(
    image: Tensor, image_head: bool
) -> None:
    network = member(image_head=image_head)
    found = fields(image, network, passes=6)
    network.train()
    maps, heads = [], []
    for alone in (image[:1], image[1:]):  # each image has the same random numbers
        torch.manual_seed(0)
        outputs = [network.forward_for_training(alone) for _ in range(6)]
        maps.append(torch.stack([torch.sigmoid(each.logits) for each in outputs]))
        heads.append(
            [float(torch.sigmoid(each.image_logits)) for each in outputs if each.image_logits is not None]
        )
    samples = torch.cat(maps, dim=1).numpy()
    of_images = np.array(heads).T if image_head else samples.reshape(6, 2, -1).max(axis=-1)
    probability = of_images.mean(axis=0) if image_head else samples.mean(axis=0).reshape(2, -1).max(axis=-1)
    np.testing.assert_allclose(found[0], samples.mean(axis=0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[1], probability, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[2], samples.std(axis=0, ddof=1), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[3], of_images.std(axis=0, ddof=1), rtol=0, atol=1e-6)
    assert found[2].max() > 0.001


def test_a_fair_coin_has_the_mean_and_the_standard_deviation_of_a_fair_coin() -> None:
    mean, _, std, _ = fields(torch.ones(1, 1, 16, 16), Coins(), passes=400)
    high = 1 / (1 + np.exp(-2))
    assert mean.mean().item() == pytest.approx(high / 2, abs=0.01)
    assert std.mean().item() == pytest.approx(high / 2, abs=0.01)


def test_the_image_is_as_uncertain_as_its_highest_pixels() -> None:
    """Some of 256 coins show heads in every sample, so that the largest probability hardly varies."""
    *_, pixel_std, image_std = fields(torch.ones(1, 1, 16, 16), Coins(), passes=50)
    assert image_std.item() < 0.01 < pixel_std.mean().item()


def test_the_samples_are_repeatable_and_leave_the_generator_as_it_was(image: Tensor) -> None:
    network = member()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = fields(image, network)
    torch.testing.assert_close(torch.rand(3), expected)
    assert all(map(torch.equal, fields(image, network), first))


def test_a_result_does_not_depend_on_the_batch_nor_on_the_place_in_it(image: Tensor) -> None:
    model = member()
    whole, turned, alone = (fields(each, model) for each in (image, image.flip(0), image[1:]))
    for here, there, only in zip(whole, turned, alone, strict=True):
        assert torch.equal(there.flip(0), here)
        assert torch.equal(only, here[1:])


@torch.no_grad()
def test_attention_is_that_without_dropout(image: Tensor) -> None:
    network = member()
    found = predictor(network, dropout_passes=2).predict_batch(image, attention=True).attention
    assert found is not None
    torch.testing.assert_close(found[-1], network.attention(image)[-1])


@torch.no_grad()
def test_only_dropout_is_on_and_off_again_afterwards(image: Tensor) -> None:
    network = member(normalization="batch")
    before = network(image)
    fields(image, network)
    assert not any(part.training for part in network.modules())
    torch.testing.assert_close(network(image), before, rtol=0, atol=0)


def test_ensembles_and_augmentations_are_sampled_as_a_whole(image: Tensor) -> None:
    _, _, pixel_std, image_std = fields(image, with_head(1.0, 1), with_head(2.0, 2), tta=("flip",))
    assert pixel_std.max() > 0.001
    assert image_std.tolist() == [0.0, 0.0]  # the heads are constant


@pytest.mark.parametrize(("dropout", "passes"), [(0.2, 1), (0.0, 5)])
def test_fewer_than_two_samples_or_no_dropout_are_refused(dropout: float, passes: int) -> None:
    with pytest.raises(ValueError, match="at least 2 samples and 1 layer are needed"):
        predictor(member(dropout=dropout), dropout_passes=passes)


def test_running_statistics_are_those_of_numpy() -> None:
    values = torch.rand(7, 3, generator=torch.Generator().manual_seed(0)) + 1000
    found = RunningStatistics()
    for row in values.double():
        found.add(row)
    np.testing.assert_allclose(found.mean, values.double().numpy().mean(axis=0))
    np.testing.assert_allclose(found.std, values.double().numpy().std(axis=0, ddof=1))
