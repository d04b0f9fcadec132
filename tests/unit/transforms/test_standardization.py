import pytest
import torch

<<<<<<< HEAD
from pneumoseg.transforms.standardization import MeasurePixelsd, StandardizePixelsd


def test_the_statistics_are_remembered_through_a_change_of_the_image() -> None:
    image = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
    sample = MeasurePixelsd("image")({"image": image, "shape": (64, 64)})
    sample["image"] = image + 0.1
    changed = StandardizePixelsd("image")(sample)["image"]
    assert float(changed.mean()) == pytest.approx(0.1 / float(image.std(correction=0)), rel=1e-4)
=======
from pneumoseg.transforms.geometry import to_network_size
from pneumoseg.transforms.standardization import (
    StandardizePixelsd,
    pixel_statistics,
    standardize,
    window_of,
)


def noise(rows: int, columns: int) -> Tensor:
    return torch.rand(1, rows, columns, generator=torch.Generator().manual_seed(0))


def standardized(image: Tensor, shape: tuple[int, int]) -> Tensor:
    return StandardizePixelsd("image")({"image": image, "shape": shape})["image"]


@pytest.mark.parametrize("shape", [(64, 64), (64, 48), (20, 64), (640, 320)])
def test_the_pixels_of_an_image_get_mean_0_and_standard_deviation_1(shape: tuple[int, int]) -> None:
    square = to_network_size(0.2 + 0.5 * noise(*shape), 64)
    image = standardized(square, shape)
    inside = image[square > 0]
    assert inside.numel() < image.numel() or shape == (64, 64)
    assert float(inside.mean()) == pytest.approx(0, abs=1e-5)
    assert float(inside.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_padding_does_not_change_what_the_network_sees_of_an_image() -> None:
    image = 0.2 + 0.5 * noise(32, 64)
    padded = standardized(to_network_size(image, 64), (32, 64))
    expected = (image - image.mean()) / image.std(correction=0)
    torch.testing.assert_close(padded[:, 16:48], expected)


def test_padding_is_as_black_as_a_black_pixel_of_the_image() -> None:
    image = noise(32, 64)
    image[0, 0, 0] = 0
    padded = standardized(to_network_size(image, 64), (32, 64))
    assert float(padded[0, 16, 0]) == float(padded[0, 0, 0]) == float(padded[0, 63, 63])


@pytest.mark.parametrize("grey", [0.0, 0.3, 1.0])
def test_an_image_of_one_grey_level_is_divided_by_1(grey: float) -> None:
    padded = standardized(to_network_size(torch.full((1, 32, 64), grey), 64), (32, 64))
    torch.testing.assert_close(padded[:, 16:48], torch.zeros(1, 32, 64), atol=1e-6, rtol=0)
    torch.testing.assert_close(padded[:, :16], torch.full((1, 16, 64), -grey))


def test_one_pixel_that_differs_by_one_step_is_no_image_of_one_grey_level() -> None:
    image = torch.zeros(1, 2048, 2048)
    image[0, 0, 0] = 1 / 255
    assert float(pixel_statistics(image[None], [(0, 2048, 0, 2048)]).std) == pytest.approx(
        1 / 255 / 2048, rel=0.01
    )


def test_each_image_of_a_batch_has_statistics_of_its_own_part_of_the_square() -> None:
    images = torch.stack([noise(64, 64), noise(64, 64) + 1])
    windows = [window_of(shape, 64) for shape in ((64, 64), (20, 10))]
    assert windows[1] == (0, 64, 16, 48)
    mean, std = pixel_statistics(images, windows)
    own = [images[0], images[1][..., 16:48]]
    torch.testing.assert_close(mean.flatten(), torch.stack([each.mean() for each in own]))
    torch.testing.assert_close(std.flatten(), torch.stack([each.std(correction=0) for each in own]))
    assert torch.equal(
        standardize(images.clone(), (statistics := pixel_statistics(images, windows))),
        (images - statistics.mean) / statistics.std,
    )


def test_standardisation_leaves_the_image_of_the_caller() -> None:
    image = noise(64, 64)
    standardized(image, (64, 64))
    assert torch.equal(image, noise(64, 64))
>>>>>>> fa86115 (Augmentation of whole batches on the device of the network, with numbers sampled from each image's seed)
