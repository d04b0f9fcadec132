"""Grey transforms from a DICOM header: Modality LUT or rescale, VOI, inversion, padding.

pydicom's `apply_modality_lut` and `apply_voi_lut` compute the same but raise a TypeError for an empty item, overflow in
8 bits, and ignore padding. Here each error has a reason.
"""

import numpy as np

from pneumoseg.transforms.reader.elements import Elements
from pneumoseg.transforms.reader.frame import Layout, StoredPixels
from pneumoseg.transforms.reader.grey import (
    GreyScale,
    LookupTable,
    Rescale,
    Window,
    WindowFunction,
    levels_between,
)
from pneumoseg.transforms.reader.reasons import RadiographError, Reason, Warnings

GREY_KEYWORDS = (
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "PresentationLUTShape"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit"),
)


def read_grey_scale(
    elements: Elements, layout: Layout, stored: StoredPixels, warnings: Warnings
) -> GreyScale:
    """Read the transforms of stored integers to grey.

    Args:
        elements: Elements of the data set.
        layout: Layout of the pixels.
        stored: Stored integers, shape ``(rows, columns)``.
        warnings: List to which warnings are added.

    Raises:
        RadiographError: BAD_RESCALE.
    """
    modality = _read_modality(elements, layout, warnings)
    return GreyScale(
        bits_stored=layout.bits_stored,
        modality=modality,
        voi=_read_voi(elements, levels_between(modality, stored), warnings),
        monochrome1=layout.photometric == "MONOCHROME1",
        inverse=elements.code("PresentationLUTShape") == "INVERSE",
        padding=_read_padding(elements, layout, stored),
    )


def _read_modality(elements: Elements, layout: Layout, warnings: Warnings) -> Rescale | LookupTable:
    try:
        tables = elements.items("ModalityLUTSequence")
        if tables:
            return _read_table(tables[0], signed=layout.signed)
        slopes, intercepts = elements.decimals("RescaleSlope"), elements.decimals("RescaleIntercept")
    except _EmptyItemError:
        warnings.append((Reason.BAD_RESCALE, "ModalityLUTSequence has an empty item"))
        return Rescale()
    except Exception as error:  # our ValueError, or whatever pydicom raises in a damaged sequence
        raise RadiographError(Reason.BAD_RESCALE, "the Modality LUT or rescale is unreadable") from error
    if tables == [] or slopes == [] or intercepts == []:
        warnings.append((Reason.BAD_RESCALE, "the Modality LUT or rescale is there and empty"))
    rescale = Rescale((slopes or [1.0])[0], (intercepts or [0.0])[0])
    if rescale != Rescale():
        _check_rescale(rescale, layout)
    return rescale


def _check_rescale(rescale: Rescale, layout: Layout) -> None:
    """Refuse a rescale that float32 cannot hold, or that makes different stored integers equal."""
    low = -(2 ** (layout.bits_stored - 1)) if layout.signed else 0
    integers = np.arange(low, low + 2**layout.bits_stored, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        values = rescale(integers).astype(np.float32)
        distinct = bool(np.isfinite(values).all() and np.diff(values).all())
    if not distinct:
        raise RadiographError(
            Reason.BAD_RESCALE, f"RescaleSlope {rescale.slope:g} and RescaleIntercept {rescale.intercept:g}"
        )


def _read_voi(
    elements: Elements, levels: tuple[float, float], warnings: Warnings
) -> Window | LookupTable | None:
    """Return the first usable VOI: table, else window, else None."""
    table = _read_voi_table(elements, signed=levels[0] < 0, warnings=warnings)
    return table or _read_window(elements, levels, warnings)


def _read_voi_table(elements: Elements, *, signed: bool, warnings: Warnings) -> LookupTable | None:
    try:
        tables = elements.items("VOILUTSequence")
        table = _read_table(tables[0], signed=signed) if tables else None
    except Exception:  # noqa: BLE001  (our ValueError, or whatever pydicom raises in a damaged sequence)
        warnings.append((Reason.BAD_WINDOW, "VOILUTSequence is unreadable"))
        return None
    if table is None:
        return None
    if table.entries.min() == table.entries.max():
        warnings.append((Reason.BAD_WINDOW, "all entries of the VOI LUT are equal"))
        return None
    return table.to_unit_range()


def _read_window(elements: Elements, levels: tuple[float, float], warnings: Warnings) -> Window | None:
    """Return the first window that distinguishes some of the image's levels."""
    try:
        centers, widths = elements.decimals("WindowCenter") or [], elements.decimals("WindowWidth") or []
    except ValueError:
        centers = widths = [np.nan]
    code = elements.code("VOILUTFunction")
    function = WindowFunction(code) if code in set(WindowFunction) else WindowFunction.LINEAR
    for center, width in zip(centers, widths, strict=False):
        window = Window(center, width, function)
        if _is_usable(window, levels):
            return window
    if centers or widths:
        warnings.append((Reason.BAD_WINDOW, "no window is usable"))
    return None


def _is_usable(window: Window, levels: tuple[float, float]) -> bool:
    low, high = window.reach
    narrowest = 1.0  # a window of this width gives black and white only
    if window.function is not WindowFunction.LINEAR:  # these may be defined for fractions
        narrowest = min(1.0, (levels[1] - levels[0]) / 128)
    if not (np.isfinite(low) and np.isfinite(high) and window.width > narrowest):
        return False
    return levels[0] == levels[1] or (low < levels[1] and high > levels[0])


class _EmptyItemError(ValueError):
    """Empty item of a sequence."""


def _read_table(item: Elements, *, signed: bool) -> LookupTable:
    """Read a LUT (C.11.1.1): descriptor and entries, of 8 or 16 bits each.

    Raises:
        ValueError: If descriptor and entries do not match.
    """
    descriptor, data = item.raw("LUTDescriptor"), item.raw("LUTData")
    if descriptor is None and data is None:
        raise _EmptyItemError
    if descriptor is None or data is None or len(descriptor) != 6:
        raise ValueError("LUTDescriptor or LUTData is missing")
    order = "<" if item.little_endian else ">"
    count, first, _bits = np.frombuffer(descriptor, dtype=f"{order}u2").tolist()
    if signed and first >= 2**15:
        first -= 2**16
    count = count or 2**16
    if len(data) == 2 * count:
        entries = np.frombuffer(data, dtype=f"{order}u2")
    elif len(data) - count in {0, 1}:
        entries = np.frombuffer(data[:count], dtype="u1")
    else:
        raise ValueError(f"{len(data)} bytes of LUTData for {count} entries")
    return LookupTable(first, entries.astype(np.float64))


def _read_padding(elements: Elements, layout: Layout, stored: StoredPixels) -> tuple[int, int] | None:
    """Return the range of stored integers that denote padding; None if it covers the whole image."""
    value, limit = (elements.raw(name) or b"" for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"))
    if len(value) != 2:
        return None
    ends = [value, limit] if len(limit) == 2 else [value]
    integers = [int.from_bytes(end, elements.byte_order, signed=layout.signed) for end in ends]
    first, last = min(integers), max(integers)
    return None if first <= stored.min() and stored.max() <= last else (first, last)
