from importlib.metadata import version

import numpy as np
from tests.conftest import SHAPE
from tests.unit.pipeline.results.dicom.conftest import ORIGIN, make_mask

from pneumoseg.pipeline.results.dicom.caption import caption
from pneumoseg.transforms.measurements import measure
from pneumoseg.transforms.reader.reasons import Reason


def words(*, positive: bool = True, warned_of: tuple[Reason, ...] = ()) -> str:
    measured = measure(
        make_mask(positive=positive), probability=0.75, spacing_mm=None, patient_orientation=("L", "F"),
        warned_of=warned_of,
    )  # fmt: skip
    return " ".join(caption(measured, ORIGIN))


def test_a_caption_states_result_side_probability_product_version_and_purpose() -> None:
    told = words()
    for part in (
        "Pneumothorax",
        "both halves",
        "0.75",
        "pneumoseg",
        version("pneumoseg"),
        "not for diagnosis",
    ):
        assert part in told


def test_a_caption_of_a_negative_image_begins_with_that() -> None:
    assert words(positive=False).startswith("No pneumothorax")


def test_warnings_are_in_the_caption_in_words() -> None:
    for reason in (Reason.LOOKS_TURNED, Reason.SATURATED, Reason.LOW_RESOLUTION):
        assert words(warned_of=(reason,)) != words()
        assert reason not in words(warned_of=(reason,))


def test_a_result_to_be_reviewed_says_so_and_is_not_negative() -> None:
    told = words(positive=False, warned_of=(Reason.LOOKS_TURNED,))
    assert "To be reviewed by a person" in told
    assert not told.startswith("No pneumothorax")


def test_an_empty_image_has_a_caption() -> None:
    measured = measure(np.zeros(SHAPE, np.uint8), probability=0, spacing_mm=None, patient_orientation=None)
    assert all(caption(measured, ORIGIN))
