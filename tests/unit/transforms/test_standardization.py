import pytest
import torch

from pneumoseg.transforms.standardization import StandardizePixelsd


def test_the_padding_of_an_image_does_not_count() -> None:
    image = torch.zeros(1, 64, 64)
    image[:, 16:48] = torch.rand(1, 32, 64, generator=torch.Generator().manual_seed(0))
    own = StandardizePixelsd("image")({"image": image, "shape": (320, 640)})["image"][:, 16:48]
    assert float(own.mean()) == pytest.approx(0, abs=1e-5)
    assert float(own.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_the_image_of_the_caller_stays_as_it_is() -> None:
    image = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    StandardizePixelsd("image")({"image": image, "shape": (64, 64)})
    assert torch.equal(image, before)
