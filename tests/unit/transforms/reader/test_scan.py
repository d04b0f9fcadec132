"""Elements of a data set, byte by byte."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from pneumoseg.transforms.reader.dicom_file import DicomFile, read_dicom_file
from pneumoseg.transforms.reader.reasons import RadiographError, Reason
from pneumoseg.transforms.reader.scan import pixel_items

WriteDicom = Callable[..., Path]
PIXELS = np.arange(16 * 24, dtype=np.uint16).reshape(16, 24)


def read(data: bytes) -> DicomFile:
    return read_dicom_file(data, frozenset({"Rows", "Modality"}), max_bytes=10**6)


def refusal(data: bytes) -> Reason:
    with pytest.raises(RadiographError) as caught:
        read(data)
    return caught.value.reason


UNDEFINED, ITEM, ITEM_END = b"\xff\xff\xff\xff", b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0\0\0\0\0"
SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"
TEXT, IMPLICIT_TEXT = b"\x08\x00\x04\x01LO\x04\x00abcd", b"\x08\x00\x04\x01\x04\x00\x00\x00abcd"


def value_without_length(vr: bytes, value: bytes, *, ends: bool = True) -> bytes:
    return b"\x21\x10\x01\x10" + vr + b"\0\0" + UNDEFINED + value + (SEQUENCE_END if ends else b"")


def item(value: bytes, *, ends: bool = True) -> bytes:
    return ITEM + UNDEFINED + value + (ITEM_END if ends else b"")


def with_element(data: bytes, element: bytes) -> bytes:
    """Put an element before the group of the pixels' description."""
    place = data.index(b"\x28\x00\x02\x00US")
    return data[:place] + element + data[place:]


@pytest.mark.parametrize(
    "element",
    [
        value_without_length(b"SQ", b""),
        value_without_length(b"SQ", item(TEXT)),
        value_without_length(b"SQ", item(value_without_length(b"SQ", item(TEXT)) + TEXT)),
        value_without_length(b"SQ", ITEM + b"\x0c\0\0\0" + TEXT),
        value_without_length(b"UN", item(IMPLICIT_TEXT)),  # PS3.5 6.2.2
        value_without_length(b"UN", item(TEXT)),
    ],
)
def test_a_sequence_of_undefined_length_ends_with_its_delimiter(
    write_dicom: WriteDicom, element: bytes
) -> None:
    file = read(with_element(write_dicom(PIXELS).read_bytes(), element))
    assert file.pixels is not None
    assert file.elements.unsigned("Rows") == 16


@pytest.mark.parametrize(
    "element",
    [  # dcmdump refuses them, or finds no pixels
        value_without_length(b"SQ", b"", ends=False),
        value_without_length(b"SQ", item(TEXT), ends=False),
        value_without_length(b"SQ", item(TEXT, ends=False)),
        value_without_length(b"SQ", item(value_without_length(b"SQ", item(TEXT), ends=False))),
        value_without_length(b"UN", item(IMPLICIT_TEXT), ends=False),
        value_without_length(b"OB", item(TEXT)),
        value_without_length(b"OW", item(TEXT)),
        value_without_length(b"UT", b"text"),
        ITEM_END,
        SEQUENCE_END,
        item(TEXT),
    ],
)
@pytest.mark.parametrize("has_pixels", [True, False])
def test_where_the_parse_is_lost_the_header_is_bad_and_not_one_without_pixels(
    write_dicom: WriteDicom, element: bytes, has_pixels: bool
) -> None:
    data = write_dicom(PIXELS).read_bytes()
    if not has_pixels:
        data = data[: data.index(b"\xe0\x7f\x10\x00OW")]
    assert refusal(with_element(data, element)) is Reason.BAD_HEADER


IMPLICIT_TEXT_OF_66 = b"\x08\x00\x04\x01\x42\x00\x00\x00" + b"a" * 66  # these lengths look like a VR
IMPLICIT_TEXT_OF_16705 = b"\x08\x00\x05\x01\x41\x41\x00\x00" + b"a" * 16705


@pytest.mark.parametrize("text", [IMPLICIT_TEXT_OF_66, IMPLICIT_TEXT + IMPLICIT_TEXT_OF_16705])
def test_the_length_of_an_implicit_element_in_an_explicit_file_is_not_taken_for_a_vr(
    write_dicom: WriteDicom, text: bytes
) -> None:
    element = value_without_length(b"UN", item(text))
    assert read(with_element(write_dicom(PIXELS).read_bytes(), element)).pixels is not None


def test_an_element_that_is_there_twice_must_not_have_two_values(write_dicom: WriteDicom) -> None:
    data = write_dicom(PIXELS).read_bytes()
    rows = b"\x28\x00\x10\x00US\x02\x00\x10\x00"
    assert read(data.replace(rows, rows * 2)).elements.unsigned("Rows") == 16
    other = rows.replace(b"\x10\x00US\x02\x00\x10", b"\x10\x00US\x02\x00\x11")
    assert refusal(data.replace(rows, rows + other)) is Reason.BAD_HEADER
    unneeded = b"\x28\x00\x00\x10LO\x02\x00" + b"a "
    assert read(data.replace(rows, unneeded + rows + unneeded.replace(b"a", b"b"))).pixels is not None


@pytest.mark.parametrize("stream", [None, b"\xff\xd8 a stream"])
def test_an_element_must_not_follow_the_pixels_if_its_place_is_before_them(
    write_dicom: WriteDicom, stream: bytes | None
) -> None:
    syntax = ExplicitVRLittleEndian if stream is None else JPEGBaseline8Bit
    data = write_dicom(PIXELS if stream is None else stream, syntax=syntax).read_bytes()
    modality = b"\x08\x00\x60\x00CS\x02\x00DX"  # pydicom reads it
    padding = b"\xfc\xff\xfc\xffOB\0\0\x04\0\0\0" + bytes(4)
    assert refusal(data.replace(modality, b"") + modality) is Reason.BAD_HEADER
    assert refusal(data + padding + modality) is Reason.BAD_HEADER
    assert refusal(data + data[data.index(b"\xe0\x7f\x10\x00") :]) is Reason.BAD_HEADER
    for rest in (padding, bytes(64), b"what a writer left there", modality[:-1]):
        assert read(data + rest).pixels is not None


def test_zeros_before_other_bytes_take_no_longer_than_zeros_alone(write_dicom: WriteDicom) -> None:
    data = write_dicom(PIXELS).read_bytes()
    data = data[: data.index(b"\xe0\x7f\x10\x00OW")]
    assert (
        refusal(data + bytes(2**20) + b"\1") is Reason.BAD_HEADER
    )  # each zero element was a pass over the rest


def test_zeros_behind_a_data_set_without_pixels_are_padding(write_dicom: WriteDicom) -> None:
    data = write_dicom(PIXELS).read_bytes()
    data = data[: data.index(b"\xe0\x7f\x10\x00OW")]
    assert read(data + b"\0" * 64).pixels is None
    assert refusal(data + b"\0" * 8 + TEXT) is Reason.BAD_HEADER


def test_fragments_without_a_delimiter_are_cut(write_dicom: WriteDicom) -> None:
    body = write_dicom(b"\xff\xd8 a stream", syntax=JPEGBaseline8Bit).read_bytes()
    file = read(body)
    assert file.pixels is not None
    assert len(list(pixel_items(body, file.pixels))) == 2
    with pytest.raises(RadiographError, match="TRUNCATED"):
        list(pixel_items(body[: -len(SEQUENCE_END)], file.pixels))
