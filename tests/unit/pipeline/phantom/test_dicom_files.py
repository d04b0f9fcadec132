"""Phantoms as files: tags, encodings, and the picture that is read back."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import config

from pneumoseg.pipeline.phantom import Phantom, render_phantom
from pneumoseg.pipeline.phantom.dicom_files import Encoding, write_dicom
from pneumoseg.transforms.reader.radiograph import read_radiograph

ENCODINGS: list[Encoding] = ["jpeg", "monochrome1", "native8", "native16"]


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return render_phantom(11, size=128)


@pytest.fixture(scope="module")
def files(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> dict[Encoding, Path]:
    folder = tmp_path_factory.mktemp("dicom")
    return {kind: write_dicom(phantom, folder, name=kind, encoding=kind) for kind in ENCODINGS}


@pytest.mark.parametrize("kind", ENCODINGS)
def test_the_tags_say_that_it_is_synthetic(files: dict[Encoding, Path], kind: Encoding) -> None:
    dataset = pydicom.dcmread(files[kind])
    assert dataset.PatientName == "SYNTHETIC^PHANTOM"
    assert dataset.SyntheticData == "YES"
    assert dataset.QualityControlSubject == "YES"
    for keyword in ("StudyDescription", "SeriesDescription", "ImageComments"):
        assert "SYNTHETIC PHANTOM" in dataset[keyword].value


@pytest.mark.parametrize("kind", ENCODINGS)
def test_every_value_fits_its_type_in_the_standard(
    files: dict[Encoding, Path], kind: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.RAISE)
    for element in pydicom.dcmread(files[kind]).iterall():
        assert element.keyword


@pytest.mark.parametrize("kind", ENCODINGS)
def test_the_type_2_tags_of_secondary_capture_are_there(files: dict[Encoding, Path], kind: Encoding) -> None:
    dataset = pydicom.dcmread(files[kind])
    required = ("PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber")
    assert all(keyword in dataset for keyword in (*required, "ReferringPhysicianName", "StudyID"))


def test_the_layout_is_study_series_instance(files: dict[Encoding, Path]) -> None:
    path, dataset = files["jpeg"], pydicom.dcmread(files["jpeg"])
    uids = [dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID]
    assert [path.parent.parent.name, path.parent.name, path.stem] == uids
    assert len(set(uids)) == 3


@pytest.mark.parametrize(
    ("kind", "syntax", "photometric", "stored"),
    [
        ("jpeg", "1.2.840.10008.1.2.4.50", "MONOCHROME2", 8),
        ("monochrome1", "1.2.840.10008.1.2.1", "MONOCHROME1", 12),
        ("native8", "1.2.840.10008.1.2.1", "MONOCHROME2", 8),
        ("native16", "1.2.840.10008.1.2.1", "MONOCHROME2", 16),
    ],
)
def test_each_encoding_is_what_its_name_says(
    files: dict[Encoding, Path], kind: Encoding, syntax: str, photometric: str, stored: int
) -> None:
    dataset = pydicom.dcmread(files[kind])
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert (dataset.PhotometricInterpretation, dataset.BitsStored) == (photometric, stored)


def test_monochrome1_is_stored_inverted(files: dict[Encoding, Path], phantom: Phantom) -> None:
    stored = pydicom.dcmread(files["monochrome1"]).pixel_array
    np.testing.assert_allclose(1 - stored / 4095, phantom.image, atol=1e-3)


@pytest.mark.parametrize(("kind", "levels"), [("monochrome1", 4095), ("native8", 255), ("native16", 65535)])
def test_the_reader_gives_back_the_picture(
    files: dict[Encoding, Path], phantom: Phantom, kind: Encoding, levels: int
) -> None:
    values = read_radiograph(files[kind]).values
    np.testing.assert_allclose(values, phantom.image * levels, atol=0.51)


def test_the_jpeg_looks_like_the_picture(files: dict[Encoding, Path], phantom: Phantom) -> None:
    values = read_radiograph(files["jpeg"]).values
    assert np.abs(values / 255 - phantom.image).mean() < 0.015


def test_the_same_phantom_gives_the_same_bytes(phantom: Phantom, tmp_path: Path) -> None:
    first = write_dicom(phantom, tmp_path / "a", name="x")
    second = write_dicom(phantom, tmp_path / "b", name="x")
    assert first.read_bytes() == second.read_bytes()


def test_no_date_is_written(files: dict[Encoding, Path]) -> None:
    dated = [
        element for element in pydicom.dcmread(files["jpeg"]).iterall() if element.VR in {"DA", "DT", "TM"}
    ]
    assert all(not element.value for element in dated)
