import hashlib
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import write_radiograph

from pneumoseg.pipeline.reading.facts import read_facts
from pneumoseg.transforms.reader.radiograph import AcceptanceFilters
from pneumoseg.transforms.reader.reasons import RadiographError, Reason

PIXELS = np.arange(16 * 24, dtype=np.uint8).reshape(16, 24)


def test_facts_are_what_the_file_says(tmp_path: Path) -> None:
    facts = read_facts(write_radiograph(tmp_path / "a.dcm", PIXELS), acceptance=AcceptanceFilters())
    assert (facts.shape, facts.spacing_mm, facts.bits_stored) == ((16, 24), (0.5, 0.25), 8)
    assert (facts.modality, facts.view, facts.sex, facts.age_years) == ("DX", "PA", "F", 58)
    assert (facts.sop_instance_uid, facts.patient_id) == ("1.2.3.4", "P1")
    assert facts.transfer_syntax == "1.2.840.10008.1.2.1"


def test_the_hashes_are_of_the_file_and_of_its_pixels(tmp_path: Path) -> None:
    path = write_radiograph(tmp_path / "a.dcm", PIXELS)
    facts = read_facts(path, acceptance=AcceptanceFilters())
    assert facts.file_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts.pixel_sha256 == hashlib.sha256(PIXELS.tobytes()).hexdigest()


def test_warnings_come_with_the_facts(tmp_path: Path) -> None:
    facts = read_facts(
        write_radiograph(tmp_path / "a.dcm", PIXELS[:14], PixelSpacing=None), acceptance=AcceptanceFilters()
    )
    assert [reason for reason, _ in facts.warnings] == [
        *(Reason.NO_SPACING, Reason.LOW_RESOLUTION, Reason.LOOKS_UNLIKE_CHEST),
    ]


def test_a_refused_file_has_a_reason_and_no_facts(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.touch()
    with pytest.raises(RadiographError, match="EMPTY_FILE"):
        read_facts(path, acceptance=AcceptanceFilters())


def test_a_file_is_read_once_for_its_pixels_and_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be replaced meanwhile: the hash is that of the bytes that were decoded."""
    path = write_radiograph(tmp_path / "a.dcm", PIXELS)
    content = path.read_bytes()
    reads = iter([content])
    monkeypatch.setattr(Path, "read_bytes", lambda _: next(reads))
    monkeypatch.setattr(Path, "open", None)
    assert read_facts(path, acceptance=AcceptanceFilters()).file_sha256 == hashlib.sha256(content).hexdigest()
