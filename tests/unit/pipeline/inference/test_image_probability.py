import pytest
import torch
from tests.unit.pipeline.inference.networks import Copy, predictor

from pneumoseg.pipeline.inference.image_probability import own_pixels, top_mean
from pneumoseg.transforms.geometry import Placement, to_network_size

SHAPES = [(48, 32), (32, 48), (48, 48), (48, 47), (47, 48), (96, 10), (10, 96)]


@pytest.mark.parametrize("shape", SHAPES)
def test_own_pixels_are_those_of_the_placement(shape: tuple[int, int]) -> None:
    window = Placement.of(shape, 48)
    expected = torch.zeros(48, 48, dtype=torch.bool)
    expected[window.window] = True
    image = to_network_size(torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)) + 1, 48)
    found = own_pixels(image[None], torch.tensor([window.rows * window.columns]))
    assert torch.equal(found[0], expected)


def test_padding_of_any_constant_value_is_found() -> None:
    image = to_network_size(torch.rand(1, 48, 32, generator=torch.Generator().manual_seed(0)) + 1, 48) - 3
    assert own_pixels(image[None], torch.tensor([48 * 32])).sum() == 48 * 32


def test_an_image_with_black_borders_keeps_all_pixels_that_are_not_black() -> None:
    portrait = torch.zeros(1, 48, 32)
    portrait[:, 10:30, 4:28] = torch.rand(1, 20, 24, generator=torch.Generator().manual_seed(0)) + 1
    image = to_network_size(portrait, 48)
    assert own_pixels(image[None], torch.tensor([48 * 32]))[0][image[0] != 0].all()


def test_each_image_of_a_batch_has_its_own_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.stack(
        [to_network_size(torch.rand(1, *shape, generator=generator) + 1, 48) for shape in SHAPES]
    )
    counts = torch.tensor(
        [Placement.of(shape, 48).rows * Placement.of(shape, 48).columns for shape in SHAPES]
    )
    found = own_pixels(images, counts)
    assert found.sum(dim=(1, 2)).tolist() == counts.tolist()
    assert torch.equal(found, images[:, 0] > 0)


def test_the_share_is_one_of_the_images_own_pixels() -> None:
    probabilities = torch.linspace(0, 1, 64 * 64).reshape(1, 1, 64, 64)
    own = torch.ones(1, 64, 64, dtype=torch.bool)
    own[:, 32:] = False  # the upper half: 2,048 pixels, of which two are averaged
    expected = probabilities[0, 0, 31, -2:].mean()
    torch.testing.assert_close(top_mean(probabilities, own), expected[None], rtol=0, atol=1e-6)


def test_the_padding_of_an_image_does_not_count() -> None:
    """The network is certain of the padding, and predicts at most 0.5 elsewhere."""
    image = torch.full((1, 1, 48, 48), 9.0)
    image[..., 8:40] = -torch.rand(48, 32, generator=torch.Generator().manual_seed(0))
    model = predictor(Copy())
    assert model.predict_batch(image).image_probability.item() > 0.99
    assert model.predict_batch(image, torch.tensor([48 * 32])).image_probability.item() <= 0.5
