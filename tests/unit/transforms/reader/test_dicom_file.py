import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from pneumoseg.transforms.reader.dicom_file import (
    DicomFile,
    looks_like_dicom,
    peek_uid,
    read_dicom_file,
)
from pneumoseg.transforms.reader.reasons import RadiographError, Reason

WriteDicom = Callable[..., Path]
PIXELS = np.arange(16 * 24, dtype=np.uint16).reshape(16, 24)
KEYWORDS = frozenset({"Rows", "Modality", "ModalityLUTSequence"})


def read(data: bytes, max_bytes: int = 10**6) -> DicomFile:
    return read_dicom_file(data, KEYWORDS, max_bytes=max_bytes)


def reasons(file: DicomFile) -> list[Reason]:
    return [reason for reason, _ in file.warnings]


def refusal(data: bytes, max_bytes: int = 10**6) -> Reason:
    with pytest.raises(RadiographError) as caught:
        read(data, max_bytes)
    return caught.value.reason


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
)
def test_the_pixels_are_found_where_they_lie(write_dicom: WriteDicom, syntax: UID) -> None:
    file = read(write_dicom(PIXELS, syntax=syntax).read_bytes())
    assert file.pixels is not None
    assert file.pixels.length == 768
    assert file.body[file.pixels.position :][:768] == PIXELS.tobytes()
    assert file.elements.unsigned("Rows") == 16
    assert file.warnings == []


def test_only_what_is_asked_for_is_kept(write_dicom: WriteDicom) -> None:
    file = read(write_dicom(PIXELS).read_bytes())
    assert file.elements.text("Modality") == "DX"
    assert file.elements.text("PatientID") == ""


def test_a_file_without_its_prefix_is_read_with_a_warning(write_dicom: WriteDicom) -> None:
    data = write_dicom(PIXELS).read_bytes()[132:]
    assert looks_like_dicom(data[:132])
    assert reasons(read(data)) == [Reason.NO_PREAMBLE]


@pytest.mark.parametrize("implicit", [True, False])
def test_a_bare_data_set_is_recognised_by_its_first_element(implicit: bool) -> None:
    data = io.BytesIO()
    dataset = Dataset()
    dataset.ImageType, dataset.Rows = "ORIGINAL", 16
    dcmwrite(data, dataset, implicit_vr=implicit, little_endian=True)
    file = read(data.getvalue())
    assert reasons(file) == [Reason.NO_PREAMBLE, Reason.NO_TRANSFER_SYNTAX]
    assert file.elements.unsigned("Rows") == 16


@pytest.mark.parametrize(
    "start", [b"", b"This is text" * 20, b"\x89PNG\r\n\x1a\n" + b"\0" * 200, b"\0" * 200]
)
def test_what_does_not_begin_like_dicom_is_none(start: bytes) -> None:
    assert not looks_like_dicom(start[:132])
    assert refusal(start) is Reason.NOT_DICOM


def test_a_transfer_syntax_that_lies_is_seen_through(write_dicom: WriteDicom) -> None:
    path = write_dicom(PIXELS, syntax=ImplicitVRLittleEndian)
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = io.BytesIO()
    dcmwrite(data, dataset, implicit_vr=True, little_endian=True, force_encoding=True)
    file = read(data.getvalue())
    assert reasons(file) == [Reason.WRONG_TRANSFER_SYNTAX]
    assert file.elements.unsigned("Rows") == 16


def test_big_endian_is_told_from_little_endian_by_its_first_group(write_dicom: WriteDicom) -> None:
    data = write_dicom(PIXELS, syntax=ExplicitVRBigEndian).read_bytes()
    lie = data.replace(b"1.2.840.10008.1.2.2\0", b"1.2.840.10008.1.2.1\0")
    file = read(lie)
    assert not file.little_endian
    assert reasons(file) == [Reason.WRONG_TRANSFER_SYNTAX]
    assert file.elements.unsigned("Rows") == 16


def test_compressed_pixels_have_no_length(write_dicom: WriteDicom) -> None:
    file = read(write_dicom(b"\xff\xd8\xff\xd9", syntax=JPEGBaseline8Bit).read_bytes())
    assert file.pixels is not None
    assert file.pixels.length is None


def test_every_cut_of_the_header_is_noticed(write_dicom: WriteDicom) -> None:
    data = write_dicom(PIXELS).read_bytes()
    pixels = read(data).pixels
    assert pixels is not None
    found = {read_or_refuse(data[:end]) for end in range(200, pixels.position - 12)}
    assert found == {Reason.TRUNCATED, "no pixels"}


