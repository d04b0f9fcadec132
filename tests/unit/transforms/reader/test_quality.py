import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pneumoseg.pipeline.phantom.rendering import render_phantom
from pneumoseg.transforms.reader.grey import GreyScale, Window
from pneumoseg.transforms.reader.quality import (
    find_pose,
    lit_field,
    look_at,
    noise_of,
    read_template,
    sample,
    shrink,
    standardized,
)
from pneumoseg.transforms.reader.radiograph import AcceptanceFilters, read_radiograph
from pneumoseg.transforms.reader.reasons import REVIEW_REASONS, Outcome, Reason
from pneumoseg.transforms.reader.record import Radiograph

# bright in the upper left corner, brightest to its right: no turn, mirror image or inversion of it is the same
TEMPLATE = standardized(np.pad(np.array([[2.0, 3.0], [1.0, 0.0]]), ((0, 14), (0, 14))))
PICTURE = np.kron(TEMPLATE, np.ones((4, 5))).astype(np.float32)


def test_the_pose_is_what_was_done_to_the_upright_picture() -> None:
    for turns in range(4):
        for inverted in [False, True]:
            picture = np.rot90(PICTURE, -turns)  # clockwise
            pose = find_pose(1 - picture if inverted else picture, template=TEMPLATE)
            assert (pose.quarter_turns, pose.inverted) == (turns, inverted)
            assert pose.likeness == pytest.approx(1, abs=1e-6)


def test_a_picture_in_its_best_pose_has_nothing_to_gain() -> None:
    assert find_pose(PICTURE, template=TEMPLATE).gain == 0
    turned = find_pose(np.rot90(PICTURE), template=TEMPLATE)
    assert turned.gain == pytest.approx(turned.likeness - turned.likeness_as_it_is)
    assert turned.gain > 0


def test_brightness_and_contrast_do_not_change_the_likeness() -> None:
    noisy = PICTURE + np.random.default_rng(0).normal(0, 0.1, PICTURE.shape).astype(np.float32)
    likeness = find_pose(noisy, template=TEMPLATE).likeness
    assert find_pose(noisy * 0.2 + 0.7, template=TEMPLATE).likeness == pytest.approx(likeness, abs=1e-4)


def test_a_constant_picture_is_like_nothing() -> None:
    assert find_pose(np.full((32, 32), 0.7, np.float32)).likeness == 0


