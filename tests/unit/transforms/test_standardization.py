import pytest
import torch

from pneumoseg.transforms.standardization import MeasurePixelsd, StandardizePixelsd


def test_the_statistics_are_remembered_through_a_change_of_the_image() -> None:
    image = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
    sample = MeasurePixelsd("image")({"image": image, "shape": (64, 64)})
    sample["image"] = image + 0.1
    changed = StandardizePixelsd("image")(sample)["image"]
    assert float(changed.mean()) == pytest.approx(0.1 / float(image.std(correction=0)), rel=1e-4)
