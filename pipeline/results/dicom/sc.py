"""Make the overlay a Secondary Capture, for archives whose viewers show neither SEG nor SR."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from highdicom.enum import CoordinateSystemNames, PhotometricInterpretationValues
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

from pneumoseg.pipeline.drawing.captions import with_caption
from pneumoseg.pipeline.results.dicom.origin import NOTICE, Origin, copy_if_given, finish
from pneumoseg.pipeline.results.dicom.source import Source
from pneumoseg.transforms.reader.elements import quiet_libraries

_WORTH_COMPRESSING: Final = 0.5  # compressed pixels must be at most this share of the others


def make_sc(source: Source, picture: npt.NDArray[np.uint8], lines: Sequence[str], origin: Origin) -> SCImage:
    """Make a Secondary Capture of the radiograph with its mask as an overlay, and text in a strip below.

    Args:
        source: Segmented image.
        picture: RGB overlay, shape ``(rows, columns, 3)``, with the source's rows and columns as stored.
        lines: Lines of text that state the result and its origin.
        origin: Model and settings that the mask was made with.

    Returns: Image of the source's columns and more rows; JPEG-LS Lossless where that halves the size.
    """
    header = source.header
    along_rows, along_columns = source.orientation or ("L", "F")
    pixels = with_caption(picture, lines)
    with quiet_libraries():
        for syntax in (JPEGLSLossless, ExplicitVRLittleEndian):
            image = SCImage.from_ref_dataset(
                header,
                pixel_array=pixels,
                photometric_interpretation=PhotometricInterpretationValues.RGB,
                bits_allocated=8,
                coordinate_system=CoordinateSystemNames.PATIENT,
                # highdicom takes one letter each; the value of the source, which may be unknown, replaces them below
                patient_orientation=(along_rows[0], along_columns[0]),
                pixel_spacing=source.spacing_mm,  # type: ignore[arg-type]  # annotated as whole numbers
                transfer_syntax_uid=syntax,
                **origin.common(source, "sc"),
            )
            if len(image.PixelData) <= _WORTH_COMPRESSING * pixels.nbytes:
                break
        image.ImageComments = NOTICE
        image.DerivationDescription = "Outline of the segmentation, and text below the image"
        image.SourceImageSequence = [_reference(header)]
        for keyword in ("DateOfSecondaryCapture", "TimeOfSecondaryCapture"):
            delattr(image, keyword)
        copy_if_given(
            source, image, "BodyPartExamined", "Laterality", "PatientOrientation", "LossyImageCompression",
            "LossyImageCompressionRatio", "LossyImageCompressionMethod", "BurnedInAnnotation",
        )  # fmt: skip
        finish(image, source, origin)
    return image


def _reference(header: Dataset) -> Dataset:
    """Refer to the source image (PS3.3 C.7.6.1, Source Image Sequence)."""
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    purpose = codes.DCM.SourceImageForImageProcessingOperation
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(purpose)]
    return item
