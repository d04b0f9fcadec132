import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import SHAPE, Collection, bright_pixel_network, draw_case, write_model, write_radiograph
from tests.unit.pipeline.inference.networks import CPU, count_runs, member

from pneumoseg.pipeline.inference import predictor
from pneumoseg.pipeline.inference.model import Model, load_model
from pneumoseg.pipeline.inference.segment import NotRead, segment_files
from pneumoseg.pipeline.inference.segmentation import Segmentation
from pneumoseg.transforms.masks import to_mask
from pneumoseg.transforms.reader.reasons import Reason


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    return load_model(model_folder, CPU)


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    (tmp_path / "bad.dcm").write_bytes(b"not a radiograph")
    return tmp_path / "bad.dcm"


def segment(model: Model, *paths: Path, batch_size: int = 4) -> list[Segmentation | NotRead]:
    return list(segment_files(model, paths, batch_size=batch_size))


def images(collection: Collection) -> list[Path]:
    return sorted(collection.images.iterdir())


@pytest.mark.parametrize("number", [0, 3, 5, 6, 11])
def test_the_mask_is_the_bright_block_to_the_pixel(model: Model, collection: Collection, number: int) -> None:
    (result,) = segment(model, images(collection)[number])
    assert isinstance(result, Segmentation)
    np.testing.assert_array_equal(result.mask, draw_case(number, positive=number < 6)[1])


def test_mask_and_probability_are_those_of_the_models_operating_point(
    model: Model, collection: Collection
) -> None:
    for result in segment(model, *images(collection)):
        assert isinstance(result, Segmentation)
        expected = to_mask(result.probabilities, model.operating_point, result.probability)
        np.testing.assert_array_equal(result.mask, expected)
        assert 0.9 * result.probabilities.max() <= result.probability <= result.probabilities.max()
        assert result.probabilities.shape == SHAPE


@pytest.mark.parametrize("batch_size", [1, 5, 12, 50])
def test_results_come_in_the_order_of_the_files_whatever_the_batch(
    model: Model, collection: Collection, batch_size: int
) -> None:
    results = segment(model, *images(collection), batch_size=batch_size)
    assert [result.path for result in results] == images(collection)
    assert [result.mask.any() for result in results if isinstance(result, Segmentation)] == [True] * 6 + [
        False
    ] * 6


def test_a_bad_file_among_good_ones_gets_its_reason_and_stops_nothing(
    model: Model, collection: Collection, bad: Path
) -> None:
    first, second = images(collection)[:2]
    good, refused, last = segment(model, first, bad, second)
    assert isinstance(refused, NotRead)
    assert (refused.path, refused.error.reason) == (bad, Reason.NOT_DICOM)
    assert isinstance(good, Segmentation)
    assert isinstance(last, Segmentation)
    np.testing.assert_array_equal(last.mask, draw_case(1, positive=True)[1])


def test_a_batch_of_bad_files_only_is_no_harm(model: Model, bad: Path) -> None:
    assert all(isinstance(result, NotRead) for result in segment(model, bad, bad))


def test_areas_are_in_pixels_and_in_square_millimetres(model: Model, collection: Collection) -> None:
    (result,) = segment(model, images(collection)[0])
    assert isinstance(result, Segmentation)
    assert (result.area_px, result.area_mm2) == (80, 80 * 0.5 * 0.25)


def test_an_area_is_not_known_without_a_spacing(model: Model, tmp_path: Path) -> None:
    path = write_radiograph(tmp_path / "a.dcm", draw_case(0, positive=True)[0], PixelSpacing=None)
    (result,) = segment(model, path)
    assert isinstance(result, Segmentation)
    assert (result.area_px, result.area_mm2) == (80, None)


def test_images_of_another_size_get_a_mask_of_their_size(model: Model, tmp_path: Path) -> None:
    pixels, mask = draw_case(0, positive=True)
    large = write_radiograph(tmp_path / "a.dcm", np.kron(pixels, np.ones((4, 4), np.uint8)))
    (result,) = segment(model, large)
    assert isinstance(result, Segmentation)
    expected = np.kron(mask, np.ones((4, 4), np.uint8))
    assert result.mask.shape == expected.shape == (192, 128)
    assert (result.mask & expected).sum() / (result.mask | expected).sum() > 0.85


