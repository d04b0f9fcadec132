import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder

from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.dicom import (
    check_uids,
    is_calibrated,
    read_age,
    read_aspect,
    read_dicom,
    read_spacing,
)
from pneumoseg.transforms.reader.elements import Elements
from pneumoseg.transforms.reader.radiograph import RadiographError, read_radiograph
from pneumoseg.transforms.reader.reasons import Outcome, Reason, Warnings

MakeHeader = Callable[..., Elements]

WriteDicom = Callable[..., Path]
PIXELS = np.arange(16 * 24, dtype=np.uint16).reshape(16, 24)
ALL_KINDS = AcceptanceFilters(any_modality=True, any_view=True, any_body_part=True)

BATCH_ONLY = {"E015_dup_same_pixels.dcm", "E016_dup_other_pixels.dcm"}  # one file by itself is fine
OTHER_REASONS = {  # allowed by the notes of index.csv
    "C060_rows_65535.dcm": Reason.TOO_LARGE,
    "C065_frames_999999.dcm": Reason.MULTIFRAME,
}
NOT_IN_THE_FILE = {"A039_wrong_meta_sop.dcm"}  # both UIDs are the same there, so there is nothing to warn of


@pytest.mark.slow
def test_importing_the_reader_loads_neither_torch_nor_monai() -> None:
    code = (
        "import sys, pneumoseg.transforms.reader.dicom, pneumoseg.transforms.reader.radiograph;"
        "print({'torch', 'monai', 'skimage', 'scipy'} & set(sys.modules))"
    )
    namespace = Path(__file__).parents[4] / ".namespace"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(namespace)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"


def test_the_header_is_told_in_plain_values(write_dicom: WriteDicom) -> None:
    path = write_dicom(PIXELS, ImageLaterality="U", BurnedInAnnotation="NO")
    radiograph = read_dicom(path.read_bytes(), AcceptanceFilters())  # the picture is too small for a chest
    assert radiograph.shape == (16, 24)
    assert radiograph.sop_instance_uid == "1.2.3.4"
    assert radiograph.study_instance_uid == "1.2.3"
    assert radiograph.series_instance_uid == "1.2.3.5"
    assert (radiograph.patient_id, radiograph.sex, radiograph.age_years) == ("P1", "F", 58)
    assert (radiograph.view, radiograph.laterality, radiograph.body_part) == ("PA", "U", "CHEST")
    assert (radiograph.modality, radiograph.photometric_interpretation) == ("DX", "MONOCHROME2")
    assert (radiograph.bits_stored, radiograph.transfer_syntax) == (16, "1.2.840.10008.1.2.1")
    assert radiograph.spacing_mm == (0.25, 0.25)
    assert not radiograph.burned_in
    assert radiograph.warnings == ()


@pytest.mark.parametrize(
    ("charset", "description"),
    [
        ("ISO_IR 192", "胸部侧位"),
        ("GB18030", "胸部侧位"),
        (["", "ISO 2022 IR 87"], "胸部側面"),
        ("ISO_IR 192", "ОГК БОКОВАЯ"),
        ("ISO_IR 144", "ОГК БОКОВАЯ"),
    ],
)
def test_a_lateral_view_is_skipped_in_every_character_set(
    write_dicom: WriteDicom, charset: str | list[str], description: str
) -> None:
    path = write_dicom(PIXELS, SpecificCharacterSet=charset, SeriesDescription=description)
    with pytest.raises(RadiographError, match="WRONG_VIEW"):
        read_radiograph(path)


@pytest.mark.parametrize(
    ("charset", "part"),
    [
        (["", "ISO 2022 IR 87"], "胸部"),
        ("GB18030", "胸部"),
        ("ISO_IR 144", "Грудная клетка"),
        ("GB18030", "手"),
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_the_code_of_a_body_part_is_read_in_the_character_set_of_its_item_or_of_the_file(
    write_dicom: WriteDicom, charset: str | list[str], part: str, own: bool
) -> None:
    item = Dataset()
    item.CodeMeaning = part
    if own:
        item.SpecificCharacterSet = charset
    path = write_dicom(
        PIXELS,
        SpecificCharacterSet="ISO_IR 100" if own else charset,
        BodyPartExamined=None,
        AnatomicRegionSequence=[item],
    )
    if part == "手":
        with pytest.raises(RadiographError, match="WRONG_BODY_PART"):
            read_radiograph(path)
    else:
        assert read_radiograph(path).body_part == part.upper()


def test_an_image_is_not_transposed(write_dicom: WriteDicom) -> None:
    corner = np.zeros((16, 24), dtype=np.uint16)
    corner[0, 4:] = 1000  # the top row is bright
    corner[0, 23] = 2000  # its right end is brightest
    radiograph = read_radiograph(write_dicom(corner))
    assert radiograph.values.shape == radiograph.image.shape == (16, 24)
    assert radiograph.values.argmax() == 23
    assert (radiograph.image[0, 4:] == 1).all()
    assert (radiograph.image[1:] == 0).all()


def test_burned_in_text_is_told_of_unless_it_is_expected(write_dicom: WriteDicom) -> None:
    path = write_dicom(PIXELS, BurnedInAnnotation="YES")
    told, expected = (
        read_dicom(path.read_bytes(), AcceptanceFilters()),
        read_dicom(path.read_bytes(), AcceptanceFilters(allow_burned_in=True)),
    )
    assert told.burned_in
    assert expected.burned_in
    assert [reason for reason, _ in told.warnings] == [Reason.BURNED_IN]
    assert expected.warnings == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Modality": "CT"}, Reason.WRONG_MODALITY),
        ({"ViewPosition": "LL"}, Reason.WRONG_VIEW),
        ({"BodyPartExamined": "HAND"}, Reason.WRONG_BODY_PART),
    ],
    ids=str,
)
def test_what_is_not_ours_is_skipped(
    write_dicom: WriteDicom, changes: dict[str, str | None], reason: Reason
) -> None:
    with pytest.raises(RadiographError) as caught:
        read_radiograph(write_dicom(PIXELS, **changes))
    assert caught.value.reason is reason
    assert reason.outcome is Outcome.SKIPPED


