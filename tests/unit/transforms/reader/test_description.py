from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from pneumoseg.transforms.reader import description
from pneumoseg.transforms.reader.elements import Elements
from pneumoseg.transforms.reader.reasons import Reason, Warnings


class Header(Elements):
    """Elements given as their text."""

    def __init__(self, **texts: str) -> None:
        super().__init__(Dataset())
        object.__setattr__(self, "texts", texts)

    texts: dict[str, str]

    def raw(self, keyword: str) -> bytes | None:
        text = self.texts.get(keyword)
        return None if text is None else text.encode()


def with_code(keyword: str, meaning: str) -> Elements:
    item, dataset = Dataset(), Dataset()
    item.CodeMeaning = meaning
    setattr(dataset, keyword, [item])
    data = BytesIO()
    dcmwrite(data, dataset, implicit_vr=False, little_endian=True)
    return Elements(read_dataset(BytesIO(data.getvalue()), is_implicit_VR=False, is_little_endian=True))


def test_an_age_is_full_years_or_nothing() -> None:
    table: list[tuple[str, int | None]] = [
        ("058Y", 58),
        ("58", 58),
        ("006M", 0),
        ("018M", 1),
        ("100W", 1),
        ("300D", 0),
        ("000Y", 0),
        ("413Y", None),
        ("", None),
        ("Y", None),
        ("-5Y", None),
        ("58 years", None),
        ("5.5", None),
    ]
    for text, years in table:
        assert description.read_age(Header(PatientAge=text)) == years


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2", "0.0", "1." + "9" * 62])
def test_a_uid_is_kept(uid: str) -> None:
    assert description.read_uid(Header(SOPInstanceUID=uid), "SOPInstanceUID") == uid


def test_what_could_be_a_path_is_no_uid() -> None:
    for uid in [
        "",
        "CON",
        "../../x",
        "1..2",
        "1.2.",
        "1.02",
        "1.2;rm",
        "1.2\0.3",
        "1.2\n",
        "1." + "9" * 63,
        "1",
    ]:
        warnings: Warnings = []
        header = Header(SOPInstanceUID=uid)
        assert description.read_uid(header, "SOPInstanceUID") is None
        description.check_uids(header, Header(), warnings)
        assert [reason for reason, _ in warnings] == [Reason.BAD_UID]
        assert warnings[0][1].isprintable()


def test_two_uids_that_differ_are_told_of() -> None:
    warnings: Warnings = []
    meta = Header(MediaStorageSOPInstanceUID="1.2.4")
    description.check_uids(Header(SOPInstanceUID="1.2.3"), meta, warnings)
    assert [reason for reason, _ in warnings] == [Reason.UID_MISMATCH]


@pytest.mark.parametrize(
    ("meaning", "view"),
    [("postero-anterior", "PA"), ("antero-posterior", "AP"), ("left lateral", "LEFT LATERAL")],
)
def test_the_view_may_be_a_code(meaning: str, view: str) -> None:
    assert description.read_view(with_code("ViewCodeSequence", meaning)) == view


def test_the_body_part_may_be_a_code() -> None:
    assert description.read_body_part(with_code("AnatomicRegionSequence", "Chest")) == "CHEST"
    assert description.read_body_part(Header(BodyPartExamined="hand")) == "HAND"


def test_spacing_is_calibrated_before_detector_before_unknown() -> None:
    table: list[tuple[dict[str, str], tuple[float, float] | None, list[Reason]]] = [
        ({"PixelSpacing": "0.3\\0.15"}, (0.3, 0.15), []),
        ({"PixelSpacing": "0.3\\0.15", "ImagerPixelSpacing": "0.6\\0.6"}, (0.3, 0.15), []),
        ({"ImagerPixelSpacing": "0.3\\0.15"}, (0.3, 0.15), []),
        (
            {"ImagerPixelSpacing": "0.3\\0.15", "EstimatedRadiographicMagnificationFactor": "1.5"},
            (0.2, 0.1),
            [],
        ),
        (
            {"ImagerPixelSpacing": "0.3\\0.15", "EstimatedRadiographicMagnificationFactor": "0"},
            (0.3, 0.15),
            [],
        ),
        ({}, None, [Reason.NO_SPACING]),
        ({"PixelSpacing": ""}, None, [Reason.NO_SPACING]),
        ({"PixelSpacing": "0.000\\0.000"}, None, [Reason.BAD_SPACING]),
        ({"PixelSpacing": "-0.1\\0.1"}, None, [Reason.BAD_SPACING]),
        ({"PixelSpacing": "abc"}, None, [Reason.BAD_SPACING]),
        ({"PixelSpacing": "nan\\nan"}, None, [Reason.BAD_SPACING]),
        ({"PixelSpacing": "0.1"}, None, [Reason.BAD_SPACING]),
        ({"PixelSpacing": "1000\\1000"}, None, [Reason.BAD_SPACING]),
        ({"PixelSpacing": "1e-9\\1e-9"}, None, [Reason.BAD_SPACING]),
        ({"PixelSpacing": "0\\0", "ImagerPixelSpacing": "0.2\\0.2"}, (0.2, 0.2), [Reason.BAD_SPACING]),
    ]
    for header, spacing_mm, reasons in table:
        warnings: Warnings = []
        found = description.read_spacing(Header(**header), warnings)
        assert found == (None if spacing_mm is None else pytest.approx(spacing_mm))
        assert [reason for reason, _ in warnings] == reasons


@pytest.mark.parametrize(
    ("spacing_mm", "ratio", "aspect", "told"),
    [
        ((0.3, 0.15), "", 2.0, True),
        (None, "2\\1", 2.0, True),
        (None, "300\\150", 2.0, True),
        ((0.2, 0.2), "2\\1", 1.0, True),  # they contradict each other: the spacing is used
        ((1.2, 1.2012), "", 1.2 / 1.2012, False),  # a rounded square
        (None, "1\\1", 1.0, False),
        (None, "", 1.0, False),
    ],
)
def test_pixels_that_are_not_square_are_told_of(
    spacing_mm: tuple[float, float] | None,
    ratio: str,
    aspect: float,
    told: bool,
) -> None:
    warnings: Warnings = []
    found = description.read_aspect(Header(PixelAspectRatio=ratio), spacing_mm, warnings)
    assert found == pytest.approx(aspect)
    assert [reason for reason, _ in warnings] == ([Reason.NON_SQUARE] if told else [])


def test_a_damaged_code_sequence_tells_nothing() -> None:
    class Damaged(Header):
        def items(self, keyword: str) -> Any:
            raise OSError(keyword)

    assert description.read_view(Damaged()) == ""


def test_the_orientation_is_two_directions_or_none() -> None:
    table: list[tuple[str, tuple[str, str] | None]] = [
        ("L\\F", ("L", "F")),
        ("r \\ f", ("R", "F")),
        ("LF\\FAR", ("LF", "FAR")),
        ("A\\F", ("A", "F")),
        ("", None),
        ("L", None),
        ("L\\F\\P", None),
        ("LR\\F", None),
        ("LEFT\\F", None),
        ("L\\", None),
    ]
    for text, orientation in table:
        assert description.read_orientation(Header(PatientOrientation=text)) == orientation
