from collections.abc import Callable
from typing import Any

import pytest
from pydicom.dataset import Dataset

from pneumoseg.transforms.reader.acceptance import (
    AcceptanceFilters,
    read_body_part,
    read_view,
    show,
)
from pneumoseg.transforms.reader.elements import Elements
from pneumoseg.transforms.reader.reasons import RadiographError, Reason

MakeHeader = Callable[..., Elements]


@pytest.mark.parametrize("view", ["", "AP", "PA", "AP AXIAL", "PA_ERECT", "FRONTAL", "POSTERO-ANTERIOR"])
def test_frontal_and_unknown_views_pass(view: str) -> None:
    AcceptanceFilters().check_view(view)


@pytest.mark.parametrize("view", ["LL", "RL", "LATERAL", "LAO", "AP LLD", "PA OBLIQUE", "MLO", "0", "GAP"])
def test_other_views_are_skipped(view: str) -> None:
    with pytest.raises(RadiographError) as caught:
        AcceptanceFilters().check_view(view)
    assert caught.value.reason is Reason.WRONG_VIEW


@pytest.mark.parametrize("part", ["", "CHEST", "PORT CHEST", "THORAX", "CHEST_ABDOMEN", "LUNG"])
def test_chests_and_unknown_parts_pass(part: str) -> None:
    AcceptanceFilters().check_body_part(part)


@pytest.mark.parametrize("part", ["HAND", "EXTREMITY", "ABDOMEN", "SKULL"])
def test_other_body_parts_are_skipped(part: str) -> None:
    with pytest.raises(RadiographError) as caught:
        AcceptanceFilters().check_body_part(part)
    assert caught.value.reason is Reason.WRONG_BODY_PART


@pytest.mark.parametrize("modality", ["CT", "SEG", "SR", "OT", "MG", "XA"])
def test_what_is_no_radiograph_is_skipped(modality: str) -> None:
    with pytest.raises(RadiographError) as caught:
        AcceptanceFilters().check_modality(modality)
    assert caught.value.reason is Reason.WRONG_MODALITY


def test_the_flags_open_modality_view_and_body_part() -> None:
    acceptance = AcceptanceFilters(any_modality=True, any_view=True, any_body_part=True)
    acceptance.check_modality("CT")
    acceptance.check_view("LL")
    acceptance.check_body_part("HAND")


def test_the_largest_image_is_the_limit_itself() -> None:
    AcceptanceFilters(max_pixels=400).check_size(20, 20)
    with pytest.raises(RadiographError, match="TOO_LARGE"):
        AcceptanceFilters(max_pixels=399).check_size(20, 20)


@pytest.mark.parametrize("shape", [(1, 1), (96, 1), (7, 96), (96, 7)])
def test_a_side_below_eight_is_too_small(shape: tuple[int, int]) -> None:
    with pytest.raises(RadiographError, match="TOO_SMALL"):
        AcceptanceFilters().check_size(*shape)


def test_quoted_text_is_short_and_sends_no_control_characters() -> None:
    assert show("LL") == "'LL'"
    assert show("\x1b[31m\n\u202ex") == r"'\x1b[31m\n\u202ex'"
    assert len(show("A" * 60000)) < 50


@pytest.mark.parametrize(
    ("meaning", "view"),
    [("postero-anterior", "PA"), ("antero-posterior", "AP"), ("left lateral", "LEFT LATERAL")],
)
def test_the_view_may_be_a_code(header: MakeHeader, meaning: str, view: str) -> None:
    assert read_view(header(ViewCodeSequence=meaning)) == view


def test_the_body_part_may_be_a_code(header: MakeHeader) -> None:
    assert read_body_part(header(AnatomicRegionSequence="Chest")) == "CHEST"
    assert read_body_part(header(BodyPartExamined="hand")) == "HAND"


def test_a_damaged_code_sequence_tells_nothing() -> None:
    class Damaged(Elements):
        def items(self, keyword: str) -> Any:
            raise OSError(keyword)

    assert read_view(Damaged(Dataset())) == ""
