import copy
import locale
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from tests.conftest import (
    SHAPE,
    TINY,
    Collection,
    bright_pixel_network,
    draw_case,
    write_model,
    write_radiograph,
)
from tests.unit.pipeline.inference.networks import member, with_head

from pneumoseg.pipeline import load_predictor
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.inference.segment import segment_files
from pneumoseg.pipeline.inference.segmentation import ModelPredictor, Segmentation, radiograph_of
from pneumoseg.pipeline.model.description import TunedPoint
from pneumoseg.transforms.masks import to_mask
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import read_radiograph
from pneumoseg.transforms.reader.reasons import RadiographError, Reason
from pneumoseg.transforms.reader.record import Orientation, read_directions


@pytest.fixture(scope="module")
def predictor(model_folder: Path) -> ModelPredictor:
    return load_predictor(model_folder, "cpu")


@pytest.mark.parametrize("number", [0, 3, 5, 6])
def test_the_mask_of_a_file_is_the_bright_block_to_the_pixel(
    predictor: ModelPredictor, collection: Collection, number: int
) -> None:
    found = predictor.predict(str(collection.images / f"case{number:02}.dcm"))
    np.testing.assert_array_equal(found.mask, draw_case(number, positive=number < 6)[1])
    assert found.attention is None


def test_a_file_a_radiograph_and_arrays_of_its_pixels_give_the_same(
    predictor: ModelPredictor, collection: Collection
) -> None:
    path = collection.images / "case02.dcm"
    radiograph = read_radiograph(path)
    whole, rough = predictor.predict(radiograph.image), predictor.predict(radiograph.stored)
    expected = predictor.predict(path)
    assert predictor.predict(radiograph).probability == whole.probability == expected.probability
    np.testing.assert_array_equal(whole.probabilities, expected.probabilities)
    np.testing.assert_array_equal(rough.mask, expected.mask)
    assert (expected.path, whole.path) == (path, None)
    assert (expected.area_mm2, whole.area_mm2) == (expected.area_px * 0.5 * 0.25, None)


def test_the_result_is_that_of_a_stream_of_files(predictor: ModelPredictor, collection: Collection) -> None:
    path = collection.images / "case02.dcm"
    (streamed,) = segment_files(predictor.model, [path], workers=0, batch_size=1)
    assert isinstance(streamed, Segmentation)
    found = predictor.predict(path)
    assert found.probability == streamed.probability
    np.testing.assert_array_equal(found.probabilities, streamed.probabilities)


def test_attention_maps_have_the_size_of_the_image_deepest_first(
    predictor: ModelPredictor, collection: Collection, tmp_path: Path
) -> None:
    path = collection.images / "case02.dcm"
    maps = predictor.predict(path, attention=True).attention
    assert maps is not None
    assert [map_.shape for map_ in maps] == [SHAPE] * 4
    for map_ in maps:
        np.testing.assert_allclose(map_, 0.5, atol=1e-6)  # a gate without weights lets half through
    varied = load_predictor(write_model(tmp_path, member()), "cpu").predict(path, attention=True).attention
    assert varied is not None
    kinds = [len(np.unique(map_)) for map_ in varied]
    assert kinds == sorted(kinds)  # the finer a gate is, the more coefficients it has


def test_a_batch_is_that_of_the_models_networks(predictor: ModelPredictor) -> None:
    images = torch.rand(2, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    found = predictor.predict_batch(images)
    expected = predictor.model.predictor.predict_batch(images)
    assert torch.equal(found.probabilities, expected.probabilities)


def test_the_padding_of_an_image_does_not_count_for_its_probability(tmp_path: Path) -> None:
    """A narrow image: the largest permille of all pixels of the square are two, of its own it is one."""
    predictor = load_predictor(write_model(tmp_path / "model", bright_pixel_network()), "cpu")
    pixels = np.full((48, 16), 60, np.uint8)
    pixels[20, 8] = 250
    found = predictor.predict(pixels)
    assert found.probability == pytest.approx(found.probabilities.max(), abs=1e-6)


def test_samples_and_augmentations_are_those_that_are_asked_for(
    model_folder: Path, collection: Collection
) -> None:
    sampled = load_predictor(model_folder, "cpu", ["flip"], dropout_passes=2)
    found = sampled.predict(collection.images / "case02.dcm")
    assert sampled.model.tta == ("flip",)
    assert found.pixel_std is not None
    assert found.image_std is not None
    assert found.pixel_std.shape == SHAPE


def test_what_does_not_fit_is_a_usage_error(model_folder: Path) -> None:
    with pytest.raises(UsageError, match="--tta rotate"):
        load_predictor(model_folder, "cpu", ["rotate"])
    with pytest.raises(UsageError, match="--device tpu"):
        load_predictor(model_folder, "tpu")
    with pytest.raises(UsageError, match="--dropout-passes: 1 Monte-Carlo"):
        load_predictor(model_folder, "cpu", dropout_passes=1)


def test_a_file_that_is_not_accepted_is_its_reason(model_folder: Path, tmp_path: Path) -> None:
    path = write_radiograph(tmp_path / "a.dcm", draw_case(0, positive=True)[0], ViewPosition="LL")
    with pytest.raises(RadiographError, match="WRONG_VIEW"):
        load_predictor(model_folder, "cpu").predict(path)
    assert (
        load_predictor(model_folder, "cpu", acceptance=AcceptanceFilters(any_view=True))
        .predict(path)
        .mask.any()
    )


# the image head decides


def test_the_probability_is_half_that_of_the_image_head_and_decides_about_the_mask(
    collection: Collection, tmp_path: Path
) -> None:
    point = TunedPoint(threshold=0.0, min_area_fraction=0.0, image_threshold=0.5)
    probabilities = {}
    for name, logit in (("yes", 4.0), ("no", -4.0)):
        network = with_head(logit)
        folder = write_model(
            tmp_path / name, network, point=point, config=TINY.model_copy(update={"image_head": True})
        )
        found = load_predictor(folder, "cpu").predict(collection.images / "case02.dcm")
        assert found.mask.all() == found.mask.any() == (name == "yes")
        probabilities[name] = found.probability
    head = np.tanh(2.0)  # the logistic function of 4 minus that of -4; the pixels are the same
    assert probabilities["yes"] - probabilities["no"] == pytest.approx(head / 2, abs=1e-6)


def test_the_image_threshold_is_one_of_the_probability_before_calibration(
    predictor: ModelPredictor, collection: Collection
) -> None:
    path = collection.images / "case02.dcm"
    plain = predictor.predict(path)
    mask = to_mask(plain.probabilities, predictor.model.operating_point, plain.probability)
    np.testing.assert_array_equal(plain.mask, mask)


# arrays


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros((4, 4), np.int32),
        np.full((4, 4), 1.5),
        np.full((4, 4), np.nan),
        torch.zeros(4, 4),
        [[0, 255]],
        None,
    ],
)
def test_an_array_of_another_kind_is_refused(array: Any) -> None:
    with pytest.raises(ValueError, match="wanted are rows and columns"):
        radiograph_of(array)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_are_greys_from_0_to_1(kind: npt.DTypeLike) -> None:
    greys = np.linspace(0, 1, 48 * 32, dtype=np.float32).reshape(48, 32).astype(kind)
    np.testing.assert_allclose(radiograph_of(greys).image, greys, atol=1e-5)


