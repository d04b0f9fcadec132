"""Report findings as a DICOM SR: TID 1500, with one group for each component, or one group for absence."""

import numpy as np
import numpy.typing as npt
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    GraphicTypeValues,
    ImageRegion,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TrackingIdentifier,
)
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from pneumoseg.pipeline.results.dicom.origin import MANUFACTURER, MODEL_NAME, Origin, finish
from pneumoseg.pipeline.results.dicom.source import Source
from pneumoseg.transforms.measurements import Component, Measurements, outlines
from pneumoseg.transforms.reader.elements import quiet_libraries

_PRESENCE = Code("705057003", "SCT", "Presence")


def make_sr(
    source: Source,
    mask: npt.NDArray[np.uint8],
    measurements: Measurements,
    probability: float,
    origin: Origin,
    *,
    uncertainty: float | None = None,
) -> ComprehensiveSR:
    """Make a preliminary, unverified structured report.

    Args:
        source: Segmented image.
        mask: Zeros and ones, shape ``(rows, columns)`` of the source as stored.
        measurements: Measurements of the mask; lengths and areas are reported if they are known in millimetres.
        probability: Image probability; reported as certainty in percent.
        origin: Model and settings that the mask was made with.
        uncertainty: Standard deviation of the image probability; reported as that of the certainty.
    """
    certainty = _certainty(probability, uncertainty)
    with quiet_libraries():
        groups = [
            _present(source, component, outline=outline, certainty=certainty, origin=origin, number=number)
            for number, (component, outline) in enumerate(
                zip(measurements.components, outlines(mask), strict=True), start=1
            )
        ]
        report = MeasurementReport(
            observation_context=_observer(source, origin),
            procedure_reported=codes.SCT.PlainRadiography,
            imaging_measurements=groups or [_absent(source, certainty, origin)],
            title=codes.DCM.ImagingMeasurementReport,
            language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
                CodedConcept("en", "RFC5646", "English")
            ),
        )
        document = ComprehensiveSR(
            evidence=[source.header],
            content=report[0],
            is_complete=True,
            is_final=False,
            is_verified=False,
            **origin.common(source, "sr"),
        )
        finish(document, source)
    return document


def _observer(source: Source, origin: Origin) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=origin.uid(source, "device"),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
        serial_number=origin.model_sha256[:16],
    )
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=codes.DCM.Device, observer_identifying_attributes=device
        )
    )


def _present(
    source: Source,
    component: Component,
    *,
    outline: npt.NDArray[np.float64],
    certainty: list[Measurement],
    origin: Origin,
    number: int,
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    """Make the group of one component: its outline and its measurements."""
    measurements = [*certainty]
    if component.area_mm2 is not None and component.width_mm is not None:
        measurements += [
            Measurement(
                name=codes.SCT.Area, value=_rounded(component.area_mm2), unit=codes.UCUM.SquareMillimeter
            ),
            Measurement(
                name=codes.SCT.Width,
                value=_rounded(component.width_mm),
                unit=codes.UCUM.Millimeter,
                derivation=codes.SCT.Maximum,  # the longest of the runs along the rows
            ),
        ]
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=origin.uid(source, "component", str(number)), identifier=f"pneumothorax {number}"
        ),
        referenced_region=ImageRegion(
            graphic_type=GraphicTypeValues.POLYLINE,
            graphic_data=outline,
            source_image=SourceImageForRegion(*_reference(source)),
        ),
        finding_type=codes.SCT.Pneumothorax,
        algorithm_id=_algorithm(origin),
        measurements=measurements,
        qualitative_evaluations=[QualitativeEvaluation(_PRESENCE, codes.SCT.Present)],
    )


def _absent(
    source: Source, certainty: list[Measurement], origin: Origin
) -> MeasurementsAndQualitativeEvaluations:
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=origin.uid(source, "component", "none"), identifier="no pneumothorax"
        ),
        finding_type=codes.SCT.Pneumothorax,
        algorithm_id=_algorithm(origin),
        measurements=certainty,
        qualitative_evaluations=[QualitativeEvaluation(_PRESENCE, codes.SCT.Absent)],
        source_images=[SourceImageForMeasurementGroup(*_reference(source))],
    )


def _reference(source: Source) -> tuple[str, str]:
    return str(source.header.SOPClassUID), source.sop_instance_uid


def _certainty(probability: float, uncertainty: float | None) -> list[Measurement]:
    """Give the image probability, also of a negative image, and its standard deviation."""
    given = [(probability, None)]
    if uncertainty is not None:
        given.append((uncertainty, codes.SCT.StandardDeviation))
    return [
        Measurement(
            name=codes.DCM.CertaintyOfFinding,
            value=_rounded(100 * value),
            unit=codes.UCUM.Percent,
            derivation=derivation,
        )
        for value, derivation in given
    ]


def _algorithm(origin: Origin) -> AlgorithmIdentification:
    algorithm = origin.algorithm()[0]
    return AlgorithmIdentification(name=algorithm.AlgorithmName, version=algorithm.AlgorithmVersion)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")  # more than any detector resolves, and it fits the 16 letters of a number
