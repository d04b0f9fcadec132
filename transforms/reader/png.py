"""Conversion of a PNG file to a radiograph: grey of 8 or 16 bits, or grey stored as colour.

Source: ISO/IEC 15948 (PNG), 11.2.2 IHDR.
"""

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.elements import quiet_libraries
from pneumoseg.transforms.reader.grey import GreyScale
from pneumoseg.transforms.reader.reasons import RadiographError, Reason
from pneumoseg.transforms.reader.record import Radiograph

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _COLOUR, _PALETTE, _GREY_ALPHA, _COLOUR_ALPHA = 0, 2, 3, 4, 6


def read_png(data: bytes, acceptance: AcceptanceFilters) -> Radiograph:
    """Read a radiograph from the bytes of a PNG file; it has no spacing and no UIDs.

    Args:
        data: Content of the file.
        acceptance: Which files are accepted as frontal chest radiographs.

    Raises:
        RadiographError: With the reason why it is refused.
    """
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise RadiographError(Reason.TRUNCATED, "the file ends within its header")
    columns, rows, depth, colour = struct.unpack(">IIBB", data[16:26])
    if depth not in {8, 16} or colour == _PALETTE:
        raise RadiographError(Reason.UNSUPPORTED_PIXEL, f"PNG of bit depth {depth}, colour type {colour}")
    if depth == 16 and colour != _GREY:  # Pillow would drop the low byte
        raise RadiographError(Reason.UNSUPPORTED_PIXEL, "colour or transparency with 16 bits")
    acceptance.check_size(rows, columns)
    if b"IEND" not in data[-64:]:
        raise RadiographError(Reason.TRUNCATED, "the file has no end marker")
    pixels = _decode(data)
    if pixels.shape[:2] != (rows, columns):
        raise RadiographError(Reason.CONFLICTING_SIZE, f"header {rows} x {columns}, decoded {pixels.shape}")
    warnings: tuple[tuple[Reason, str], ...] = ()
    if colour in {_COLOUR, _COLOUR_ALPHA}:
        if not ((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()):
            raise RadiographError(Reason.UNSUPPORTED_PIXEL, "the image has colours")
        warnings = ((Reason.COLOUR_TO_GREY, "stored as RGB"),)
    grey = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 0])
    return Radiograph(
        stored=grey,
        grey=GreyScale(bits_stored=depth).fitted(grey),
        bits_stored=depth,
        samples_per_pixel=3 if warnings else 1,
        warnings=warnings,
    )


def _decode(data: bytes) -> NDArray[np.unsignedinteger[Any]]:
    """Return the pixels of the only frame in a container of 8 or 16 bits, if viewers show all of them as they are."""
    try:
        with quiet_libraries(), Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            pixels, animated = np.asarray(image), getattr(image, "is_animated", False)
            orientation = image.getexif().get(Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises SyntaxError, OSError, ValueError, ...
        raise RadiographError(Reason.DECODE_ERROR, f"the PNG is damaged ({type(error).__name__})") from error
    if animated:
        raise RadiographError(Reason.MULTIFRAME, "the PNG is animated")
    if orientation not in {0, 1}:  # viewers turn it, and its mask would not lie on what they show
        raise RadiographError(
            Reason.UNSUPPORTED_PIXEL,
            f"EXIF orientation {orientation}: viewers turn the image; save it upright",
        )
    if pixels.ndim == 3 and pixels.shape[2] != 3 and not pixels[..., -1].all():  # their grey is arbitrary
        raise RadiographError(
            Reason.UNSUPPORTED_PIXEL, "some pixels are fully transparent; save the image without transparency"
        )
    return pixels.astype(np.uint16 if pixels.dtype.itemsize > 1 else np.uint8, copy=False)