def test_a_cut_within_the_long_header_of_an_element_is_noticed(write_dicom: WriteDicom) -> None:
    data = write_dicom(PIXELS).read_bytes()
    pixels = read(data).pixels
    assert pixels is not None
    assert {refusal(data[: pixels.position - rest]) for rest in range(1, 5)} == {Reason.TRUNCATED}


def test_a_damaged_character_set_does_not_refuse_the_pixels(write_dicom: WriteDicom) -> None:
    data = write_dicom(PIXELS, SpecificCharacterSet="ISO_IR 100").read_bytes()
    assert read(data.replace(b"ISO_IR 100", b"ISO\0IR\xff100")).pixels is not None


def read_or_refuse(data: bytes) -> Reason | str:
    try:
        return "pixels" if read(data).pixels else "no pixels"  # a cut between two elements leaves no trace
    except RadiographError as error:
        return error.reason


def deflated(write_dicom: WriteDicom, body: bytes) -> bytes:
    data = write_dicom(PIXELS, syntax=DeflatedExplicitVRLittleEndian).read_bytes()
    meta_end = 144 + int.from_bytes(data[140:144], "little")
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return data[:meta_end] + deflater.compress(body) + deflater.flush()


@pytest.mark.slow
def test_a_deflate_bomb_is_stopped_at_the_limit(write_dicom: WriteDicom) -> None:
    bomb = deflated(write_dicom, b"\x08\x00\x08\x00OB\0\0\0\0\0\x08" + bytes(2**27))
    assert len(bomb) < 2**18
    assert refusal(bomb, max_bytes=2**20) is Reason.TOO_LARGE


def test_a_cut_deflate_stream_is_truncated(write_dicom: WriteDicom) -> None:
    data = write_dicom(PIXELS, syntax=DeflatedExplicitVRLittleEndian).read_bytes()
    assert refusal(data[:-20]) is Reason.TRUNCATED


def test_deflated_garbage_is_a_bad_header(write_dicom: WriteDicom) -> None:
    data = deflated(write_dicom, b"")
    assert refusal(data[:-2] + b"\xff" * 40) is Reason.BAD_HEADER


def test_a_length_beyond_the_file_is_not_allocated(write_dicom: WriteDicom) -> None:
    data = write_dicom(PIXELS).read_bytes()
    at = data.index(b"\x28\x00\x30\x00DS")
    huge = data[:at] + b"\x28\x00\x30\x00OB\0\0\xfe\xff\xff\xff" + data[at + 8 :]
    assert refusal(huge) is Reason.TRUNCATED


def test_sequences_in_sequences_without_end_are_a_bad_header(write_dicom: WriteDicom) -> None:
    data = write_dicom(PIXELS).read_bytes()
    meta_end = 144 + int.from_bytes(data[140:144], "little")
    level = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    assert refusal(data[:meta_end] + level * 3000) is Reason.BAD_HEADER


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_an_early_element_is_read_from_the_first_bytes(write_dicom: WriteDicom, syntax: UID) -> None:
    path = write_dicom(PIXELS, syntax=syntax, SOPInstanceUID="1.2.3.77")
    assert peek_uid(path.read_bytes()[:600]) == "1.2.3.77"


@pytest.mark.parametrize(
    "start", [b"", b"no DICOM at all", bytes(128) + b"DICM", bytes(128) + b"DICM\x08\0\x06\0SQ"]
)
def test_what_does_not_tell_is_no_error(start: bytes) -> None:
    assert peek_uid(start) is None


def test_what_is_deflated_is_inflated_as_far_as_needed(write_dicom: WriteDicom) -> None:
    path = write_dicom(PIXELS, syntax=DeflatedExplicitVRLittleEndian, SOPInstanceUID="1.2.3.77")
    assert peek_uid(path.read_bytes()) == "1.2.3.77"


def test_a_uid_out_of_order_is_found(write_dicom: WriteDicom) -> None:
    data = write_dicom(PIXELS, SOPInstanceUID="1.2.3.77").read_bytes()
    uid = b"\x08\x00\x18\x00UI\x08\x001.2.3.77"
    rows = b"\x28\x00\x10\x00US"
    assert peek_uid(data.replace(uid, b"").replace(rows, uid + rows)) == "1.2.3.77"