def test_an_array_is_reviewed_for_what_the_same_pixels_in_a_file_are(
    predictor: ModelPredictor, tmp_path: Path
) -> None:
    blank = np.full((128, 128), 7, np.uint8)
    Image.fromarray(blank).save(tmp_path / "a.png")
    of_file, of_array = predictor.predict(tmp_path / "a.png"), predictor.predict(blank)
    assert of_array.review == of_file.review == (Reason.LOW_CONTRAST,)
    assert of_array.decision == of_file.decision == "indeterminate"


# copies and threads


@pytest.mark.parametrize("runtime", ["torch", "onnx", "openvino"])
def test_a_predictor_can_be_pickled_copied_and_called_by_several_threads(
    model_folder: Path, runtime: str
) -> None:
    before = locale.setlocale(locale.LC_CTYPE)  # OpenVINO changes it for a moment
    predictor = load_predictor(model_folder, "cpu", runtime=runtime)
    images = [draw_case(number, positive=True)[0] for number in range(6)] * 4
    expected = [predictor.predict(image).probabilities for image in images]
    for each in (predictor, pickle.loads(pickle.dumps(predictor)), copy.deepcopy(predictor)):
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(each.predict, images))
        for segmentation, probabilities in zip(found, expected, strict=True):
            np.testing.assert_array_equal(segmentation.probabilities, probabilities)
    assert locale.setlocale(locale.LC_CTYPE) == before


def test_dropout_samples_are_the_same_in_several_threads(tmp_path: Path) -> None:
    predictor = load_predictor(write_model(tmp_path / "model", member()), "cpu", dropout_passes=4)
    images = [draw_case(number, positive=True)[0] for number in range(6)] * 2
    expected = [predictor.predict(image, attention=True) for image in images]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(partial(predictor.predict, attention=True), images))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
        np.testing.assert_array_equal(one.attention, other.attention)
    assert not any(module.training for module in predictor.model.networks[0].modules())


def test_whole_numbers_are_what_a_png_holds(tmp_path: Path) -> None:
    pixels = draw_case(2, positive=True)[0]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(radiograph_of(pixels).image, read_radiograph(tmp_path / "a.png").image)


@pytest.mark.parametrize("directions", ["R\\F", "L\\H", "R\\H", "F\\L", "F\\R", "H\\L", "H\\R"])
def test_a_rotated_or_mirrored_image_has_the_result_of_the_upright_one(
    tmp_path: Path, directions: str
) -> None:
    predictor = load_predictor(write_model(tmp_path / "model", member()), "cpu", dropout_passes=2)
    pixels = draw_case(2, positive=True)[0]
    orientation = Orientation.of(read_directions(directions))
    stored = np.ascontiguousarray(orientation.invert(pixels))
    file = write_radiograph(tmp_path / "turned.dcm", stored, PatientOrientation=directions)
    upright = predictor.predict(write_radiograph(tmp_path / "upright.dcm", pixels), attention=True)
    turned = predictor.predict(file, attention=True)
    assert turned.probability == upright.probability
    assert turned.mask.shape == stored.shape
    assert upright.attention is not None
    assert turned.attention is not None
    pairs = [
        (turned.mask, upright.mask),
        (turned.probabilities, upright.probabilities),
        (turned.pixel_std, upright.pixel_std),
        *zip(turned.attention, upright.attention, strict=True),
    ]
    for found, expected in pairs:
        np.testing.assert_array_equal(orientation.apply(found), expected)
