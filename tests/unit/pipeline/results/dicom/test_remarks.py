from itertools import combinations

import pytest

from pneumoseg.pipeline.results.dicom.remarks import REMARKS, description_of, needs_review, remarks
from pneumoseg.transforms.reader.reasons import REVIEW_REASONS, Reason


def test_a_description_fits_its_element_whatever_the_warnings_are() -> None:
    for count in range(len(REMARKS) + 1):
        for warnings in combinations(REMARKS, count):
            description = description_of(warnings)
            assert len(description) <= 64  # VR LO
            assert "not for diagnosis" in description
            assert description.startswith("REVIEW") is needs_review(warnings)


@pytest.mark.parametrize("reason", sorted(REVIEW_REASONS))
def test_every_reason_for_review_is_stated(reason: Reason) -> None:
    assert needs_review([reason])
    assert len(remarks([reason])) == 1


def test_what_has_no_effect_on_a_result_is_not_stated() -> None:
    assert remarks([Reason.NO_PREAMBLE, Reason.NO_TRANSFER_SYNTAX]) == []
