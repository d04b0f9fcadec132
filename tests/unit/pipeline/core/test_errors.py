from pneumoseg.pipeline.core.errors import JobError, UsageError


def test_a_name_in_an_error_cannot_break_its_line() -> None:
    assert str(JobError("a\nerror: b\x1b[31m")) == "a\\nerror: b\\x1b[31m"


def test_details_have_lines_of_their_own() -> None:
    assert str(JobError("two faults:", details=["a", "b\nc"])) == "two faults:\n  a\n  b\\nc"


def test_exit_codes_are_those_that_were_promised() -> None:
    assert (JobError("").exit_code, UsageError("").exit_code) == (1, 2)
