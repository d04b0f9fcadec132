"""Make a mask a DICOM Segmentation, aligned to the pixels of its source: one segment for each component."""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence
from highdicom.color import CIELabColor
from highdicom.enum import CoordinateSystemNames
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from pneumoseg.pipeline.drawing.pictures import OUTLINE
from pneumoseg.pipeline.results.dicom.origin import Origin, finish
from pneumoseg.pipeline.results.dicom.remarks import description_of
from pneumoseg.pipeline.results.dicom.source import Source
from pneumoseg.transforms.measurements import label_components
from pneumoseg.transforms.reader.elements import quiet_libraries
from pneumoseg.transforms.reader.reasons import Reason


def make_seg(
    source: Source, mask: npt.NDArray[np.uint8], origin: Origin, *, warnings: Collection[Reason] = ()
) -> Segmentation:
    """Make a binary segmentation with a frame for each component; an empty mask gives one frame of zeros.

    A projection has no position in space, so that the standard requires neither measures nor orientation of its planes.
    Two readers need them: OHIF 3.12 shows no segmentation without measures and without an orientation, which has to be
    the one that it assumes for an image that has none; and highdicom 0.28 reads no measures without a slice thickness.
    Measures are written only where the spacing of the source is known.

    Args:
        source: Segmented image.
        mask: Zeros and ones, shape ``(rows, columns)`` of the source as stored.
        origin: Model, settings and time that the mask was made with.
        warnings: Warnings of the radiograph; the description states those that make the mask doubtful.

    Source: DICOM PS3.3 table A.51-2 (functional groups of a segmentation) and C.8.20.2 (Segmentation Image Module).
    """
    labels = label_components(mask)
    with quiet_libraries():
        segmentation = Segmentation(
            source_images=[source.header],
            pixel_array=labels.astype(np.uint16),
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[
                _describe(source, origin, number) for number in range(1, max(int(labels.max()), 1) + 1)
            ],
            transfer_syntax_uid=ExplicitVRLittleEndian,
            omit_empty_frames=False,
            content_label="PNEUMOTHORAX",
            content_description=description_of(warnings),
            pixel_measures=None
            if source.spacing_mm is None
            else PixelMeasuresSequence(
                pixel_spacing=[round(length, 6) for length in source.spacing_mm], slice_thickness=1.0
            ),
            **origin.common(source, "seg"),
        )
        # highdicom accepts no orientation if the source has no frame of reference
        segmentation.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence = PlaneOrientationSequence(
            coordinate_system=CoordinateSystemNames.PATIENT, image_orientation=[1, 0, 0, 0, 1, 0]
        )
        dimensions = origin.uid(source, "seg", "dimensions")  # instead of a random one
        for item in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
            item.DimensionOrganizationUID = dimensions
        segmentation.PatientOrientation = source.header.PatientOrientation
        segmentation.BodyPartExamined = source.header.BodyPartExamined
        finish(segmentation, source, origin)
    return segmentation


def reference_to_seg(source: Source, origin: Origin) -> Dataset:
    """Give the UIDs of the segmentation that `make_seg` makes, for objects that refer to it.

    Args:
        source: Segmented image.
        origin: Model, settings and time that the mask was made with.
    """
    reference = Dataset()
    reference.SOPClassUID = SegmentationStorage
    reference.SOPInstanceUID = origin.uid(source, "seg", "instance")
    reference.SeriesInstanceUID = origin.uid(source, "seg", "series")
    reference.StudyInstanceUID = source.header.StudyInstanceUID
    return reference


def tracking(source: Source, origin: Origin, number: int) -> tuple[str, str]:
    """Give identifier and UID by which objects track one component.

    Args:
        source: Segmented image.
        origin: Model, settings and time that the mask was made with.
        number: Number of the component, from 1.
    """
    return f"pneumothorax {number}", origin.uid(source, "component", str(number))


def _describe(source: Source, origin: Origin, number: int) -> SegmentDescription:
    identifier, uid = tracking(source, origin, number)
    return SegmentDescription(
        segment_number=number,
        segment_label=f"Pneumothorax {number}",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Pneumothorax,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=origin.algorithm(),
        tracking_uid=uid,
        tracking_id=identifier,
        display_color=CIELabColor.from_rgb(*OUTLINE),
    )
