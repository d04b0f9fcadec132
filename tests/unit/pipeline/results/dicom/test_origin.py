from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.unit.pipeline.results.dicom.conftest import ORIGIN, make_mask, make_source

from pneumoseg.pipeline.results.dicom.seg import make_seg

OTHER = replace(ORIGIN, analysis_sha256="1" * 64)


def test_a_uid_is_that_of_a_uuid_and_the_same_each_time(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    uid = ORIGIN.uid(source, "seg")
    root, number = uid.rsplit(".", 1)
    assert root == "2.25"
    assert UUID(int=int(number)).version == 5
    assert ORIGIN.uid(source, "seg") == uid
    assert len({uid, ORIGIN.uid(source, "sr"), OTHER.uid(source, "seg")}) == 3


def test_a_uid_is_under_the_configured_root(tmp_path: Path) -> None:
    uid = replace(ORIGIN, uid_root="1." + "9" * 38).uid(make_source(tmp_path), "seg")
    assert uid.startswith("1." + "9" * 38 + ".")
    assert uid.is_valid
    assert len(uid) <= 64


def test_the_device_is_the_same_for_all_images(tmp_path: Path) -> None:
    first, second = (
        make_source(tmp_path, SOPInstanceUID=uid, RequestAttributesSequence=[]) for uid in ("1.2.8", "1.2.9")
    )
    assert ORIGIN.uid(first, "seg") != ORIGIN.uid(second, "seg")
    assert ORIGIN.device_uid == OTHER.device_uid


def test_series_of_other_settings_differ_in_number_and_description(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    series = [
        origin.common(source, kind) for origin in (ORIGIN, OTHER) for kind in ("seg", "sr", "sc", "gsps")
    ]
    assert len({each["series_number"] for each in series}) == 8
    assert len({each["series_description"] for each in series}) == 8
    assert all(each["series_number"] < 2**31 for each in series)  # VR IS
    assert all(len(each["series_description"]) <= 64 for each in series)  # VR LO


@pytest.mark.parametrize(
    ("zone", "date", "time"),
    # the analysis was at 10:20:30 in +0100
    [(None, "20260304", "102030"), ("-0930", "20260303", "235030"), ("+0000", "20260304", "092030")],
)
def test_dates_are_those_of_the_analysis_in_the_zone_of_the_source(
    tmp_path: Path, zone: str | None, date: str, time: str
) -> None:
    elements: dict[str, Any] = {"TimezoneOffsetFromUTC": zone} if zone else {}
    source = make_source(tmp_path, Manufacturer="ACME", **elements)
    result = make_seg(source, make_mask(positive=True), ORIGIN)
    for kind in ("InstanceCreation", "Content", "Series"):
        assert [str(result[f"{kind}{part}"].value) for part in ("Date", "Time")] == [date, time]
    assert result.TimezoneOffsetFromUTC == (zone or "+0100")
    contributed = [item.get("ContributionDateTime") for item in result.ContributingEquipmentSequence]
    # of the device of the source, and of highdicom
    assert contributed == [
        None,
        f"{date}{time}{zone or '+0100'}",
    ]


def test_what_a_source_carries_on_is_in_the_result(tmp_path: Path) -> None:
    carried: dict[str, Any] = {
        "IssuerOfPatientID": "HOSPITAL",
        "StudyDescription": "Chest",
        "InstitutionName": "Clinic",
        "PatientAge": "058Y",
    }
    result = make_seg(make_source(tmp_path, **carried), make_mask(positive=True), ORIGIN)
    assert {keyword: result[keyword].value for keyword in carried} == carried
    bare = make_seg(make_source(tmp_path, **carried, with_identity=False), make_mask(positive=True), ORIGIN)
    assert not any(keyword in bare for keyword in carried)


def test_a_moment_without_a_zone_of_the_source_keeps_its_own(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert make_source(tmp_path).local(moment) is moment
