from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.unit.pipeline.pacs.listeners import make_config, make_facts

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.pacs.service import Analysed, Service

DIGEST = "0" * 64


class Analyst:
    """Makes a result of each image, unless it is told to fail."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls: list[list[str]] = []

    def __call__(self, images: Path, results: Path, kinds: Sequence[str]) -> Analysed:
        found = sorted(path.stem for path in images.iterdir())
        self.calls.append(found)
        if self.error is not None:
            raise self.error
        return Analysed({f"seg/{name}.dcm": DIGEST for name in found}, {"segmented": len(found)})


@pytest.fixture
def analyst() -> Analyst:
    return Analyst()


@pytest.fixture
def service(tmp_path: Path, analyst: Analyst) -> Iterator[Service]:
    """A service whose receiver and senders do not run."""
    found = Service(make_config(tmp_path, quiet_s=0), analyst)
    with found.spool.opened():
        yield found
    found.audit.close()


def store(service: Service, number: int) -> None:
    service.spool.store(b"image", make_facts(number), service.spool.rules["chest"], ae="CR1")


def test_a_study_is_analysed_once_and_again_for_a_late_image(service: Service, analyst: Analyst) -> None:
    store(service, 1)
    assert service.analyse_next()
    assert not service.analyse_next()
    store(service, 2)
    assert service.analyse_next()
    assert analyst.calls == [["1.2.1"], ["1.2.1", "1.2.2"]]


def test_a_study_is_not_analysed_while_images_arrive(tmp_path: Path, analyst: Analyst) -> None:
    service = Service(make_config(tmp_path, quiet_s=3600), analyst)
    with service.spool.opened():
        store(service, 1)
        assert not service.analyse_next()


@pytest.mark.parametrize(
    "error", [JobError("1.2.3.4.5.dcm: too little memory"), ValueError("1.2.3.4.5"), MemoryError()]
)
def test_an_analysis_that_fails_is_kept_for_later_and_ends_nothing(
    service: Service, analyst: Analyst, error: Exception
) -> None:
    store(service, 1)
    analyst.error = error
    assert service.analyse_next()
    assert not service.analyse_next()  # not before the pause is over
    assert not service.spool.studies[0].is_analysed
    assert "1.2.3.4.5" not in (service.config.spool / "audit.log").read_text()


def test_health_names_what_fails_without_identifiers(service: Service, analyst: Analyst) -> None:
    assert service.problems() == {}
    store(service, 1)
    study = service.spool.studies[0]
    for _ in range(3):
        study.backoff.fail()
    service.senders[0].problem = "the destination cannot be reached"
    assert set(service.problems()) == {"analysis", "destination pacs"}
    assert "1.3.1" not in str(service.problems())
