import logging
import warnings
from threading import Barrier, Thread

import pytest
from pydicom.charset import convert_encodings

from pneumoseg.transforms.reader.quiet import quiet_libraries


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
