import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.png import PNG_SIGNATURE, read_png
from pneumoseg.transforms.reader.radiograph import RadiographError, read_radiograph
from pneumoseg.transforms.reader.reasons import Reason

GREY = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)


def png(pixels: NDArray[Any], **options: Any) -> bytes:
    data = BytesIO()
    Image.fromarray(pixels).save(data, "PNG", **options)
    return data.getvalue()


def refusal(data: bytes, acceptance: AcceptanceFilters | None = None) -> Reason:
    with pytest.raises(RadiographError) as caught:
        read_png(data, acceptance or AcceptanceFilters())
    return caught.value.reason


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def header(columns: int, rows: int, depth: int = 8, colour: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, depth, colour, 0, 0, 0))


def test_eight_bits_are_read_as_they_are() -> None:
    radiograph = read_png(png(GREY), AcceptanceFilters())
    np.testing.assert_array_equal(radiograph.values, GREY)
    assert (radiograph.bits_stored, radiograph.warnings) == (8, ())


def test_sixteen_bits_are_read_as_they_are() -> None:
    deep = GREY.astype(np.uint16) * 257
    radiograph = read_png(png(deep), AcceptanceFilters())
    np.testing.assert_array_equal(radiograph.values, deep)
    assert radiograph.bits_stored == 16


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_grey_in_several_channels_is_read(channels: int) -> None:
    colour = np.stack([GREY] * channels, axis=-1)
    if channels != 3:
        colour[..., -1] = 255  # opaque
    radiograph = read_png(png(colour), AcceptanceFilters())
    np.testing.assert_array_equal(radiograph.stored, GREY)
    expected = [] if channels == 2 else [Reason.COLOUR_TO_GREY]
    assert [reason for reason, _ in radiograph.warnings] == expected


def test_a_png_tells_neither_spacing_nor_identity() -> None:
    radiograph = read_png(png(GREY), AcceptanceFilters())
    assert radiograph.spacing_mm is None
    assert radiograph.sop_instance_uid is None
    assert radiograph.patient_id is None
    assert radiograph.modality is None


def test_colours_are_not_supported() -> None:
    assert refusal(png(np.stack([GREY, GREY, GREY ^ 1], axis=-1))) is Reason.UNSUPPORTED_PIXEL


@pytest.mark.parametrize(("orientation", "reason"), [(1, None), (3, Reason.UNSUPPORTED_PIXEL)])
def test_a_png_that_viewers_turn_is_not_supported(orientation: int, reason: Reason | None) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    data = png(GREY, exif=exif)
    if reason is None:
        np.testing.assert_array_equal(read_png(data, AcceptanceFilters()).stored, GREY)
    else:
        assert refusal(data) is reason


@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_pixels_are_not_supported(channels: int) -> None:
    opacity = np.where(GREY > 100, 255, 0).astype(np.uint8)
    assert refusal(png(np.stack([GREY] * channels + [opacity], axis=-1))) is Reason.UNSUPPORTED_PIXEL


@pytest.mark.parametrize(("depth", "colour"), [(1, 0), (4, 0), (8, 3), (16, 2), (16, 4)])
def test_other_depths_and_palettes_are_not_supported(depth: int, colour: int) -> None:
    data = PNG_SIGNATURE + header(20, 12, depth, colour) + chunk(b"IEND", b"")
    assert refusal(data) is Reason.UNSUPPORTED_PIXEL


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_cut_png_is_truncated(share: float) -> None:
    data = png(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    assert refusal(data[: int(share * len(data))]) is Reason.TRUNCATED


def test_a_bomb_is_refused_by_its_header() -> None:
    data = PNG_SIGNATURE + header(60000, 60000) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    assert refusal(data) is Reason.TOO_LARGE
    assert refusal(png(GREY), AcceptanceFilters(max_pixels=239)) is Reason.TOO_LARGE


def test_damaged_pixels_are_a_decode_error() -> None:
    data = PNG_SIGNATURE + header(20, 12) + chunk(b"IDAT", b"garbage") + chunk(b"IEND", b"")
    assert refusal(data) is Reason.DECODE_ERROR


def test_an_animation_is_no_radiograph() -> None:
    frames = [Image.fromarray(GREY ^ number) for number in range(2)]
    data = BytesIO()
    frames[0].save(data, "PNG", save_all=True, append_images=frames[1:])
    assert refusal(data.getvalue()) is Reason.MULTIFRAME


def test_real_radiographs_are_read_as_pillow_shows_them(real_data: Path) -> None:
    paths = sorted((real_data / "nih-png").glob("*.png"))
    assert len(paths) == 4
    for path in paths:
        radiograph = read_radiograph(path)
        assert (radiograph.shape, radiograph.warnings) == ((1024, 1024), ())
        with Image.open(path) as picture:
            np.testing.assert_array_equal(radiograph.values, np.asarray(picture))
