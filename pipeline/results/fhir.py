"""Report findings as FHIR R4: a Bundle of a DiagnosticReport, its Observations and the Device that made them."""

from collections.abc import Collection, Mapping
from importlib.metadata import version
from typing import Any, Final
from uuid import NAMESPACE_OID, uuid5

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from pneumoseg.pipeline.core.names import MANUFACTURER
from pneumoseg.pipeline.results.dicom.origin import MODEL_NAME, NOTICE, Origin
from pneumoseg.pipeline.results.dicom.remarks import presence_of, remarks
from pneumoseg.pipeline.results.dicom.source import Source
from pneumoseg.transforms.measurements import Component, Measurements
from pneumoseg.transforms.reader.reasons import Reason

_SYSTEMS: Final = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
    "LN": "http://loinc.org",
}
_HL7: Final = "http://terminology.hl7.org/CodeSystem"
_STUDY_REPORT: Final = Code("18748-4", "LN", "Diagnostic imaging study")
_DICOM_UID: Final = "urn:dicom:uid"
_SIDES: Final = {"left": codes.SCT.Left, "right": codes.SCT.Right}
_MILLIMETRES: Final = ("mm", "mm")
_SHARE: Final = ("probability", "1")
_PIXELS: Final = ("pixels", "{pixels}")

Resource = dict[str, Any]


def make_fhir(
    source: Source,
    measurements: Measurements,
    probability: float,
    origin: Origin,
    *,
    uncertainty: float | None = None,
    warnings: Collection[Reason] = (),
) -> Resource:
    """Make a preliminary report of one image.

    Patient, study and request are referred to by the identifiers that DICOM has for them, since their resources belong
    to others; a source without identity gives a report without a subject.

    Args:
        source: Segmented image.
        measurements: Measurements of the mask.
        probability: Image probability.
        origin: Model and settings that the mask was made with.
        uncertainty: Standard deviation of the image probability.
        warnings: Warnings of the radiograph.

    Returns: Bundle of the type ``collection``; its identifiers are the same in each run.
    Source: HL7 FHIR R4 (4.0.1): DiagnosticReport, Observation, Device, Bundle; ImagingStudy 4.0.1 for DICOM UIDs.
    """
    names = {name: _urn(origin, source, name) for name in ("report", "device", "image")}
    components = [
        (_urn(origin, source, f"component {number}"), component)
        for number, component in enumerate(measurements.components, start=1)
    ]
    moment = source.local(origin.analysed_at).isoformat()
    shared = {
        "status": "preliminary",
        "category": [_coded(f"{_HL7}/observation-category", "imaging", "Imaging")],
        "code": _concept(codes.SCT.Pneumothorax),
        **_subject(source),
        **_effective(source),
        "issued": moment,
        "device": {"reference": names["device"]},
        "derivedFrom": [_study(source)],
    }
    found = [(names["image"], _of_image(shared, measurements, probability, uncertainty, warnings))]
    if components:
        found[0][1]["hasMember"] = [{"reference": urn} for urn, _ in components]
    found += [(urn, _of_component(shared, component)) for urn, component in components]
    presence, _ = presence_of(measurements, warnings)
    report = {
        "resourceType": "DiagnosticReport",
        "identifier": [_uid_identifier(str(origin.uid(source, "fhir", "report")))],
        **_requests(source),
        "status": "preliminary",
        "category": [_coded(f"{_HL7}/v2-0074", "RAD", "Radiology")],
        "code": _concept(_STUDY_REPORT),
        **_subject(source),
        **_effective(source),
        "issued": moment,
        "result": [{"reference": urn} for urn, _ in found],
        "imagingStudy": [_study(source)],
        "conclusion": f"{measurements.sentence} {NOTICE}.",
        "conclusionCode": [_concept(presence)],
    }
    entries = [(names["report"], report), *found, (names["device"], _device(origin))]
    return {
        "resourceType": "Bundle",
        "identifier": _uid_identifier(str(origin.uid(source, "fhir", "bundle"))),
        "type": "collection",
        "timestamp": moment,
        "entry": [{"fullUrl": urn, "resource": resource} for urn, resource in entries],
    }


