from pathlib import Path

import pytest

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.pacs.config import Retry
from pneumoseg.pipeline.pacs.study import Backoff, State, Study

RETRY = Retry(first_s=1, longest_s=4)
RESULT, DIGEST, OTHER = "seg/1.2.1.dcm", "0" * 64, "1" * 64


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def study(tmp_path: Path, clock: Clock) -> Study:
    """A study of one image for one destination."""
    state = State(ae="CR1", rule="chest", outputs=("seg",), send_to=("pacs",))
    found = Study.create(tmp_path / "1.3.1" / "chest", state, RETRY)
    put(found, "1.2.1.dcm")
    return found


def put(study: Study, name: str) -> None:
    (study.folder / "images" / name).write_bytes(b"image")
    study.add(name, 5)


def reread(study: Study) -> Study:
    return Study.read(study.folder, RETRY)


def is_finished(study: Study) -> bool:
    return study.finished_at is not None


def test_pauses_double_up_to_the_longest_and_a_success_ends_them(clock: Clock) -> None:
    backoff = Backoff(RETRY)
    assert [backoff.fail() for _ in range(4)] == [1, 2, 4, 4]
    over = [backoff.is_over]
    clock.now += 4
    assert [*over, backoff.is_over] == [False, True]
    backoff.fail()
    backoff.succeed()
    assert backoff.is_over
    assert backoff.fail() == 1


def test_a_destination_that_is_down_for_years_does_not_overflow(clock: Clock) -> None:
    backoff = Backoff(RETRY)
    backoff.failures = 10_000_000
    assert backoff.fail() == 4


def test_a_study_is_due_once_no_image_has_come_for_a_while(study: Study, clock: Clock) -> None:
    assert not study.is_due(30)
    clock.now += 29
    put(study, "1.2.2.dcm")
    clock.now += 29
    assert not study.is_due(30)
    clock.now += 1
    assert study.is_due(30)
    study.note_analysis(["1.2.1.dcm", "1.2.2.dcm"], {})
    assert not study.is_due(30)


def test_a_study_without_results_is_complete_with_its_analysis(study: Study) -> None:
    assert not is_finished(study)
    study.note_analysis(study.images, {})
    assert is_finished(study)


def test_a_study_is_complete_once_its_results_are_acknowledged_and_committed(study: Study) -> None:
    study.note_analysis(study.images, {RESULT: DIGEST})
    study.acknowledge("pacs", RESULT, DIGEST)
    assert (study.due_for("pacs"), study.uncommitted("pacs")) == ({}, {RESULT: DIGEST})
    assert not is_finished(study)
    study.change_delivery("pacs", committed={RESULT: DIGEST})
    assert is_finished(study)
    assert is_finished(reread(study))
    put(study, "1.2.2.dcm")  # a late image
    assert not is_finished(study)


def test_a_result_that_has_changed_is_sent_again_and_another_destination_gets_nothing(study: Study) -> None:
    study.note_analysis(study.images, {RESULT: DIGEST})
    study.acknowledge("pacs", RESULT, DIGEST)
    study.note_analysis(study.images, {RESULT: OTHER})
    assert study.due_for("pacs") == {RESULT: OTHER}
    assert study.due_for("elsewhere") == {}


def test_the_next_process_finds_what_was_noted(study: Study) -> None:
    study.note_analysis(study.images, {RESULT: DIGEST})
    study.acknowledge("pacs", RESULT, DIGEST)
    again = reread(study)
    assert (again.images, again.state, again.size) == ({"1.2.1.dcm": 5}, study.state, 5)


@pytest.mark.parametrize(
    "damage",
    [b"", b"{}", b'{"ae": "A", "rule": "r", "outputs": [], "send_to": [], "results": {"seg/../../x": "0"}}'],
)
def test_a_state_that_is_damaged_or_names_other_places_is_not_used(study: Study, damage: bytes) -> None:
    (study.folder / "state.json").write_bytes(damage)
    with pytest.raises(JobError, match=r"state.json cannot be read"):
        reread(study)
