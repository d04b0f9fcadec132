import struct

import pytest

from pneumoseg.transforms.reader.reasons import RadiographError, Reason
from pneumoseg.transforms.reader.streams import StreamInfo, read_j2k_header, read_jpeg_header, rle_segments

BASELINE = frozenset({0xC0})


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


FRAME = segment(0xC0, struct.pack(">BHHB", 8, 40, 30, 1) + b"\x01\x11\x00")
SCAN = segment(0xDA, b"\x01\x01\x00\x00\x3f\x00") + b"\x12\xff\x00\x34"
JPEG = b"\xff\xd8" + segment(0xE0, b"JFIF\xff\xd9") + FRAME + SCAN + b"\xff\xd9"


def j2k(
    *,
    size: tuple[int, int] = (30, 40),
    offset: tuple[int, int] = (0, 0),
    tile: tuple[int, int] = (30, 40),
    components: bytes = b"\x0b\x01\x01",
) -> bytes:
    siz = struct.pack(">H8IH", 0, *size, *offset, *tile, 0, 0, len(components) // 3) + components
    return b"\xff\x4f" + segment(0x51, siz) + b"\xff\x90data\xff\xd9"


def reason_of(error: pytest.ExceptionInfo[RadiographError]) -> Reason:
    return error.value.reason


def test_a_jpeg_tells_rows_before_columns() -> None:
    assert read_jpeg_header(JPEG, BASELINE) == StreamInfo(rows=40, columns=30, samples=1, precision=8)


def test_a_jpeg_may_be_padded_at_its_end() -> None:
    assert read_jpeg_header(JPEG + b"\0", BASELINE).rows == 40


def test_fill_bytes_before_a_marker_are_passed_over() -> None:
    assert read_jpeg_header(JPEG.replace(FRAME, b"\xff\xff" + FRAME), BASELINE).rows == 40


@pytest.mark.parametrize("cut", [2, 5, 14, 20, 28, len(JPEG) - 2])
def test_a_cut_jpeg_is_refused_though_its_thumbnail_has_an_end_marker(cut: int) -> None:
    with pytest.raises(RadiographError) as caught:
        read_jpeg_header(JPEG[:cut], BASELINE)
    assert reason_of(caught) is Reason.DECODE_ERROR


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\x89PNG",
        JPEG.replace(FRAME, b""),
        JPEG.replace(FRAME, FRAME + FRAME),
        JPEG.replace(FRAME, b"\xff\xc0\x00\x01"),
        JPEG + bytes(range(1, 200)),
    ],
)
def test_a_damaged_jpeg_is_refused(stream: bytes) -> None:
    with pytest.raises(RadiographError) as caught:
        read_jpeg_header(stream, BASELINE)
    assert reason_of(caught) is Reason.DECODE_ERROR


def test_a_jpeg_of_another_process_is_refused() -> None:
    with pytest.raises(RadiographError, match="SOF0 is not what the transfer syntax names"):
        read_jpeg_header(JPEG, frozenset({0xC3}))


def test_a_j2k_stream_tells_its_size_and_depth() -> None:
    assert read_j2k_header(j2k()) == StreamInfo(rows=40, columns=30, samples=1, precision=12)
    assert read_j2k_header(j2k(components=b"\x8f\x01\x01")).signed


def test_the_size_of_a_j2k_image_excludes_its_offset() -> None:
    info = read_j2k_header(j2k(size=(35, 50), offset=(5, 10), tile=(50, 50)))
    assert (info.rows, info.columns) == (40, 30)


def test_a_j2k_stream_without_its_end_is_refused() -> None:
    with pytest.raises(RadiographError, match="no end marker"):
        read_j2k_header(j2k()[:-2])


@pytest.mark.parametrize(
    "stream",
    [
        j2k()[:30],
        j2k(size=(0, 40)),
        j2k(offset=(30, 0)),
        j2k(tile=(0, 40)),
        j2k(size=(3000, 3000), tile=(1, 1)),
        j2k(components=b""),
    ],
)
def test_a_j2k_stream_of_impossible_size_is_refused(stream: bytes) -> None:
    with pytest.raises(RadiographError) as caught:
        read_j2k_header(stream)
    assert reason_of(caught) is Reason.DECODE_ERROR


@pytest.mark.parametrize("components", [b"\x07\x02\x01", b"\x07\x01\x01\x0b\x01\x01"])
def test_subsampled_or_unequal_j2k_components_are_not_supported(components: bytes) -> None:
    with pytest.raises(RadiographError) as caught:
        read_j2k_header(j2k(components=components))
    assert reason_of(caught) is Reason.UNSUPPORTED_PIXEL


def rle(count: int, *offsets: int, data: bytes = b"ABCD") -> bytes:
    return struct.pack("<16I", count, *offsets, *[0] * (15 - len(offsets))) + data


def test_an_rle_frame_falls_into_its_segments() -> None:
    assert rle_segments(rle(2, 64, 66), 2) == [b"AB", b"CD"]


@pytest.mark.parametrize(
    "stream",
    [
        b"\x01\0\0\0",
        rle(0),
        rle(1, 64),
        rle(2, 64, 64),
        rle(2, 66, 64),
        rle(2, 64, 68),
        rle(2, 0, 64),
        rle(4_000_000_000),
    ],
)
def test_an_rle_frame_with_wrong_offsets_is_refused(stream: bytes) -> None:
    with pytest.raises(RadiographError) as caught:
        rle_segments(stream, 2)
    assert reason_of(caught) is Reason.DECODE_ERROR
