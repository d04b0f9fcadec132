"""Present a mask over its source image: Grayscale Softcopy Presentation State with outlines and text.

A viewer applies the presentation state instead of the display attributes of the image, so that it has to repeat all of
them: modality transform, VOI transform and polarity.

Source: DICOM PS3.3 A.33.1, C.10.5 (graphic annotations), C.11.8 (softcopy VOI LUT); PS3.4 N.2 (order of transforms).
"""

from collections.abc import Sequence
from copy import copy
from typing import Final

import numpy as np
import numpy.typing as npt
from highdicom.color import CIELabColor
from highdicom.content import PresentationLUTTransformation
from highdicom.enum import PresentationLUTShapeValues
from highdicom.pr import (
    AnnotationUnitsValues,
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GraphicTypeValues,
    GrayscaleSoftcopyPresentationState,
    TextJustificationValues,
    TextObject,
)
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from pneumoseg.pipeline.drawing.pictures import OUTLINE
from pneumoseg.pipeline.results.dicom.origin import NOTICE, Origin, copy_if_given, finish
from pneumoseg.pipeline.results.dicom.seg import tracking
from pneumoseg.pipeline.results.dicom.source import NoDicomResultError, Source
from pneumoseg.transforms.measurements import outlines
from pneumoseg.transforms.reader.elements import quiet_libraries
from pneumoseg.transforms.reader.grey import LookupTable, Rescale, Window
from pneumoseg.transforms.reader.radiograph import Radiograph

_LAYER: Final = GraphicLayer(
    "PNEUMOTHORAX",
    order=1,
    description=NOTICE,
    display_color=CIELabColor.from_rgb(*OUTLINE),
)
_TEXT_BOX: Final = (0.0, 0.85, 1.0, 1.0)  # left, top, right and bottom in shares of the displayed area


def make_gsps(
    source: Source,
    radiograph: Radiograph,
    mask: npt.NDArray[np.uint8],
    lines: Sequence[str],
    origin: Origin,
) -> GrayscaleSoftcopyPresentationState:
    """Make a presentation state with the outline of each component and text.

    Args:
        source: Segmented image.
        radiograph: Radiograph that was read from the same file; the display of its greys is repeated.
        mask: Zeros and ones, shape ``(rows, columns)`` of the source as stored.
        lines: Lines of text that state the result and its origin.
        origin: Model and settings that the mask was made with.

    Raises: NoDicomResultError: If the file stores the image as colour, which the SOP class does not cover.
    """
    if radiograph.samples_per_pixel != 1:
        raise NoDicomResultError("a grayscale presentation state needs a grey image; this file stores colour")
    image = copy(source.header)
    image.SamplesPerPixel = 1
    common = origin.common(source, "gsps")
    made_on, made_at = common.pop("content_date"), common.pop("content_time")
    shape = PresentationLUTShapeValues("INVERSE" if radiograph.grey.inverted else "IDENTITY")
    with quiet_libraries():
        annotation = GraphicAnnotation(
            [image],
            _LAYER,
            graphic_objects=_graphics(source, mask, origin),
            text_objects=[_text(lines)],
        )
        state = GrayscaleSoftcopyPresentationState(
            referenced_images=[image],
            content_label=_LAYER.GraphicLayer,
            content_description=NOTICE,
            graphic_layers=[_LAYER],
            graphic_annotations=[annotation],
            presentation_lut_transformation=PresentationLUTTransformation(shape),
            **common,
        )
        state.PresentationCreationDate, state.PresentationCreationTime = made_on, made_at
        _set_greys(state, radiograph)
        _set_aspect(state, source, radiograph)
        copy_if_given(source, state, "BodyPartExamined", "Laterality")
        finish(state, source, origin)
    return state


def _graphics(source: Source, mask: npt.NDArray[np.uint8], origin: Origin) -> list[GraphicObject] | None:
    """Make the outlines of the components, tracked as their segments are; None for an empty mask."""
    graphics = []
    for number, outline in enumerate(outlines(mask), start=1):
        identifier, uid = tracking(source, origin, number)
        graphics.append(
            GraphicObject(
                GraphicTypeValues.POLYLINE,
                outline,
                units=AnnotationUnitsValues.PIXEL,
                tracking_id=identifier,
                tracking_uid=uid,
            )
        )
    return graphics or None


def _text(lines: Sequence[str]) -> TextObject:
    return TextObject(
        "\r\n".join(lines),
        units=AnnotationUnitsValues.DISPLAY,
        bounding_box=_TEXT_BOX,
        text_justification=TextJustificationValues.LEFT,
    )


def _set_greys(state: Dataset, radiograph: Radiograph) -> None:
    """Repeat the modality and VOI transforms with which the radiograph is displayed."""
    grey = radiograph.grey
    if isinstance(grey.modality, LookupTable):
        table = _lookup_table(grey.modality.first, grey.modality.entries)
        table.ModalityLUTType = "US"
        state.ModalityLUTSequence = [table]
    elif grey.modality != Rescale():
        state.RescaleSlope = _decimal(grey.modality.slope)
        state.RescaleIntercept = _decimal(grey.modality.intercept)
        state.RescaleType = "US"
    item = Dataset()
    match grey.fitted(radiograph.stored).voi:
        case Window(center, width, function):
            item.WindowCenter, item.WindowWidth = _decimal(center), _decimal(width)
            item.VOILUTFunction = function
        case LookupTable(first, entries):
            item.VOILUTSequence = [_lookup_table(first, (entries * 65535).round())]
    state.SoftcopyVOILUTSequence = [item]


def _lookup_table(first: int, entries: npt.NDArray[np.float64]) -> Dataset:
    """Make an item of a LUT sequence with entries of 16 bits (C.11.1.1)."""
    item = Dataset()
    numbers = np.array([len(entries) % 65536, first % 65536, 16], dtype=np.uint16)
    vr, kind = ("SS", np.int16) if first < 0 else ("US", np.uint16)
    item.add_new("LUTDescriptor", vr, numbers.view(kind).tolist())
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


def _set_aspect(state: Dataset, source: Source, radiograph: Radiograph) -> None:
    """State the size of a pixel or, where that is unknown, its shape; highdicom takes every pixel for a square."""
    (area,) = state.DisplayedAreaSelectionSequence
    if source.spacing_mm is not None:
        del area.PresentationPixelAspectRatio
        area.PresentationPixelSpacing = [_decimal(length) for length in source.spacing_mm]
    elif radiograph.pixel_aspect != 1:
        area.PresentationPixelAspectRatio = [round(1000 * radiograph.pixel_aspect), 1000]


def _decimal(value: float) -> DSfloat:
    return DSfloat(value, auto_format=True)
