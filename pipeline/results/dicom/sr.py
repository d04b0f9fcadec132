"""Report findings as a DICOM SR: TID 1500, with a group for the image and one for each component."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    CoordinatesForMeasurement,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
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
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    SourceImageForSegmentation,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID

from pneumoseg.pipeline.core.names import MANUFACTURER
from pneumoseg.pipeline.results.dicom.image_library import image_library
from pneumoseg.pipeline.results.dicom.origin import MODEL_NAME, Origin, finish
from pneumoseg.pipeline.results.dicom.remarks import needs_review, presence_of, remarks
from pneumoseg.pipeline.results.dicom.seg import tracking
from pneumoseg.pipeline.results.dicom.source import Source
from pneumoseg.pipeline.results.receipts import REPORT_UIDS
from pneumoseg.transforms.measurements import Component, Measurements, outlines
from pneumoseg.transforms.reader.elements import quiet_libraries
from pneumoseg.transforms.reader.reasons import Reason

_PRESENCE: Final = Code("705057003", "SCT", "Presence")
_SHARE: Final = Code("{0:1}", "UCUM", "range: 0:1")  # no percent, which might be read as a share of the lung
_PIXELS: Final = Code("{pixels}", "UCUM", "Pixels")
_ON_SIDE: Final = {"left": ", left side", "right": ", right side", "both": ", both sides"}
_SIDES: Final = {"left": codes.SCT.Left, "right": codes.SCT.Right}


def make_sr(
    source: Source,
    mask: npt.NDArray[np.uint8],
    measurements: Measurements,
    probability: float,
    origin: Origin,
    *,
    uncertainty: float | None = None,
    warnings: Collection[Reason] = (),
    segmentation: Dataset | None = None,
    predecessor: Mapping[str, str] | None = None,
) -> Comprehensive3DSR:
    """Make a preliminary, unverified structured report.

    Args:
        source: Segmented image.
        mask: Zeros and ones, shape ``(rows, columns)`` of the source as stored.
        measurements: Measurements of the mask; lengths are reported if they are known in millimetres.
        probability: Image probability.
        origin: Model, settings and time that the mask was made with.
        uncertainty: Standard deviation of the image probability.
        warnings: Warnings of the radiograph; the report states those that make the result doubtful.
        segmentation: UIDs of the DICOM Segmentation of the same mask, as `reference_to_seg` gives them.
        predecessor: UIDs of an earlier report on the image, which this one replaces, as `uids_of` gives them.

    Source: DICOM PS3.16 TID 1500 (Measurement Report), 1410 (Planar ROI), 1501 (Measurement Group), 1600 (Image
        Library) and 4019 (Algorithm Identification).
    """
    with quiet_libraries():
        of_image = _of_image(
            source, measurements, probability, origin, uncertainty=uncertainty, warnings=warnings
        )
        of_components = [
            _of_component(
                source, component, outline=outline, origin=origin, number=number, segmentation=segmentation
            )
            for number, (component, outline) in enumerate(
                zip(measurements.components, outlines(mask), strict=True), start=1
            )
        ]
        report = MeasurementReport(
            observation_context=_observer(origin),
            procedure_reported=codes.SCT.PlainRadiography,
            imaging_measurements=[of_image, *of_components],
            title=codes.DCM.ImagingMeasurementReport,
            language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
                CodedConcept("en", "RFC5646", "English")
            ),
        )
        report[0].ContentSequence.insert(-1, image_library(source))  # before the measurements
        uid = report_uid(source, origin, segmentation=segmentation, predecessor=predecessor)
        document = Comprehensive3DSR(
            evidence=[source.header, *([segmentation] if segmentation and of_components else [])],
            content=report[0],
            is_complete=True,
            is_final=False,
            is_verified=False,
            requested_procedures=list(source.requests) or None,
            previous_versions=[_dataset(predecessor)] if predecessor else None,
            **(origin.common(source, "sr") | {"sop_instance_uid": uid}),
        )
        finish(document, source, origin)
    return document


def report_uid(
    source: Source, origin: Origin, *, segmentation: Dataset | None, predecessor: Mapping[str, str] | None
) -> UID:
    """Make the SOP Instance UID of a report, which depends on all that the report refers to.

    Args:
        source: Segmented image.
        origin: Model, settings and time that the mask was made with.
        segmentation: UIDs of the DICOM Segmentation of the same mask.
        predecessor: UIDs of the report that it replaces.
    """
    refers_to = ["segmentation"] if segmentation is not None else []
    refers_to += ["predecessor", predecessor["SOPInstanceUID"]] if predecessor else []
    return origin.uid(source, "sr", "instance", *refers_to)


def uids_of(document: Dataset) -> dict[str, str]:
    """Give the UIDs by which a later report can name this one as its predecessor.

    Args:
        document: A report.
    """
    return {keyword: str(document[keyword].value) for keyword in REPORT_UIDS}


def _dataset(uids: Mapping[str, str]) -> Dataset:
    dataset = Dataset()
    for keyword in REPORT_UIDS:
        setattr(dataset, keyword, uids[keyword])
    return dataset


def _observer(origin: Origin) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=origin.device_uid,
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


def _of_image(
    source: Source,
    measurements: Measurements,
    probability: float,
    origin: Origin,
    *,
    uncertainty: float | None,
    warnings: Collection[Reason],
) -> MeasurementsAndQualitativeEvaluations:
    """Make the group of the whole image: presence first, then probability, total area and doubts."""
    review = needs_review(warnings)
    presence, identifier = presence_of(measurements, warnings)
    edge = np.array([[0, 0], [0, int(source.header.Rows) / 4]], dtype=np.float64)

    def measured(name: Code, value: float, unit: Code) -> Measurement:
        return Measurement(
            name=name,
            value=_rounded(value),
            unit=unit,
            # OHIF 3.13 shows no report with a group without coordinates, and writes the text to the right of them:
            # at the edge of the image it lies within the window, and at the upper quarter not over the lungs
            referenced_coordinates=[
                CoordinatesForMeasurement(
                    graphic_type=GraphicTypeValues.POLYLINE,
                    graphic_data=edge,
                    source_image=SourceImageForRegion(*_reference(source)),
                )
            ],
        )

    numbers = [measured(codes.DCM.Probability, probability, _SHARE)]
    if uncertainty is not None:
        numbers.append(measured(codes.SCT.StandardDeviation, uncertainty, _SHARE))
    if measurements.components:
        numbers.append(measured(*_area(measurements.area_mm2, measurements.area_px)))
    doubts = remarks(warnings)
    evaluations = [QualitativeEvaluation(codes.DCM.ImageQuality, code) for _, code in doubts if code]
    # OHIF shows comments and numbers, but no evaluations
    comments = [identifier.capitalize() + _ON_SIDE.get(measurements.side or "", "")]
    comments += ["To be reviewed by a person"] if review else []
    comments += [f"The image {words}" for words, _ in doubts]
    comments.append("Probability is that of a pneumothorax in the image, from 0 to 1")
    if any(component.side for component in measurements.components):
        comments.append(
            f"Side by {measurements.side_basis}" if source.orientation else f"Side {measurements.side_basis}"
        )
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=origin.uid(source, "image"), identifier=identifier),
        finding_type=codes.SCT.Pneumothorax,
        algorithm_id=_algorithm(origin),
        measurements=numbers,
        source_images=[SourceImageForMeasurementGroup(*_reference(source))],
    )
    _evaluate(group, [QualitativeEvaluation(_PRESENCE, presence), *evaluations])
    group[0].ContentSequence.extend(
        TextContentItem(
            name=codes.DCM.Comment, value=comment, relationship_type=RelationshipTypeValues.CONTAINS
        )
        for comment in comments
    )
    return group


def _of_component(
    source: Source,
    component: Component,
    *,
    outline: npt.NDArray[np.float64],
    origin: Origin,
    number: int,
    segmentation: Dataset | None,
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    """Make the group of one component: its site, its outline, its measurements and its segment."""
    identifier, uid = tracking(source, origin, number)
    numbers = [Measurement(*_area(component.area_mm2, component.area_px))]
    if component.width_mm is not None:
        numbers.append(
            Measurement(
                name=codes.SCT.Width,
                value=_rounded(component.width_mm),
                unit=codes.UCUM.Millimeter,
                derivation=codes.SCT.Maximum,  # the longest of the runs along the rows
            )
        )
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=uid, identifier=identifier),
        referenced_region=ImageRegion(
            graphic_type=GraphicTypeValues.POLYLINE,
            graphic_data=outline,
            source_image=SourceImageForRegion(*_reference(source)),
        ),
        finding_type=codes.SCT.Pneumothorax,
        finding_sites=[
            FindingSite(
                codes.SCT.Pleura, laterality=None if component.side is None else _SIDES[component.side]
            )
        ],
        algorithm_id=_algorithm(origin),
        measurements=numbers,
    )
    _evaluate(group, [QualitativeEvaluation(_PRESENCE, codes.SCT.Present)])
    if segmentation is not None:  # beside the outline, which the template allows as an extension
        group[0].ContentSequence.extend(
            ReferencedSegment(
                sop_class_uid=segmentation.SOPClassUID,
                sop_instance_uid=segmentation.SOPInstanceUID,
                segment_number=number,
                source_images=[SourceImageForSegmentation(*_reference(source))],
            )
        )
    return group


def _evaluate(
    group: MeasurementsAndQualitativeEvaluations | PlanarROIMeasurementsAndQualitativeEvaluations,
    evaluations: Sequence[QualitativeEvaluation],
) -> None:
    """Put evaluations directly after the finding, before any number that a reader might take for the answer."""
    content = group[0].ContentSequence
    place = next(index for index, item in enumerate(content, start=1) if item.name == codes.DCM.Finding)
    for evaluation in reversed(evaluations):
        content.insert(place, evaluation[0])


def _area(mm2: float | None, pixels: int) -> tuple[Code, float, Code]:
    """Give name, value and unit of an area, in pixels if the spacing is unknown."""
    if mm2 is None:
        return codes.SCT.Area, pixels, _PIXELS
    return codes.SCT.Area, _rounded(mm2), codes.UCUM.SquareMillimeter


def _reference(source: Source) -> tuple[str, str]:
    return str(source.header.SOPClassUID), source.sop_instance_uid


def _algorithm(origin: Origin) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=MODEL_NAME,
        version=origin.version,
        manufacturer=MANUFACTURER,
        parameters=[f"{name}: {value}" for name, value in origin.parameters.items()],
    )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")  # more than any detector resolves, and it fits the 16 letters of a number
