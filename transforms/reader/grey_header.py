"""Reading of the transforms from stored integers to grey in the header of a DICOM file."""

import numpy as np

from pneumoseg.transforms.reader.elements import Elements
from pneumoseg.transforms.reader.frame import Layout, StoredPixels
from pneumoseg.transforms.reader.grey import GreyScale, LookupTable, Rescale, Window, WindowFunction
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

    Raises: RadiographError: BAD_RESCALE.
    """
    modality = _read_modality(elements, layout, warnings)
    levels = modality(np.arange(int(stored.min()), int(stored.max()) + 1, dtype=np.float64))
    found = float(levels.min()), float(levels.max())
    signed = bool(modality(layout.integers).min() < 0)  # the image itself may lack these
    grey = GreyScale(
        bits_stored=layout.bits_stored,
        modality=modality,
        voi=_read_voi_table(elements, found, warnings, signed=signed)
        or _read_window(elements, found, warnings),
        monochrome1=layout.photometric == "MONOCHROME1",
        inverse=elements.code("PresentationLUTShape") == "INVERSE",
        padding=_read_padding(elements, layout, stored),
    )
    return grey.fitted(stored)


def _read_modality(elements: Elements, layout: Layout, warnings: Warnings) -> Rescale | LookupTable:
    try:
        tables = _read_tables(elements, "ModalityLUTSequence", signed=layout.signed)
        if tables:
            if not np.ptp(tables[0].entries):
                raise ValueError("one value for all stored integers")
            return tables[0]
        slopes, intercepts = elements.decimals("RescaleSlope"), elements.decimals("RescaleIntercept")
    except Exception as error:  # our ValueError, or whatever pydicom raises in a damaged sequence
        raise RadiographError(
            Reason.BAD_RESCALE, "the Modality LUT or rescale is unreadable or constant"
        ) from error
    if tables is not None or slopes == [] or intercepts == []:
        warnings.append((Reason.BAD_RESCALE, "the Modality LUT or rescale is there and empty"))
    rescale = Rescale((slopes or [1.0])[0], (intercepts or [0.0])[0])
    if rescale != Rescale():
        _check_rescale(rescale, layout)
    return rescale


def _check_rescale(rescale: Rescale, layout: Layout) -> None:
    """Refuse a rescale that float32 cannot hold, or that makes different stored integers equal."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = rescale(layout.integers).astype(np.float32)
        distinct = bool(np.isfinite(values).all() and np.diff(values).all())
    if not distinct:
        raise RadiographError(
            Reason.BAD_RESCALE, f"RescaleSlope {rescale.slope:g} and RescaleIntercept {rescale.intercept:g}"
        )


def _read_voi_table(
    elements: Elements, levels: tuple[float, float], warnings: Warnings, *, signed: bool
) -> LookupTable | None:
    """Return the first table that distinguishes some of the image's levels."""
    try:
        tables = _read_tables(elements, "VOILUTSequence", signed=signed)
    except Exception:  # noqa: BLE001  (our ValueError, or whatever pydicom raises in a damaged sequence)
        warnings.append((Reason.BAD_WINDOW, "VOILUTSequence is unreadable"))
        return None
    usable = [table.to_unit_range() for table in tables or () if table.separates(levels)]
    if tables is not None and not usable:
        warnings.append((Reason.BAD_WINDOW, "no VOI LUT is usable: empty, or one grey for the whole image"))
    return usable[0] if usable else None


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
        if window.separates(levels):
            return window
    if centers or widths:
        warnings.append((Reason.BAD_WINDOW, "no window is usable"))
    return None


def _read_tables(elements: Elements, keyword: str, *, signed: bool) -> list[LookupTable] | None:
    """Read the LUTs of a sequence (C.11.1.1), without empty items; a ValueError is raised for a damaged one."""
    items = elements.items(keyword)
    filled = [item for item in items or () if item.raw("LUTDescriptor") or item.raw("LUTData")]
    return None if items is None else [_read_table(item, signed) for item in filled]


def _read_table(item: Elements, signed: bool) -> LookupTable:
    descriptor, data = item.raw("LUTDescriptor"), item.raw("LUTData")
    if descriptor is None or data is None or len(descriptor) != 6:
        raise ValueError("LUTDescriptor or LUTData is missing")
    order = "<" if item.little_endian else ">"
    count, first, _bits = np.frombuffer(descriptor, dtype=f"{order}u2").tolist()
    # the input can be negative, or is said to be
    if first >= 2**15 and (signed or item.vr("LUTDescriptor") == "SS"):
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
