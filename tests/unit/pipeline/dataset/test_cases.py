import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import Collection, draw_case, make_case, make_collection

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.dataset.cache import open_cache
from pneumoseg.pipeline.dataset.cases import ACCEPT_ALL_KINDS, Bytes, CachedCases, FileCases, PhasedCases
from pneumoseg.pipeline.dataset.manifest import Manifest
from pneumoseg.pipeline.dataset.sampling import Draw
from pneumoseg.transforms.augmentation import DEFAULT_AUGMENTATIONS
from pneumoseg.transforms.augmenter import Augmented, Augmenter
from pneumoseg.transforms.chains import evaluation_chain

SIZE = 48
# shapes and signs of the collection
CASES = [make_case(number, area_px=int(number < 6)) for number in range(12)]


@pytest.fixture(scope="module")
def cache(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Bytes:
    folder = tmp_path_factory.mktemp("cache")
    return open_cache(collection.manifest, collection.manifest_path, image_size=SIZE, folder=folder)


def from_files(manifest: Manifest, path: Path, *indices: int) -> FileCases:
    chain = evaluation_chain(image_size=SIZE, acceptance=ACCEPT_ALL_KINDS)
    return FileCases(manifest, path, indices, chain=chain, workers=0)


def test_a_case_from_its_file_has_image_label_and_its_place(collection: Collection) -> None:
    (case,) = from_files(collection.manifest, collection.manifest_path, 2)
    assert case["index"] == 2
    expected = np.zeros((SIZE, SIZE), dtype=np.float32)
    expected[:, 8:40] = draw_case(2, positive=True)[1]  # 48 x 32 in 48 x 48: 8 columns on each side
    np.testing.assert_array_equal(np.asarray(case["label"])[0], expected)


def test_a_case_from_the_cache_is_to_the_bit_what_its_file_gives(
    collection: Collection, cache: Bytes
) -> None:
    for index in range(12):
        (file,) = from_files(collection.manifest, collection.manifest_path, index)
        cached = CachedCases(cache, CASES, [index])[0]
        np.testing.assert_array_equal(np.asarray(cached["image"]), np.asarray(file["image"]))
        np.testing.assert_array_equal(np.asarray(cached["label"]), np.asarray(file["label"]))
        assert torch.equal(cached["content"], file["content"])
        assert cached["content"].sum() == 48 * 32


@pytest.mark.parametrize("from_cache", [True, False])
def test_a_case_is_standardised_without_its_padding(
    collection: Collection, cache: Bytes, from_cache: bool
) -> None:
    (file,) = from_files(collection.manifest, collection.manifest_path, 2)
    image = (CachedCases(cache, CASES, [2])[0] if from_cache else file)["image"][0]
    assert float(image[:, 8:40].mean()) == pytest.approx(0, abs=1e-5)
    assert float(image[:, 8:40].std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_the_label_of_an_image_is_that_of_its_original_mask(cache: Bytes) -> None:
    # three of 214 masks of the challenge have no pixel of at least one half at 128 px
    cases = [make_case(0, area_px=3), make_case(1, area_px=0)]
    pixels = np.zeros_like(cache[:2])
    drawn = CachedCases(pixels, cases, [0, 1], Augmenter((), image_size=SIZE))
    assert [float(drawn[Draw(index=index, seed=0)]["positive"]) for index in (0, 1)] == [1, 0]


def test_cases_are_counted_and_gone_through_in_order(collection: Collection) -> None:
    cases = from_files(collection.manifest, collection.manifest_path, 3, 1)
    assert len(cases) == 2
    assert [case["index"] for case in cases] == [3, 1]


def test_a_file_that_changed_is_an_error_that_names_it(tmp_path: Path) -> None:
    changed = make_collection(tmp_path)
    path = changed.images / "case03.dcm"
    path.write_bytes(path.read_bytes() + b"\0\0")
    with pytest.raises(JobError, match=r"case03\.dcm: is not the file") as caught:
        list(from_files(changed.manifest, changed.manifest_path, 3))
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_gone_is_an_error_that_names_it(tmp_path: Path) -> None:
    moved = make_collection(tmp_path)
    shutil.move(moved.images / "case03.dcm", tmp_path / "elsewhere.dcm")
    with pytest.raises(JobError, match=r"case03\.dcm: NOT_A_FILE: there is no such file"):
        list(from_files(moved.manifest, moved.manifest_path, 3))


def test_a_label_that_does_not_fit_its_image_is_an_error_that_names_it(collection: Collection) -> None:
    manifest = collection.manifest
    bad = manifest.training[3].model_copy(update={"label": ("0 99999",)})
    altered = manifest.model_copy(update={"training": (bad,)})
    with pytest.raises(JobError, match=r"case03"):
        list(from_files(altered, collection.manifest_path, 0))


def augmented(cases: CachedCases | PhasedCases, draw: Draw) -> Augmented:
    """The sample of a draw, augmented by itself."""
    sample = cases[draw]
    one = cases.phases[draw.phase] if isinstance(cases, PhasedCases) else cases
    assert one.augmenter is not None
    return one.augmenter(*(sample[key][None] for key in ("pixels", "numbers", "positive")))


def test_the_same_draw_gives_the_same_augmentation_whatever_came_before(cache: Bytes) -> None:
    one = CachedCases(cache, CASES, range(12), Augmenter(DEFAULT_AUGMENTATIONS, image_size=SIZE))
    other = CachedCases(cache, CASES, range(12), Augmenter(DEFAULT_AUGMENTATIONS, image_size=SIZE))
    for seed in range(5):
        other[Draw(index=seed, seed=seed + 100)]
    for seed in range(5):
        draw = Draw(index=4, seed=seed)
        assert torch.equal(augmented(one, draw).image, augmented(other, draw).image)


def test_a_draw_counts_from_the_cases_at_hand_and_the_index_from_the_manifest(cache: Bytes) -> None:
    assert CachedCases(cache, CASES, [9, 5])[Draw(index=1, seed=0)]["index"] == 5


def test_without_augmentation_a_draw_is_the_case_itself(cache: Bytes) -> None:
    cases = CachedCases(cache, CASES, range(12))
    np.testing.assert_array_equal(
        np.asarray(cases[Draw(index=2, seed=9)]["image"]), np.asarray(cases[2]["image"])
    )


def test_the_cache_is_not_changed_by_augmentation(cache: Bytes) -> None:
    before = cache.copy()
    cases = CachedCases(cache, CASES, range(12), Augmenter(DEFAULT_AUGMENTATIONS, image_size=SIZE))
    for index in range(12):
        augmented(cases, Draw(index=index, seed=index))
    np.testing.assert_array_equal(before, cache)


def test_pixels_stay_bytes_until_they_are_augmented_and_are_float32_then(cache: Bytes) -> None:
    cases = CachedCases(cache, CASES, range(12), Augmenter(DEFAULT_AUGMENTATIONS, image_size=SIZE))
    assert cases[Draw(index=0, seed=0)]["pixels"].dtype == torch.uint8
    assert {each.dtype for each in augmented(cases, Draw(index=0, seed=0))} == {torch.float32}


def test_a_loader_worker_gets_the_way_to_the_cache_and_not_its_content(cache: Bytes) -> None:
    assert cache[7, 0].tobytes() not in pickle.dumps(CachedCases(cache, CASES, range(12)))


def test_a_loader_worker_reads_the_same_pixels(cache: Bytes) -> None:
    sent = pickle.loads(pickle.dumps(CachedCases(cache, CASES, range(12))))
    assert isinstance(sent.cache, np.memmap)
    np.testing.assert_array_equal(sent.cache, cache)


# --- the resolutions of a run


def test_a_draw_brings_the_case_at_the_resolution_of_its_phase(cache: Bytes) -> None:
    small = np.ascontiguousarray(cache[:, :, ::2, ::2])
    cases = PhasedCases([CachedCases(small, CASES, [9, 5]), CachedCases(cache, CASES, [9, 5])])
    assert len(cases) == 2
    for phase, pixels in enumerate((small, cache)):
        sample = cases[Draw(index=1, seed=0, phase=phase)]
        expected = CachedCases(pixels, CASES, [5])[0]
        assert sample["index"] == 5
        np.testing.assert_array_equal(np.asarray(sample["image"]), np.asarray(expected["image"]))
        np.testing.assert_array_equal(np.asarray(sample["label"]), np.asarray(expected["label"]))


def test_a_draw_of_a_phase_is_augmented_by_its_seed(cache: Bytes) -> None:
    def make() -> CachedCases:
        return CachedCases(cache, CASES, range(12), Augmenter(DEFAULT_AUGMENTATIONS, image_size=SIZE))

    draw = Draw(index=3, seed=11, phase=1)
    phased = augmented(PhasedCases([make(), make()]), draw)
    assert torch.equal(phased.image, augmented(make(), draw).image)


def test_a_draw_of_a_cropped_phase_is_a_function_of_its_seed_and_validation_sees_the_whole_image(
    cache: Bytes,
) -> None:
    cases = CachedCases(cache, CASES, range(12), Augmenter(DEFAULT_AUGMENTATIONS, image_size=SIZE, crop=32))
    one, other, again = (augmented(cases, Draw(index=3, seed=seed)) for seed in (5, 6, 5))
    assert one.image.shape == one.label.shape == (1, 1, 32, 32)
    assert torch.equal(one.image, again.image)
    assert not torch.equal(one.image, other.image)
    assert cases[3]["image"].shape == (1, SIZE, SIZE)


def test_a_crop_is_positive_where_it_shows_some_of_the_mask(cache: Bytes) -> None:
    cases = CachedCases(cache, CASES, range(12), Augmenter(DEFAULT_AUGMENTATIONS, image_size=SIZE, crop=16))
    for index in (0, 9):
        found = [augmented(cases, Draw(index=index, seed=seed)) for seed in range(30)]
        shown = [float((each.label > 0.5 / 255).any()) for each in found]
        assert [float(each.positive) for each in found] == shown
        assert len(set(shown)) == (2 if index == 0 else 1)


def test_the_padding_of_a_cached_case_is_that_of_the_upright_image(cache: Bytes) -> None:
    turned = make_case(0, patient_orientation=("F", "L"))  # 48 stored rows are 48 upright columns
    content = CachedCases(cache, [turned], [0])[0]["content"]
    assert content[0, 8:40].all()
    assert content.sum() == 48 * 32
