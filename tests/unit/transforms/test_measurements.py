import numpy as np
import pytest
from skimage.draw import polygon2mask

from pneumoseg.transforms.measurements import MAX_POINTS, Measurements, measure, outlines, probability_text
from pneumoseg.transforms.reader.reasons import Reason

SHAPE = (20, 40)


def mask_of(*blocks: tuple[slice, slice]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    for block in blocks:
        mask[block] = 1
    return mask


LEFT_HALF, RIGHT_HALF = (slice(2, 8), slice(3, 13)), (slice(10, 14), slice(30, 34))


def measured(
    *blocks: tuple[slice, slice],
    spacing_mm: tuple[float, float] | None = (0.5, 0.25),
    orientation: tuple[str, str] | None = ("L", "F"),
) -> Measurements:
    return measure(mask_of(*blocks), probability=0.8, spacing_mm=spacing_mm, patient_orientation=orientation)


def test_lengths_and_areas_take_the_spacing_of_their_direction() -> None:
    found = measured(LEFT_HALF)  # 6 rows of 0.5 mm, 10 columns of 0.25 mm
    assert (found.area_px, found.area_mm2) == (60, 7.5)
    assert (found.width_px, found.width_mm) == (10, 2.5)
    assert (found.height_px, found.height_mm) == (6, 3.0)


def test_components_come_largest_first() -> None:
    found = measured(RIGHT_HALF, LEFT_HALF)
    assert [component.area_px for component in found.components] == [60, 16]
    assert [component.box for component in found.components] == [(2, 3, 8, 13), (10, 30, 14, 34)]
    assert found.area_px == 76


def test_pixels_that_touch_at_a_corner_are_one_component() -> None:
    assert len(measured((slice(2, 4), slice(2, 4)), (slice(4, 6), slice(4, 6))).components) == 1


def test_the_width_is_the_longest_run_and_does_not_bridge_a_gap() -> None:
    # a U: 12 columns wide, but only 5 side by side above its bottom, which is 2 rows of 12; then without it
    arms = (slice(2, 8), slice(2, 7)), (slice(2, 8), slice(9, 14))
    assert measured(*arms, (slice(8, 10), slice(2, 14))).width_px == 12
    assert measured(*arms).width_px == 5
    assert measured(*arms).height_px == 6


@pytest.mark.parametrize(
    ("orientation", "sides"),
    [
        # columns lead to the left: the picture's left is the patient's right
        (("L", "F"), ["right", "left"]),
        (("R", "F"), ["left", "right"]),
        # turned by a quarter: the picture's upper half is the patient's right
        (("F", "L"), ["right", "left"]),
        (("H", "R"), ["left", "right"]),
        (("LF", "FR"), ["right", "left"]),
        (("A", "F"), [None, None]),  # a lateral view
        (None, ["right", "left"]),
    ],
)
def test_the_side_is_that_of_the_patient(orientation: tuple[str, str] | None, sides: list[str]) -> None:
    found = measured(LEFT_HALF, (slice(12, 16), slice(30, 34)), orientation=orientation)
    assert [component.side for component in found.components] == sides
    assert found.side == ("both" if sides[0] else None)


def test_an_assumed_side_is_told() -> None:
    assert measured(LEFT_HALF).side_basis == "PatientOrientation"
    assert "Side assumed" not in measured(LEFT_HALF).sentence
    assert measured(LEFT_HALF, orientation=None).side_basis.startswith("assumed: the image is shown as usual")
    assert "Side assumed" in measured(LEFT_HALF, orientation=None).sentence


def test_without_spacing_there_are_no_millimetres_and_the_sentence_says_so() -> None:
    found = measured(LEFT_HALF, spacing_mm=None)
    assert (found.area_mm2, found.width_mm, found.height_mm) == (None, None, None)
    assert found.components[0].area_mm2 is None
    assert "millimetres are not given" in found.sentence
    assert " mm" not in found.sentence


def test_the_sentence_is_plain() -> None:
    assert measured(LEFT_HALF).sentence == (
        "Pneumothorax suspected (probability 0.80): 1 area in the half of the image that is the patient's right, "
        "8 mm2, at most 2.5 mm wide at the detector."
    )
    assert measured().sentence == "No pneumothorax was found (probability 0.80)."


def test_an_empty_mask_has_no_side_and_no_area() -> None:
    found = measured()
    assert (found.components, found.area_px, found.area_mm2, found.side) == ((), 0, 0.0, None)


def test_an_outline_has_points_only_where_it_turns() -> None:
    mask = np.zeros((60, 40), dtype=np.uint8)
    mask[10:50, 5:30] = 1
    (line,) = outlines(mask)
    assert len(line) <= 9  # each corner of the rectangle is cut, and the line is closed


@pytest.mark.slow
def test_an_outline_has_no_more_points_than_an_element_of_dicom_holds() -> None:
    """A comb of 2,000 teeth has 8,003 corners, each of which is cut."""
    mask = np.zeros((60, 4000), dtype=np.uint8)
    mask[40:50] = 1
    mask[10:40, ::2] = 1
    (line,) = outlines(mask)
    columns, rows = line.T
    enclosed = abs(np.sum(columns[:-1] * rows[1:] - columns[1:] * rows[:-1])) / 2  # the shoelace formula
    assert 2000 < len(line) <= MAX_POINTS
    np.testing.assert_array_equal(line[0], line[-1])
    assert enclosed == pytest.approx(mask.sum(), rel=0.05)


def test_each_outline_is_closed_and_gives_its_component_back_when_filled() -> None:
    rng = np.random.default_rng(0)
    mask = (rng.random(SHAPE) < 0.3).astype(np.uint8)
    filled = np.zeros(SHAPE, dtype=bool)
    for line, component in zip(
        outlines(mask),
        measure(mask, probability=1, spacing_mm=None, patient_orientation=None).components,
        strict=True,
    ):
        np.testing.assert_array_equal(line[0], line[-1])
        top, left, bottom, right = component.box
        assert (line.min(axis=0) >= (left, top)).all()
        assert (line.max(axis=0) <= (right, bottom)).all()
        filled |= polygon2mask(SHAPE, line[:, ::-1] - 0.5)
    assert filled[mask == 1].all()
    # what is filled beyond the mask are holes: they touch no pixel outside of the filled area but the mask
    assert filled.sum() - mask.sum() < 0.1 * mask.size


def test_the_sentence_tells_what_puts_the_result_in_doubt() -> None:
    def sentence(*warned_of: Reason, mask: tuple[slice, slice] | None = None) -> str:
        blocks = [mask] if mask else []
        return measure(
            mask_of(*blocks), probability=0.1, spacing_mm=None, patient_orientation=None, warned_of=warned_of
        ).sentence

    plain, outlined = sentence(Reason.NO_SPACING), sentence(mask=LEFT_HALF)
    coarse = "since the image is too coarse to show the edge of a lung."
    assert sentence(Reason.LOW_RESOLUTION) == f"{plain} In doubt, {coarse}"
    review = " To be reviewed by a person, since the image looks turned, looks inverted."
    turned = Reason.LOOKS_INVERTED, Reason.NO_SPACING, Reason.LOOKS_TURNED
    assert sentence(*turned) == (f"Indeterminate: no pneumothorax was outlined (probability 0.10).{review}")
    assert sentence(*turned, mask=LEFT_HALF) == outlined + review


def test_width_and_height_follow_the_patient_on_a_rotated_image() -> None:
    # 6 rows of 0.5 mm lead to the left, 10 columns to the feet
    found = measured(LEFT_HALF, orientation=("F", "L"))
    assert (found.width_px, found.width_mm) == (6, 3.0)
    assert (found.height_px, found.height_mm) == (10, 2.5)
    assert found.components[0].box == (2, 3, 8, 13)
    assert (found.components[0].width_mm, found.components[0].height_mm) == (3.0, 2.5)


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (0.99996, "> 0.99"), (1.0, "> 0.99"), (0.9951, "> 0.99"), (0.9949, "0.99"), (0.5, "0.50"), (0.0051, "0.01"),
        (0.0049, "< 0.01"), (0.00004, "< 0.01"), (0.0, "< 0.01"),
    ],
)  # fmt: skip
def test_a_probability_is_never_rounded_to_certainty(probability: float, text: str) -> None:
    assert probability_text(probability) == text
    found = measure(mask_of(), probability=probability, spacing_mm=None, patient_orientation=None)
    assert found.sentence == f"No pneumothorax was found (probability {text})."


def test_millimetres_are_those_at_the_detector_unless_the_spacing_is_calibrated() -> None:
    mask = mask_of((slice(2, 6), slice(2, 6)))
    for calibrated, spacing_mm, basis in (
        (True, (1.0, 1.0), "calibrated"),
        (False, (1.0, 1.0), "at the detector"),
        (False, None, "unknown"),
    ):
        found = measure(
            mask, probability=0.5, spacing_mm=spacing_mm, is_calibrated=calibrated, patient_orientation=None
        )
        assert found.spacing_basis == basis
        assert ("at the detector" in found.sentence) == (basis == "at the detector")
