"""Make the overlay a Secondary Capture, for archives whose viewers show neither SEG nor SR."""

import numpy as np
import numpy.typing as npt
from highdicom.enum import CoordinateSystemNames, PhotometricInterpretationValues
from highdicom.sc import SCImage
from pydicom.uid import ExplicitVRLittleEndian

from pneumoseg.pipeline.results.dicom.origin import NOTICE, Origin, finish
from pneumoseg.pipeline.results.dicom.source import Source
from pneumoseg.transforms.reader.elements import quiet_libraries


def make_sc(source: Source, picture: npt.NDArray[np.uint8], origin: Origin) -> SCImage:
    """Make a Secondary Capture of the radiograph with its mask as an overlay.

    Args:
        source: Segmented image.
        picture: RGB overlay, shape ``(rows, columns, 3)``, with the source's rows and columns as stored.
        origin: Model and settings that the mask was made with.
    """
    header = source.header
    with quiet_libraries():
        image = SCImage.from_ref_dataset(
            header,
            pixel_array=picture,
            photometric_interpretation=PhotometricInterpretationValues.RGB,
            bits_allocated=8,
            coordinate_system=CoordinateSystemNames.PATIENT,
            patient_orientation=source.orientation,
            pixel_spacing=source.spacing_mm,  # type: ignore[arg-type]  # annotated as whole numbers
            transfer_syntax_uid=ExplicitVRLittleEndian,
            **origin.common(source, "sc"),
        )
        image.ImageComments = NOTICE
        for keyword in ("DateOfSecondaryCapture", "TimeOfSecondaryCapture"):
            delattr(image, keyword)
        for keyword in (
            "BodyPartExamined", "Laterality", "PatientOrientation", "LossyImageCompression",
            "LossyImageCompressionRatio", "LossyImageCompressionMethod", "BurnedInAnnotation",
        ):  # fmt: skip
            if keyword in header:
                setattr(image, keyword, header[keyword].value)
        finish(image, source)
    return image