def _of_image(
    shared: Mapping[str, Any],
    measurements: Measurements,
    probability: float,
    uncertainty: float | None,
    warnings: Collection[Reason],
) -> Resource:
    presence, _ = presence_of(measurements, warnings)
    parts = [_component(codes.DCM.Probability, probability, _SHARE)]
    if uncertainty is not None:
        parts.append(_component(codes.SCT.StandardDeviation, uncertainty, _SHARE))
    if measurements.components:
        parts.append(_area(measurements.area_mm2, measurements.area_px))
    notes = [f"The image {words}" for words, _ in remarks(warnings)]
    return {
        "resourceType": "Observation",
        **shared,
        "valueCodeableConcept": _concept(presence),
        **({"note": [{"text": note} for note in notes]} if notes else {}),
        "component": parts,
    }


def _of_component(shared: Mapping[str, Any], component: Component) -> Resource:
    parts = [_area(component.area_mm2, component.area_px)]
    if component.width_mm is not None:
        parts.append(_component(codes.SCT.Width, component.width_mm, _MILLIMETRES))
    if component.side is not None:
        parts.append(
            {"code": _concept(codes.SCT.Laterality), "valueCodeableConcept": _concept(_SIDES[component.side])}
        )
    return {
        "resourceType": "Observation",
        **shared,
        "valueCodeableConcept": _concept(codes.SCT.Present),
        "bodySite": _concept(codes.SCT.Pleura),
        "component": parts,
    }


def _device(origin: Origin) -> Resource:
    return {
        "resourceType": "Device",
        "identifier": [_uid_identifier(str(origin.device_uid))],
        "manufacturer": MANUFACTURER,
        "serialNumber": origin.model_sha256[:16],
        "deviceName": [{"name": MODEL_NAME, "type": "model-name"}],
        "version": [{"value": version("pneumoseg")}],
        "property": [
            {"type": {"text": name}, "valueCode": [{"text": value}]}
            for name, value in origin.parameters.items()
        ],
        "note": [{"text": f"{NOTICE}."}],
    }


def _subject(source: Source) -> Resource:
    """Refer to the patient by the identifier of the source; its issuer tells whose identifier it is."""
    value = str(source.header.get("PatientID", ""))
    if not value:
        return {}
    issuer = str(source.header.get("IssuerOfPatientID", ""))
    identifier = {"value": value, **({"assigner": {"display": issuer}} if issuer else {})}
    return {"subject": {"type": "Patient", "identifier": identifier}}


def _effective(source: Source) -> Resource:
    date = str(source.header.get("StudyDate", ""))
    return {"effectiveDateTime": f"{date[:4]}-{date[4:6]}-{date[6:]}"} if date else {}


def _requests(source: Source) -> Resource:
    number = str(source.header.get("AccessionNumber", ""))
    if not number:
        return {}
    kind = _coded(f"{_HL7}/v2-0203", "ACSN", "Accession ID")
    return {"basedOn": [{"type": "ServiceRequest", "identifier": {"type": kind, "value": number}}]}


def _study(source: Source) -> Resource:
    return {"type": "ImagingStudy", "identifier": _uid_identifier(str(source.header.StudyInstanceUID))}


def _uid_identifier(uid: str) -> Resource:
    return {"system": _DICOM_UID, "value": f"urn:oid:{uid}"}


def _concept(code: Code) -> Resource:
    return _coded(_SYSTEMS[code.scheme_designator], code.value, code.meaning)


def _coded(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _component(name: Code, value: float, unit: tuple[str, str]) -> Resource:
    text, code = unit
    quantity = {"value": float(f"{value:.6g}"), "unit": text, "system": _SYSTEMS["UCUM"], "code": code}
    return {"code": _concept(name), "valueQuantity": quantity}


def _area(mm2: float | None, pixels: int) -> Resource:
    """Give an area, in pixels if the spacing is unknown."""
    return (
        _component(codes.SCT.Area, pixels, _PIXELS)
        if mm2 is None
        else _component(codes.SCT.Area, mm2, ("mm2", "mm2"))
    )


def _urn(origin: Origin, source: Source, name: str) -> str:
    return f"urn:uuid:{uuid5(NAMESPACE_OID, str(origin.uid(source, 'fhir', name)))}"