@pytest.mark.parametrize("shape", [(16, 16), (32, 48), (37, 101)])
def test_fields_of_a_ramp_hold_its_mean_over_their_pixels(shape: tuple[int, int]) -> None:
    rows, columns = shape
    ramp = np.tile(np.arange(columns, dtype=np.float32), (rows, 1))
    edges = [columns * field // 16 for field in range(17)]
    expected = [(first + last - 1) / 2 for first, last in itertools.pairwise(edges)]
    np.testing.assert_allclose(shrink(ramp), np.tile(expected, (16, 1)))


def test_the_template_is_a_correlation_and_does_not_know_left_from_right() -> None:
    template = read_template()
    assert template.shape == (16, 16)
    assert template.mean() == pytest.approx(0)
    assert np.linalg.norm(template) == pytest.approx(1)
    np.testing.assert_allclose(template, template[:, ::-1], atol=0.002)  # it was written with three digits


Stored = NDArray[np.integer[Any]]
Change = Callable[[Stored], Stored]


@pytest.fixture(scope="module")
def chest() -> Radiograph:
    """A phantom, upright, 1024 pixels of 0.4 mm."""
    picture = np.kron(render_phantom(0, size=256).image, np.ones((4, 4)))
    return Radiograph(
        stored=(255 * picture).round().astype(np.uint8), grey=GreyScale(), spacing_mm=(0.4, 0.4)
    )


def reasons(radiograph: Radiograph) -> list[Reason]:
    return [reason for reason, _ in look_at(radiograph)]


def changed(radiograph: Radiograph, change: Change) -> list[Reason]:
    return reasons(replace(radiograph, stored=change(radiograph.stored)))


def test_nothing_is_said_of_an_upright_chest(chest: Radiograph) -> None:
    assert look_at(chest) == []


def test_every_remark_is_a_warning(chest: Radiograph) -> None:
    upside_down = replace(chest, stored=255 - chest.stored[::-1], spacing_mm=(2.0, 2.0))
    remarks = look_at(upside_down)
    assert len(remarks) == 3
    assert {reason.outcome for reason, _ in remarks} == {Outcome.WARNED}


@pytest.mark.parametrize(
    ("turns", "words"),
    [(-1, "a quarter, clockwise"), (2, "upside down"), (1, "a quarter, counterclockwise")],
)
def test_a_turned_chest_is_warned_of_with_its_direction(chest: Radiograph, turns: int, words: str) -> None:
    ((reason, detail),) = look_at(replace(chest, stored=np.rot90(chest.stored, turns)))
    assert reason is Reason.LOOKS_TURNED
    assert words in detail


@pytest.mark.parametrize("degrees", [-45, -30, 30, 45])
def test_a_tilted_chest_is_warned_of_with_its_direction(chest: Radiograph, degrees: int) -> None:
    """Its network is trained with a tilt of up to 12 degrees, and finds less and less beyond."""
    tilted = np.asarray(Image.fromarray(chest.stored).rotate(-degrees, Image.Resampling.BILINEAR))
    found = look_at(replace(chest, stored=tilted))
    assert {reason for reason, _ in found} & {Reason.LOOKS_TURNED, Reason.LOOKS_UNLIKE_CHEST}
    for reason, detail in found:
        if reason is Reason.LOOKS_TURNED:
            assert f" {'counter' * (degrees < 0)}clockwise" in detail


@pytest.mark.parametrize("degrees", [-7, -3, 3, 7])
def test_a_chest_that_leans_a_little_is_fine(chest: Radiograph, degrees: int) -> None:
    leaning = np.asarray(Image.fromarray(chest.stored).rotate(degrees, Image.Resampling.BILINEAR))
    assert reasons(replace(chest, stored=leaning)) == []


def test_polarity_against_the_header_is_warned_of(chest: Radiograph) -> None:
    assert changed(chest, lambda stored: 255 - stored) == [Reason.LOOKS_INVERTED]


def test_monochrome1_that_is_what_it_says_is_fine(chest: Radiograph) -> None:
    monochrome1 = replace(chest, stored=255 - chest.stored, grey=GreyScale(monochrome1=True))
    assert reasons(monochrome1) == []


def test_a_mirrored_chest_is_not_told_from_another(chest: Radiograph) -> None:
    assert changed(chest, lambda stored: stored[:, ::-1]) == []


def test_noise_looks_unlike_a_chest(chest: Radiograph) -> None:
    noise = np.random.default_rng(0).integers(0, 256, chest.shape, dtype=np.uint8)
    assert changed(chest, lambda _: noise) == [Reason.NOISY, Reason.LOOKS_UNLIKE_CHEST]


def test_a_blank_image_has_no_contrast_and_no_pose(chest: Radiograph) -> None:
    assert changed(chest, np.zeros_like) == [Reason.LOW_CONTRAST]


def test_a_chest_on_a_large_black_canvas_is_a_small_field_and_otherwise_fine(chest: Radiograph) -> None:
    assert changed(chest, lambda stored: np.pad(stored, ((0, 512), (512, 0)))) == [Reason.SMALL_FIELD]


@pytest.mark.parametrize(("empty_rows", "expected"), [(307, [Reason.LOOKS_UNLIKE_CHEST]), (306, [])])
@pytest.mark.parametrize("zero", [0, 128])  # black in unsigned pixels, grey in signed ones
def test_an_end_of_zeros_may_be_that_of_an_incomplete_copy(
    chest: Radiograph, zero: int, empty_rows: int, expected: list[Reason]
) -> None:
    signed = np.maximum(chest.stored, 1).astype(np.int16) - zero
    signed[-empty_rows:] = 0
    window = Window(128 - zero, 256)
    assert reasons(replace(chest, stored=signed, grey=GreyScale(bits_stored=16, voi=window))) == expected


def test_a_window_that_makes_all_bright_saturates(chest: Radiograph) -> None:
    assert Reason.SATURATED in reasons(replace(chest, grey=GreyScale(voi=Window(40, 40))))


def noisy(shape: tuple[int, int], std: float) -> Radiograph:
    """A ramp with an edge, as grey levels from 0 to 255 with noise of that standard deviation."""
    rows, columns = np.indices(shape)
    clean = 60 + 100 * columns / shape[1] + 50 * (rows > shape[0] // 2)
    noise = np.random.default_rng(0).normal(0, std, shape)
    return Radiograph(
        stored=(clean + noise).round().astype(np.uint8), grey=GreyScale(voi=Window(128, 256)), spacing_mm=None
    )


@pytest.mark.parametrize(
    ("shape", "averaged"), [((511, 400), 1), ((1024, 800), 2), ((1300, 1536), 3), ((128, 3000), 5)]
)
def test_noise_is_measured_as_a_network_sees_it(shape: tuple[int, int], averaged: int) -> None:
    """The standard deviation of a mean of n x n pixels is 1/n of theirs; rounding adds a little."""
    for std in (0.0, 2.0, 10.0):
        expected = np.hypot(std, 0.29) / averaged / 255
        assert noise_of(noisy(shape, std)) == pytest.approx(expected, rel=0.15, abs=0.3 / 255)


@pytest.mark.parametrize(("std", "is_noisy"), [(10, False), (20, True)])
def test_noise_that_hides_the_edge_of_a_lung_is_to_be_reviewed(
    chest: Radiograph, std: float, is_noisy: bool
) -> None:
    noise = np.random.default_rng(0).normal(0, std, chest.shape)
    found = changed(chest, lambda pixels: (pixels + noise).clip(0, 255).astype(np.uint8))
    assert (Reason.NOISY in found) is is_noisy
    assert (REVIEW_REASONS & set(found) != set()) is is_noisy


@pytest.mark.parametrize("shape", [(128, 20_000), (40_000, 128)])
def test_a_strip_too_narrow_for_a_measurement_has_no_noise(shape: tuple[int, int]) -> None:
    assert noise_of(noisy(shape, 20)) == 0


def test_a_black_middle_has_no_noise(chest: Radiograph) -> None:
    assert noise_of(replace(chest, stored=np.zeros_like(chest.stored))) == 0


@pytest.mark.parametrize(
    ("spacing_mm", "step", "coarse"),
    [
        ((1.6, 1.6), 1, True),
        ((1.4, 1.4), 1, False),
        ((0.4, 1.6), 1, True),
        (None, 4, True),  # 256 pixels over 400 mm are 1.6 mm wide
        (None, 2, False),
    ],
)
def test_a_pixel_of_more_than_1_5_mm_is_coarse(
    chest: Radiograph, spacing_mm: tuple[float, float] | None, step: int, coarse: bool
) -> None:
    seen = replace(chest, stored=chest.stored[::step, ::step], spacing_mm=spacing_mm)
    assert (Reason.LOW_RESOLUTION in reasons(seen)) == coarse


@pytest.mark.parametrize("step", [9, 16, 32, 60])
def test_a_turned_or_inverted_picture_is_warned_of_at_any_size(chest: Radiograph, step: int) -> None:
    small = chest.stored[::step, ::step]
    assert min(small.shape) < 128
    coarse = replace(chest, spacing_mm=(0.4 * step, 0.4 * step))
    always = [Reason.LOW_RESOLUTION, Reason.LOOKS_UNLIKE_CHEST]  # the latter by its pixels of 3.6 mm or more
    assert reasons(replace(coarse, stored=small)) == always
    turned, inverted = small[::-1], small.max() - small
    assert reasons(replace(coarse, stored=turned)) == [*always, Reason.LOOKS_TURNED]
    assert reasons(replace(coarse, stored=inverted)) == [*always, Reason.LOOKS_INVERTED]


@pytest.mark.parametrize("shape", [(8, 8), (15, 2000), (100, 3000), (120, 120), (16, 16), (128, 96)])
@pytest.mark.parametrize("spacing_mm", [None, (0.14, 0.14), (3.0, 3.0)])
def test_noise_is_reviewed_at_any_size(
    chest: Radiograph, shape: tuple[int, int], spacing_mm: tuple[float, float] | None
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert Reason.LOOKS_UNLIKE_CHEST in reasons(replace(chest, stored=noise, spacing_mm=spacing_mm))


@pytest.mark.parametrize(
    ("rows", "columns", "spacing_mm", "words"),
    [
        (1024, 1024, 0.1, ""),  # 102.4 mm
        (1024, 1024, 0.09, "it shows 92 x 92 mm by its pixel spacing, a chest needs 100"),
        (1024, 344, 0.4, ""),
        (1024, 340, 0.4, "one side is 3.0 times the other, more than 3"),
        (340, 1024, 0.4, "one side is 3.0 times the other, more than 3"),
        (15, 45, 2.5, "15 pixels are too few to tell a chest, 16 a side would do"),
        (16, 41, 2.5, ""),
        (160, 160, 2.5, ""),
        (160, 160, 2.6, "pixels of 2.6 mm are too coarse to show a pneumothorax"),
        (128, 128, None, "pixels of 3.1 mm are too coarse to show a pneumothorax"),
    ],
)
def test_a_chest_needs_a_size_at_which_it_can_be_told(
    chest: Radiograph, rows: int, columns: int, spacing_mm: float | None, words: str
) -> None:
    places = (np.arange(side) * 1024 // side for side in (rows, columns))
    spacing = None if spacing_mm is None else (spacing_mm, spacing_mm)
    scaled = replace(chest, stored=chest.stored[np.ix_(*places)], spacing_mm=spacing)
    found = dict(look_at(scaled))
    assert found.get(Reason.LOOKS_UNLIKE_CHEST, "") == words
    assert Reason.LOOKS_UNLIKE_CHEST in REVIEW_REASONS


def test_what_is_too_small_by_its_spacing_is_still_told_to_be_turned(chest: Radiograph) -> None:
    turned = replace(chest, stored=chest.stored[::-1], spacing_mm=(0.02, 0.02))
    assert reasons(turned) == [Reason.LOOKS_UNLIKE_CHEST, Reason.LOOKS_TURNED]


@pytest.mark.parametrize("border", [0.0, 1.0])
def test_black_and_white_borders_are_cut_off(border: float) -> None:
    picture = np.full((40, 50), 0.5, np.float32)
    padded = np.pad(picture, ((3, 0), (10, 7)), constant_values=border)
    assert lit_field(padded).shape == (40, 50)


def test_a_picture_of_which_nothing_would_be_left_stays_whole() -> None:
    assert lit_field(np.zeros((40, 50), np.float32)).shape == (40, 50)


@pytest.mark.parametrize("shape", [(128, 3000), (3000, 2500), (200, 200)])
def test_a_sample_has_its_shorter_side_from_128_to_255_pixels(shape: tuple[int, int]) -> None:
    picture = sample(Radiograph(stored=np.zeros(shape, np.uint8), grey=GreyScale()))
    assert 128 <= min(picture.shape) < 256


def test_reading_a_file_looks_at_it(chest: Radiograph, tmp_path: Path) -> None:
    path = tmp_path / "upside_down.png"
    Image.fromarray(chest.stored[::-1]).save(path)
    assert [reason for reason, _ in read_radiograph(path).warnings] == [Reason.LOOKS_TURNED]


@pytest.fixture(scope="module")
def real_chests(shared_data: Path) -> list[Radiograph]:
    paths = sorted((shared_data / "siim-acr").rglob("*.dcm"))[::10]
    return [read_radiograph(path) for path in paths]


def test_almost_no_real_chest_is_warned_of(real_chests: list[Radiograph]) -> None:
    warned = sum(bool(look_at(chest)) for chest in real_chests)
    assert warned <= 0.03 * len(real_chests)  # 0.5 % of all; these are a tenth of them


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_almost_every_turned_real_chest_is_warned_of(real_chests: list[Radiograph], turns: int) -> None:
    found = [changed(chest, lambda stored: np.rot90(stored, turns)) for chest in real_chests]
    assert np.mean([Reason.LOOKS_TURNED in each for each in found]) > 0.95


def test_almost_every_inverted_real_chest_is_warned_of(real_chests: list[Radiograph]) -> None:
    found = [changed(chest, lambda stored: 255 - stored) for chest in real_chests]
    assert np.mean([Reason.LOOKS_INVERTED in each for each in found]) > 0.95


@pytest.mark.parametrize(
    ("name", "is_human_chest"),
    [
        ("gdcm-CR-MONO1-10-chest.dcm", True),
        ("RG1_J2KI.dcm", True),
        ("dx_image.dcm", False),  # a dog
        ("RG3_J2KI.dcm", False),  # an ankle
        ("vlut_04.dcm", False),
    ],
)
def test_other_real_files_are_told_from_chests(shared_data: Path, name: str, is_human_chest: bool) -> None:
    acceptance = AcceptanceFilters(any_modality=True, any_view=True, any_body_part=True)
    radiograph = read_radiograph(shared_data / "dicom-variety" / name, acceptance=acceptance)
    found = {reason for reason, _ in radiograph.warnings}
    assert (Reason.LOOKS_UNLIKE_CHEST not in found) == is_human_chest


@pytest.mark.parametrize("shape", [(16, 16), (48, 32), (400, 300)])
def test_an_image_without_contrast_is_to_be_reviewed_at_any_size(shape: tuple[int, int]) -> None:
    blank = Radiograph(stored=np.full(shape, 100, dtype=np.uint8), grey=GreyScale(voi=Window(128, 256)))
    assert Reason.LOW_CONTRAST in REVIEW_REASONS.intersection(reason for reason, _ in look_at(blank))


def test_the_tag_of_a_turned_picture_decides_whether_it_looks_turned(chest: Radiograph) -> None:
    turned = np.ascontiguousarray(np.rot90(chest.stored))
    assert reasons(replace(chest, stored=turned)) == [Reason.LOOKS_TURNED]
    assert reasons(replace(chest, stored=turned, patient_orientation=("F", "R"))) == []
    assert reasons(replace(chest, patient_orientation=("F", "R"))) == [Reason.LOOKS_TURNED]
