import logging
import warnings
from io import BytesIO
from threading import Barrier, Thread

import pytest
from pydicom import dcmwrite
from pydicom.charset import convert_encodings
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag

from pneumoseg.transforms.reader.elements import Elements, quiet_libraries


def elements(keyword: str, value: bytes | None, *, little_endian: bool = True) -> Elements:
    """One element as it comes out of a file, with a VR that fits nothing."""
    tag = Tag(keyword)
    raw = RawDataElement(BaseTag(tag), "UN", len(value or b""), value, 0, False, little_endian)
    return Elements(Dataset({BaseTag(tag): raw}), little_endian)


def test_a_text_loses_its_padding() -> None:
    assert elements("PatientID", b" P1 \0").text("PatientID") == "P1"


def test_an_absent_text_is_empty() -> None:
    assert Elements(Dataset()).text("PatientID") == ""


def test_a_text_in_no_known_encoding_is_still_a_text() -> None:
    assert elements("PatientID", b"\xe9\xff").text("PatientID") == "éÿ"


def test_a_plain_text_is_read_without_a_look_at_the_character_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumoseg.transforms.reader.elements.decode_text", None)
    assert elements("PatientID", b"P1").decode("PatientID") == ("P1", True)
    assert Elements(Dataset()).decode("PatientID") == ("", True)


def test_a_code_is_the_first_value_in_capitals() -> None:
    assert elements("ViewPosition", b"pa \\LL").code("ViewPosition") == "PA"


def test_numbers_are_told_apart_from_absent_and_empty_ones() -> None:
    assert elements("PixelSpacing", b"0.25\\.5 ").decimals("PixelSpacing") == [0.25, 0.5]
    assert elements("PixelSpacing", None).decimals("PixelSpacing") == []
    assert Elements(Dataset()).decimals("PixelSpacing") is None


def test_a_number_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="could not convert"):
        elements("PixelSpacing", b"abc").decimals("PixelSpacing")


def test_an_unsigned_number_follows_the_byte_order() -> None:
    assert elements("Rows", b"\x01\x00").unsigned("Rows") == 1
    assert elements("Rows", b"\x01\x00", little_endian=False).unsigned("Rows") == 256


def test_an_unsigned_number_of_four_bytes_is_an_error() -> None:
    with pytest.raises(ValueError, match="4 bytes instead of 2"):
        elements("Rows", b"\x01\x00\x00\x00").unsigned("Rows")


def test_a_sequence_that_is_none_is_an_error() -> None:
    dataset = Dataset()
    dataset.add_new("ModalityLUTSequence", "OB", b"text")
    with pytest.raises(ValueError, match="no sequence"):
        Elements(dataset).items("ModalityLUTSequence")


def test_a_warning_of_pydicom_stays_inside() -> None:
    with quiet_libraries():
        convert_encodings("A_TAG_VALUE")  # warnings are errors in these tests


def test_a_log_record_of_pydicom_stays_inside(caplog: pytest.LogCaptureFixture) -> None:
    with quiet_libraries():
        convert_encodings("A_TAG_VALUE")
    assert caplog.records == []


def test_others_are_still_heard(caplog: pytest.LogCaptureFixture) -> None:
    with quiet_libraries():
        logging.getLogger("ours").warning("ours")
        with pytest.warns(UserWarning, match="ours"):
            warnings.warn("ours", stacklevel=1)
    assert [record.name for record in caplog.records] == ["ours"]


def test_afterwards_pydicom_is_heard_again(caplog: pytest.LogCaptureFixture) -> None:
    with quiet_libraries():
        pass
    with pytest.warns(UserWarning, match="A_TAG_VALUE"):
        convert_encodings("A_TAG_VALUE")
    assert len(caplog.records) == 1


def test_the_first_thread_to_leave_does_not_wake_the_others() -> None:
    filters = list(warnings.filters)
    inside, outside = Barrier(2), Barrier(2)
    failures: list[BaseException] = []

    def read_long() -> None:
        try:
            with quiet_libraries():
                inside.wait()
                outside.wait()
                convert_encodings("A_TAG_VALUE")
        except UserWarning as error:
            failures.append(error)

    thread = Thread(target=read_long)
    thread.start()
    with quiet_libraries():
        inside.wait()
    outside.wait()
    thread.join()
    assert failures == []
    assert warnings.filters == filters


@pytest.mark.parametrize("undefined", [True, False])
def test_reading_a_sequence_leaves_all_other_elements_as_they_are(undefined: bool) -> None:
    data, file = Dataset(), BytesIO()
    data.PixelRepresentation = 1
    data.ViewCodeSequence = [Dataset()]
    data["ViewCodeSequence"].is_undefined_length = undefined
    dcmwrite(file, data, implicit_vr=False, little_endian=True)
    file.seek(0)
    read = Elements(read_dataset(file, is_implicit_VR=False, is_little_endian=True))
    assert len(read.items("ViewCodeSequence") or []) == 1
    assert read.unsigned("PixelRepresentation") == 1
