import pickle
from pathlib import Path

from pneumoseg.transforms.reader.reasons import Outcome, RadiographError, Reason, reasons_page


def test_the_page_of_reasons_is_the_list_in_the_code() -> None:
    page = Path(__file__).parents[4] / "docs" / "reasons.md"
    assert page.read_text() == reasons_page(), (
        "python -m pneumoseg.transforms.reader.reasons > docs/reasons.md"
    )


def test_each_reason_is_its_own_name_and_has_one_sentence() -> None:
    for reason in Reason:
        assert reason == reason.name
        assert reason.sentence.endswith(".")
        assert "\n" not in reason.sentence
        assert "|" not in reason.sentence  # it would end a cell of the page


def test_what_is_fine_but_not_ours_is_skipped() -> None:
    skipped = {reason for reason in Reason if reason.outcome is Outcome.SKIPPED}
    assert skipped == {
        Reason.NO_PIXELS,
        Reason.WRONG_MODALITY,
        Reason.WRONG_VIEW,
        Reason.WRONG_BODY_PART,
    }


def test_an_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(RadiographError(Reason.TRUNCATED, "12 of 20 bytes")))
    assert (error.reason, error.detail) == (Reason.TRUNCATED, "12 of 20 bytes")
    assert error.reason.outcome is Outcome.REFUSED
    assert str(error) == "TRUNCATED: 12 of 20 bytes"
