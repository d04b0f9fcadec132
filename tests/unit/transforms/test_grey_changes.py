"""Changes of grey against MONAI's transforms and hand-made values."""

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast, GaussianSmooth, ScaleIntensityFixedMean
from scipy import stats
from torch import Tensor

from pneumoseg.transforms.grey_changes import add_noise, adjust_contrast, adjust_gamma, blacken, blur


def images(count: int = 3, size: int = 33) -> Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0))


def test_gamma_is_that_of_monai() -> None:
    exponents = torch.tensor([0.7, 1.0, 1.4])
    expected = [AdjustContrast(float(each))(image) for each, image in zip(exponents, images(), strict=True)]
    torch.testing.assert_close(
        adjust_gamma(images(), exponents),
        torch.stack([torch.as_tensor(each) for each in expected]),
        atol=2e-6,
        rtol=0,
    )


def test_contrast_is_that_of_monai() -> None:
    changes = torch.tensor([-0.2, 0.0, 0.2])
    expected = [
        torch.as_tensor(ScaleIntensityFixedMean(float(each))(image))
        for each, image in zip(changes, images(), strict=True)
    ]
    torch.testing.assert_close(
        adjust_contrast(images(), changes), torch.stack([torch.as_tensor(each) for each in expected])
    )


def test_a_blur_is_that_of_monai_up_to_the_tail_of_its_kernel() -> None:
    stds = torch.tensor([[0.3, 1.0], [1.0, 0.5], [0.7, 0.7]])
    expected = [
        GaussianSmooth(each.tolist(), approx="erf")(image) for each, image in zip(stds, images(), strict=True)
    ]
    torch.testing.assert_close(
        blur(images(), stds, largest=1.0),
        torch.stack([torch.as_tensor(each) for each in expected]),
        atol=1e-4,
        rtol=0,
    )


def test_a_blur_of_no_width_is_the_image() -> None:
    torch.testing.assert_close(blur(images(), torch.zeros(3, 2), largest=0.0), images())


def test_noise_is_normal_and_of_its_standard_deviation() -> None:
    flat = torch.full((2, 1, 257, 257), 0.5)
    noise = (add_noise(flat, torch.tensor([0.02, 0.1]), torch.tensor([3.0, 2.0**24 - 1])) - flat).numpy()
    for each, std in zip(noise, (0.02, 0.1), strict=True):
        assert stats.kstest(each.ravel() / std, "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.02  # the standard error is 0.004
    along = noise[0, 0]
    for one, other in ((along[1:], along[:-1]), (along[:, 1:], along[:, :-1])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02


def test_noise_is_a_function_of_its_key_whatever_the_batch() -> None:
    std, keys = torch.full((3,), 0.1), torch.tensor([1.0, 2.0, 1.0])
    noise = add_noise(torch.zeros(3, 1, 16, 16), std, keys)
    assert torch.equal(noise[0], noise[2])
    assert not torch.allclose(noise[0], noise[1])
    assert torch.equal(noise[1:2], add_noise(torch.zeros(1, 1, 16, 16), std[:1], keys[1:2]))


@pytest.mark.parametrize("key", [0, 1, 12345])
def test_the_noise_of_neighbouring_keys_is_not_shifted_into_each_other(key: int) -> None:
    one, other = (
        add_noise(torch.zeros(1, 1, 64, 64), torch.ones(1), torch.tensor([float(each)])).flatten()
        for each in (key, key + 1)
    )
    for shift in range(1, 40):
        assert abs(float(torch.corrcoef(torch.stack([one[shift:], other[:-shift]]))[0, 1])) < 0.08


def test_rectangles_are_black_and_the_rest_stays() -> None:
    image = torch.ones(2, 1, 6, 8)
    boxes = torch.tensor([[[1, 2, 2, 3], [0, 0, 0, 0]], [[0, 0, 1, 1], [5, 7, 1, 1]]]).float()
    expected = torch.ones(2, 1, 6, 8)
    expected[0, 0, 1:3, 2:5] = 0
    expected[1, 0, 0, 0] = expected[1, 0, 5, 7] = 0
    assert torch.equal(blacken(image, boxes), expected)
