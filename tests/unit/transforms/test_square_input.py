from typing import Any

import numpy as np
import pytest
import torch

from pneumoseg.transforms.square_input import StandardizeImage, ToNetworkSized

Sample = dict[Any, Any]


def test_the_pixels_of_the_image_are_counted() -> None:
    sample = StandardizeImage()({"image": torch.zeros(1, 64, 64), "shape": (300, 200)})
    assert sample["content"].sum() == 64 * 43  # 200 of 300 rows are 42.67 of 64


def test_the_network_sees_the_256_steps_of_a_byte() -> None:
    image = torch.rand(1, 50, 30, generator=torch.Generator().manual_seed(0))
    steps = ToNetworkSized("image", size=32)({"image": image})["image"].double() * 255
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)


def test_the_sample_that_came_in_is_left_alone() -> None:
    image = torch.full((1, 32, 32), 0.1234)
    sample: Sample = {"image": image}
    ToNetworkSized("image", size=32)(sample)
    assert sample["image"] is image
    assert float(image[0, 0, 0]) == pytest.approx(0.1234)


def test_bytes_of_a_mask_are_taken_as_well() -> None:
    mask = np.zeros((1, 32, 32), dtype=np.uint8)
    mask[0, :16] = 1
    label = ToNetworkSized("label", size=32)({"label": mask})["label"]
    assert (label.dtype, float(label.sum())) == (torch.float32, 16 * 32)


@pytest.mark.parametrize("wrong", [255.0, -0.1, float("nan")])
def test_values_outside_0_to_1_are_refused(wrong: float) -> None:
    """As MONAI's readers return the bytes of a PNG file: they would all be white."""
    with pytest.raises(ValueError, match=r"image: values from .* in \[0, 1\] would fit"):
        ToNetworkSized("image", size=32)({"image": torch.full((1, 48, 32), wrong)})


def test_a_missing_item_is_an_error_unless_allowed() -> None:
    with pytest.raises(KeyError):
        ToNetworkSized("image", size=32)({})
    assert ToNetworkSized("image", size=32, allow_missing_keys=True)({}) == {}


def test_the_padding_of_an_image_does_not_count() -> None:
    image = torch.zeros(1, 64, 64)
    image[:, 16:48] = torch.rand(1, 32, 64, generator=torch.Generator().manual_seed(0))
    own = StandardizeImage()({"image": image, "shape": (320, 640)})["image"][:, 16:48]
    assert float(own.mean()) == pytest.approx(0, abs=1e-5)
    assert float(own.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_the_image_of_the_caller_stays_as_it_is() -> None:
    image = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    StandardizeImage()({"image": image, "shape": (64, 64)})
    assert torch.equal(image, before)
