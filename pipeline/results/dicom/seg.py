"""Make a mask a DICOM Segmentation, aligned to the pixels of its source."""

import numpy as np
import numpy.typing as npt
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence
from highdicom.enum import CoordinateSystemNames
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from pneumoseg.pipeline.results.dicom.origin import NOTICE, Origin, finish
from pneumoseg.pipeline.results.dicom.source import Source
from pneumoseg.transforms.reader.elements import quiet_libraries

_PLACEHOLDER = (1.0, 1.0)  # viewers fail without any spacing; no measurement uses this one


def make_seg(source: Source, mask: npt.NDArray[np.uint8], origin: Origin) -> Segmentation:
    """Make a binary segmentation of one frame; an empty mask gives a frame of zeros.

    Args:
        source: Segmented image.
        mask: Zeros and ones, shape ``(rows, columns)`` of the source as stored.
        origin: Model and settings that the mask was made with.
    """
    with quiet_libraries():
        segmentation = Segmentation(
            source_images=[source.header],
            pixel_array=mask,
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[_describe(source, origin)],
            transfer_syntax_uid=ExplicitVRLittleEndian,
            omit_empty_frames=False,
            content_label="PNEUMOTHORAX",
            content_description=NOTICE,
            # some readers require a third dimension, which a projection does not have
            pixel_measures=PixelMeasuresSequence(
                pixel_spacing=[round(length, 6) for length in source.spacing_mm or _PLACEHOLDER],
                slice_thickness=1.0,
            ),
            **origin.common(source, "seg"),
        )
        # highdicom accepts no orientation if the source has no frame of reference, and viewers fail without one
        shared = segmentation.SharedFunctionalGroupsSequence[0]
        shared.PlaneOrientationSequence = PlaneOrientationSequence(
            coordinate_system=CoordinateSystemNames.PATIENT, image_orientation=[1, 0, 0, 0, 1, 0]
        )
        dimensions = origin.uid(source, "seg", "dimensions")  # instead of a random one
        for item in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
            item.DimensionOrganizationUID = dimensions
        segmentation.PatientOrientation = list(source.orientation)
        segmentation.BodyPartExamined = source.header.BodyPartExamined
        finish(segmentation, source)
    return segmentation


def _describe(source: Source, origin: Origin) -> SegmentDescription:
    return SegmentDescription(
        segment_number=1,
        segment_label="Pneumothorax",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Pneumothorax,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=origin.algorithm(),
        tracking_uid=origin.uid(source, "finding"),
        tracking_id="pneumothorax",
    )
