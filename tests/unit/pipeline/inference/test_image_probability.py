import torch
from tests.unit.pipeline.inference.networks import Copy, predictor

from pneumoseg.pipeline.inference.image_probability import top_mean
from pneumoseg.transforms.network_input import Placement


def test_the_share_is_one_of_the_images_own_pixels() -> None:
    probabilities = torch.linspace(0, 1, 64 * 64).reshape(1, 1, 64, 64)
    own = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    own[..., 32:, :] = False  # the upper half: 2,048 pixels, of which two are averaged
    expected = probabilities[0, 0, 31, -2:].mean()
    torch.testing.assert_close(top_mean(probabilities, own), expected[None], rtol=0, atol=1e-6)


def test_the_padding_of_an_image_does_not_count() -> None:
    """The network is certain of the padding, and predicts at most 0.5 elsewhere."""
    image = torch.full((1, 1, 48, 48), 9.0)
    image[..., 8:40] = -torch.rand(48, 32, generator=torch.Generator().manual_seed(0))
    model = predictor(Copy())
    assert model.predict_batch(image).image_probability.item() > 0.99
    assert (
        model.predict_batch(image, Placement.of((96, 64), 48).mask(48)[None]).image_probability.item() <= 0.5
    )
