"""List the source image in the image library of an SR, as far as its orientation and spacing are known."""

from copy import copy

from highdicom.sr import CodedConcept, ImageLibrary, NumContentItem, RelationshipTypeValues, TextContentItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from pneumoseg.pipeline.results.dicom.source import Source


def image_library(source: Source) -> Dataset:
    """Make an image library of one image.

    highdicom describes a radiograph only if it has orientation and spacing, and fails otherwise.

    Args:
        source: The image.

    Source: DICOM PS3.16 TID 1600 (Image Library) and 1603 (descriptors for projection radiography).
    """
    header = copy(source.header)
    header.Modality = "OT"  # of a kind that highdicom describes by what all images have
    library = ImageLibrary([header])[0]
    descriptors = library.ContentSequence[0].ContentSequence[0].ContentSequence
    relationship = RelationshipTypeValues.HAS_ACQ_CONTEXT
    if source.orientation is not None:
        names = codes.DCM.PatientOrientationRow, codes.DCM.PatientOrientationColumn
        descriptors.extend(
            TextContentItem(CodedConcept.from_code(name), direction, relationship)
            for name, direction in zip(names, source.orientation, strict=True)
        )
    if source.spacing_mm is not None:
        names = codes.DCM.VerticalPixelSpacing, codes.DCM.HorizontalPixelSpacing
        descriptors.extend(
            NumContentItem(
                CodedConcept.from_code(name),
                round(length, 6),
                codes.UCUM.Millimeter,
                relationship_type=relationship,
            )
            for name, length in zip(names, source.spacing_mm, strict=True)
        )
    return library
