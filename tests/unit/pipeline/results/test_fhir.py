"""FHIR R4 reports; the schema is that of HL7, which `make .fhir` fetches."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
from jsonschema import Draft6Validator
from tests.unit.pipeline.results.dicom.conftest import ORIGIN, make_mask, make_source

from pneumoseg.pipeline.results.fhir import make_fhir
from pneumoseg.transforms.measurements import measure
from pneumoseg.transforms.reader.reasons import Reason

SCHEMA = Path(
    os.environ.get("PNEUMOSEG_FHIR", Path(__file__).parents[4] / ".fhir" / "package" / "fhir.schema.json")
)


def make(tmp_path: Path, *, positive: bool = True, warnings: tuple[Reason, ...] = (), **elements: Any) -> Any:
    """A report of a made-up source, with or without a finding."""
    source = make_source(tmp_path, **elements)
    mask = make_mask(positive=positive)
    measurements = measure(
        mask,
        probability=0.91,
        spacing_mm=source.spacing_mm,
        patient_orientation=source.orientation,
        warned_of=warnings,
    )
    return make_fhir(source, measurements, 0.91, ORIGIN, uncertainty=0.05, warnings=warnings)


def resources(bundle: Any, kind: str) -> list[Any]:
    found = [entry["resource"] for entry in bundle["entry"]]
    return [resource for resource in found if resource["resourceType"] == kind]


def code_of(concept: Any) -> str:
    return str(concept["coding"][0]["code"])


@cache
def validator() -> Draft6Validator:
    if not SCHEMA.is_file():
        pytest.skip("the schema of FHIR R4 is not there; `make .fhir` fetches it")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert schema["id"] == "http://hl7.org/fhir/json-schema/4.0"
    return Draft6Validator({**schema, "$id": schema["id"]})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"positive": False},
        {"positive": False, "warnings": (Reason.LOOKS_UNLIKE_CHEST, Reason.SATURATED)},
        {"optional": False},
    ],
)
def test_a_report_fits_the_schema_of_fhir_r4(tmp_path: Path, options: dict[str, Any]) -> None:
    bundle = json.loads(json.dumps(make(tmp_path, **options), allow_nan=False))
    for resource in (bundle, *(entry["resource"] for entry in bundle["entry"])):
        definition = {**cast("Any", validator().schema), "$ref": f"#/definitions/{resource['resourceType']}"}
        definition.pop("oneOf")
        errors = [error.message for error in Draft6Validator(definition).iter_errors(resource)]
        assert errors == []


def test_the_schema_refuses_what_is_no_report(tmp_path: Path) -> None:
    (report,) = resources(make(tmp_path), "DiagnosticReport")
    definition = {**cast("Any", validator().schema), "$ref": "#/definitions/DiagnosticReport"}
    definition.pop("oneOf")
    assert not Draft6Validator(definition).is_valid({**report, "state": "final"})


@pytest.mark.parametrize(
    ("options", "presence"),
    [
        ({}, "52101004"),  # SNOMED CT, as PS3.16 uses it: present, absent, ...
        ({"positive": False}, "272519000"),
        ({"positive": False, "warnings": (Reason.LOOKS_UNLIKE_CHEST,)}, "82334004"),
    ],
)
def test_presence_is_stated_and_an_uncertain_negative_is_indeterminate(
    tmp_path: Path, options: dict[str, Any], presence: str
) -> None:
    bundle = make(tmp_path, **options)
    (report,) = resources(bundle, "DiagnosticReport")
    assert code_of(report["conclusionCode"][0]) == presence
    image = resources(bundle, "Observation")[0]
    assert code_of(image["valueCodeableConcept"]) == presence
    assert code_of(image["code"]) == "36118008"


def test_a_report_is_preliminary_and_not_for_diagnosis(tmp_path: Path) -> None:
    bundle = make(tmp_path)
    (report,) = resources(bundle, "DiagnosticReport")
    assert {report["status"], *(each["status"] for each in resources(bundle, "Observation"))} == {
        "preliminary"
    }
    assert "not for diagnosis" in report["conclusion"]


def test_every_reference_within_the_bundle_leads_to_an_entry(tmp_path: Path) -> None:
    bundle = make(tmp_path)
    urls = {entry["fullUrl"] for entry in bundle["entry"]}
    text = json.dumps(bundle)
    (report,) = resources(bundle, "DiagnosticReport")
    assert [each["reference"] for each in report["result"]] == [
        entry["fullUrl"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Observation"
    ]
    assert all(part.split('"')[0] in urls for part in text.split('"reference": "')[1:])


def test_the_patient_is_referred_to_by_identifier_and_never_by_name(tmp_path: Path) -> None:
    bundle = make(tmp_path, PatientID="P7", PatientName="Planted^Name")
    (report,) = resources(bundle, "DiagnosticReport")
    assert report["subject"]["identifier"]["value"] == "P7"
    assert "Planted" not in json.dumps(bundle)


def test_the_same_source_gives_the_same_report(tmp_path: Path) -> None:
    assert make(tmp_path) == make(tmp_path)


def test_an_area_without_spacing_is_in_pixels(tmp_path: Path) -> None:
    bundle = make(tmp_path, PixelSpacing=None)
    quantities = [
        part["valueQuantity"]["code"]
        for each in resources(bundle, "Observation")
        for part in each["component"]
        if code_of(part["code"]) == "42798000"  # SNOMED CT: area
    ]
    assert set(quantities) == {"{pixels}"}