def test_in_even_batches_a_result_depends_on_its_file_alone(
    collection: Collection, bad: Path, model: Model
) -> None:
    paths = [collection.images / f"case{number:02}.dcm" for number in range(6)]
    sizes = count_runs(model.networks[0])
    results = [
        list(segment_files(model, some, workers=0, even_batches=True)) for some in (paths, [bad, *paths[4:]])
    ]
    assert sizes == [4, 4, 4]
    for whole, alone in zip(results[0][4:], results[1][1:], strict=True):
        assert isinstance(whole, Segmentation)
        assert isinstance(alone, Segmentation)
        np.testing.assert_array_equal(whole.probabilities, alone.probabilities)
        assert whole.probability == alone.probability


def test_even_batches_of_any_size_are_computed_in_equal_parts(
    collection: Collection, bad: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "_PIXELS_AT_ONCE", 3 * model.image_size**2)
    sizes = count_runs(model.networks[0])
    paths = [images(collection)[0], bad, *images(collection)[1:6]]
    assert len(list(segment_files(model, paths, batch_size=5, workers=0, even_batches=True))) == 7
    assert set(sizes) == {2}


def test_a_batch_is_not_padded_where_a_processor_computes_images_one_by_one(
    collection: Collection, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "_PIXELS_AT_ONCE", model.image_size**2)
    sizes = count_runs(model.networks[0])
    found = list(segment_files(model, images(collection)[:5], workers=0, even_batches=True))
    assert len(found) == 5
    assert sizes == [1, 1, 1, 1, 1]


def test_files_that_cannot_be_read_make_no_batch_smaller(
    collection: Collection, bad: Path, model: Model
) -> None:
    good = images(collection)[:6]
    sizes = count_runs(model.networks[0])
    results = segment(model, good[0], bad, good[1], bad, bad, *good[2:], bad, batch_size=3)
    assert sizes == [3, 3]
    assert [result.path for result in results] == [good[0], bad, good[1], bad, bad, *good[2:], bad]


def test_the_network_goes_on_while_results_are_used(collection: Collection, model: Model) -> None:
    calls = [threading.Event(), threading.Event()]
    called = iter(calls)
    hook = model.networks[0].head.register_forward_pre_hook(lambda *_: next(called).set())
    results = segment_files(model, images(collection)[:8], workers=0)
    try:
        next(results)
        # the second batch, while the first result of the first is all that was taken
        assert calls[1].wait(60)
        assert len(list(results)) == 7
    finally:
        hook.remove()


def test_who_leaves_early_leaves_no_thread_behind(collection: Collection, model: Model) -> None:
    before = threading.active_count()
    results = segment_files(model, images(collection), batch_size=1)
    next(results)
    assert threading.active_count() > before
    results.close()
    assert threading.active_count() == before


def test_a_network_that_fails_is_told_to_who_takes_results(collection: Collection, model: Model) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    hook = model.networks[0].head.register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="out of memory"):
            segment(model, *images(collection))
    finally:
        hook.remove()


def test_attention_comes_from_the_pass_that_gives_the_mask(collection: Collection, tmp_path: Path) -> None:
    model = load_model(write_model(tmp_path, member()), CPU)
    runs = count_runs(model.networks[0])
    results = list(segment_files(model, images(collection)[:2], workers=0, attention=True))
    assert runs == [2]
    for result in results:
        assert isinstance(result, Segmentation)
        assert result.attention is not None
        assert [map_.shape for map_ in result.attention] == [SHAPE] * 4
        assert all(map_.std() > 1e-5 for map_ in result.attention)


def test_a_file_that_the_model_was_trained_on_is_told_from_others(
    collection: Collection, tmp_path: Path
) -> None:
    seen, other = images(collection)[:2]
    digests = (hashlib.sha256(seen.read_bytes()).hexdigest()[:16],)
    model = load_model(write_model(tmp_path, bright_pixel_network(), image_digests=digests), CPU)
    results = [result for result in segment(model, seen, other) if isinstance(result, Segmentation)]
    found = [model.has_seen(result.radiograph.file_sha256) for result in results]
    assert found == [True, False]