IMAGE_CLASS, REPORT_CLASS = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.88.11"


@pytest.mark.parametrize(
    ("sop_class", "rows", "outcome"),
    [
        (REPORT_CLASS, None, Outcome.SKIPPED),
        (REPORT_CLASS, 16, Outcome.REFUSED),
        (IMAGE_CLASS, None, Outcome.REFUSED),
    ],
)
def test_an_image_that_ends_before_its_pixels_is_refused_and_a_report_is_skipped(
    write_dicom: WriteDicom, sop_class: str, rows: int | None, outcome: Outcome
) -> None:
    path = write_dicom(PIXELS, SOPClassUID=sop_class, Rows=rows, PixelData=None)
    with pytest.raises(RadiographError, match="NO_PIXELS") as caught:
        read_radiograph(path)
    assert caught.value.outcome is outcome


def test_no_message_tells_who_the_patient_is(
    write_dicom: WriteDicom, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_dicom(PIXELS, PatientID="SECRET", PatientName="SECRET", SpecificCharacterSet="ISO_IR 100")
    data = path.read_bytes().replace(b"ISO_IR 100", b"SECRET_SET").replace(b"058Y", b"SECR")
    path.write_bytes(data)
    radiograph = read_radiograph(path)
    path.write_bytes(data[:-9])
    with pytest.raises(RadiographError) as caught:
        read_radiograph(path)
    assert "SECR" not in str(caught.value) + str(radiograph.warnings) + caplog.text


def test_every_hazard_gets_its_pixels_or_its_reason(real_data: Path) -> None:
    folder = real_data / "bad-dicom"
    with (folder / "index.csv").open() as rows:
        wrong = {row["file"]: found for row in csv.DictReader(rows) if (found := judge(folder, row))}
    assert wrong == {}


def judge(folder: Path, row: dict[str, str]) -> str:
    """Say what is wrong with the answer to one file of the index; nothing where it is right."""
    accepted = row["expect"].startswith("accept") or row["file"] in BATCH_ONLY
    try:
        radiograph = read_radiograph(folder / row["file"])
    except RadiographError as error:
        allowed = {row["reason"], OTHER_REASONS.get(row["file"])}
        skipped = error.reason.outcome is Outcome.SKIPPED
        right = not accepted and error.reason in allowed and skipped == (row["expect"] == "skip")
        return "" if right else str(error)
    if not accepted:
        return "accepted"
    given = {reason for reason, _ in radiograph.warnings}
    if row["expect"] == "accept_warn" and row["reason"] not in given and row["file"] not in NOT_IN_THE_FILE:
        return f"warned of {given}"
    if not row["expected_npy"]:
        return ""
    expected = np.load(folder / row["expected_npy"])
    if radiograph.values.shape != expected.shape or radiograph.values.dtype != expected.dtype:
        return f"{radiograph.values.dtype} {radiograph.values.shape}"
    tolerance = 2 if "tolerance 2" in row["note"] else 0
    return "" if np.abs(radiograph.values - expected).max() <= tolerance else "other values"


def test_real_radiographs_have_the_pixels_that_pillow_decodes(real_data: Path) -> None:
    paths = sorted((real_data / "siim-acr" / "sample-images").glob("*.dcm"))
    assert len(paths) == 10
    for path in paths:
        radiograph = read_radiograph(path)
        dataset = dcmread(path)
        decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
        pixels, _ = decoder.as_array(dataset, decoding_plugin="pillow")
        assert (radiograph.shape, radiograph.warnings) == ((1024, 1024), ())
        np.testing.assert_array_equal(radiograph.values, pixels)
        assert radiograph.sop_instance_uid == path.stem
        assert radiograph.age_years is not None


def test_one_image_in_two_lossless_encodings_is_one_image(real_data: Path) -> None:
    folder = real_data / "dicom-variety"
    j2k, jls = (
        read_radiograph(folder / f"RG3_{kind}.dcm", acceptance=ALL_KINDS) for kind in ("J2KR", "JLSL")
    )
    np.testing.assert_array_equal(j2k.values, jls.values)
    np.testing.assert_array_equal(j2k.image, jls.image)
    assert j2k.pixel_sha256 == jls.pixel_sha256


def test_the_lossy_encoding_of_an_image_comes_close(real_data: Path) -> None:
    folder = real_data / "dicom-variety"
    lossless, lossy = (
        read_radiograph(folder / f"RG3_{kind}.dcm", acceptance=ALL_KINDS) for kind in ("J2KR", "J2KI")
    )
    assert np.abs(lossless.values - lossy.values).mean() < 8  # of 1023, at 30 to 1


def test_files_of_other_kinds_are_read_with_the_acceptance_filters_open(real_data: Path) -> None:
    folder = real_data / "dicom-variety"
    with (folder / "index.csv").open() as rows:
        for row in csv.DictReader(rows):
            radiograph = read_radiograph(folder / row["file"], acceptance=ALL_KINDS)
            assert radiograph.shape == (int(row["rows"]), int(row["cols"]))
            assert radiograph.bits_stored == int(row["bits_stored"])
            assert radiograph.photometric_interpretation == row["photometric"]
            assert radiograph.image.min() >= 0
            assert radiograph.image.max() <= 1
            assert radiograph.image.std() > 0.05


def test_an_age_is_full_years_or_nothing(header: MakeHeader) -> None:
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
        assert read_age(header(PatientAge=text)) == years


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2", "0.0", "1." + "9" * 62])
def test_a_uid_is_kept(header: MakeHeader, uid: str) -> None:
    assert header(SOPInstanceUID=uid).uid("SOPInstanceUID") == uid


def test_what_could_be_a_path_is_no_uid(header: MakeHeader) -> None:
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
        elements = header(SOPInstanceUID=uid)
        assert elements.uid("SOPInstanceUID") is None
        check_uids(elements, header(), warnings)
        assert [reason for reason, _ in warnings] == [Reason.BAD_UID]
        assert warnings[0][1].isprintable()


def test_two_uids_that_differ_are_told_of(header: MakeHeader) -> None:
    warnings: Warnings = []
    meta = header(MediaStorageSOPInstanceUID="1.2.4")
    check_uids(header(SOPInstanceUID="1.2.3"), meta, warnings)
    assert [reason for reason, _ in warnings] == [Reason.UID_MISMATCH]


def test_spacing_is_calibrated_before_detector_before_unknown(header: MakeHeader) -> None:
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
    for elements, spacing_mm, reasons in table:
        warnings: Warnings = []
        found = read_spacing(header(**elements), warnings)
        assert found == (None if spacing_mm is None else pytest.approx(spacing_mm))
        assert [reason for reason, _ in warnings] == reasons


def test_a_spacing_is_calibrated_where_the_header_says_so(header: MakeHeader) -> None:
    """DICOM PS3.3 10.7.1.3."""
    own, detector = {"PixelSpacing": "0.2\\0.2"}, {"ImagerPixelSpacing": "0.2\\0.2"}
    table: list[tuple[dict[str, str], bool]] = [
        ({}, False),
        (own, False),
        (detector, False),
        ({**own, **detector}, False),
        ({**own, "ImagerPixelSpacing": "0.25\\0.25"}, True),
        ({**own, "PixelSpacingCalibrationType": "GEOMETRY"}, True),
        ({**own, **detector, "PixelSpacingCalibrationType": "FIDUCIAL"}, True),
        ({**detector, "PixelSpacingCalibrationType": "FIDUCIAL"}, False),
        ({**detector, "EstimatedRadiographicMagnificationFactor": "1.1"}, True),
        ({**detector, "EstimatedRadiographicMagnificationFactor": "0"}, False),
        ({"PixelSpacing": "0\\0", **detector}, False),
    ]
    for elements, expected in table:
        assert is_calibrated(header(**elements)) == expected, elements


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
    header: MakeHeader,
    spacing_mm: tuple[float, float] | None,
    ratio: str,
    aspect: float,
    told: bool,
) -> None:
    warnings: Warnings = []
    found = read_aspect(header(PixelAspectRatio=ratio), spacing_mm, warnings)
    assert found == pytest.approx(aspect)
    assert [reason for reason, _ in warnings] == ([Reason.NON_SQUARE] if told else [])


def test_a_view_by_its_code_needs_no_known_language(write_dicom: WriteDicom) -> None:
    view = Dataset()
    # left lateral
    view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = (
        "399173006",
        "SCT",
        "a gauche",
    )
    with pytest.raises(RadiographError, match="WRONG_VIEW"):
        read_radiograph(write_dicom(PIXELS, ViewPosition=None, ViewCodeSequence=[view]))
    view.CodeValue = "272479007"
    assert read_radiograph(write_dicom(PIXELS, ViewPosition=None, ViewCodeSequence=[view])).view == "PA"


def test_a_file_that_another_element_names_lateral_is_skipped(write_dicom: WriteDicom) -> None:
    path = write_dicom(PIXELS, SeriesDescription="CHEST LATERAL")
    with pytest.raises(RadiographError, match="SeriesDescription names a lateral view"):
        read_radiograph(path)
    assert read_radiograph(path, acceptance=ALL_KINDS).view == "PA"
