import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.integration.archive import free_port
from tests.unit.pipeline.pacs.listeners import make_config, make_facts

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.pacs.config import Retry
from pneumoseg.pipeline.pacs.service import Analysed, ImageOutcome, Service

DIGEST = "0" * 64


class Analyst:
    """Makes a result of each image, unless it is told to fail."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls: list[list[str]] = []
        self.outcomes: dict[str, ImageOutcome] = {}

    def __call__(self, images: Path, results: Path, kinds: Sequence[str]) -> Analysed:
        found = sorted(path.stem for path in images.iterdir())
        self.calls.append(found)
        if self.error is not None:
            raise self.error
        outcomes = {f"{name}.dcm": self.outcomes.get(name, ImageOutcome("segmented")) for name in found}
        return Analysed({f"seg/{name}.dcm": DIGEST for name in found if name not in self.outcomes}, outcomes)


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


@pytest.fixture
def impatient(service: Service) -> Service:
    """The service without pauses between attempts."""
    service.spool.retry = Retry(first_s=1e-9, longest_s=1e-9)
    return service


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


def lines(service: Service, event: str) -> list[dict[str, Any]]:
    log = (service.config.spool / "audit.log").read_text()
    return [line for line in map(json.loads, log.splitlines()) if line["event"] == event]


def counted(service: Service, name: str, **labels: str) -> float | None:
    return service.metrics.registry.get_sample_value(f"pneumoseg_{name}", labels)


def test_the_log_names_each_image_without_a_result_and_the_reason(service: Service, analyst: Analyst) -> None:
    analyst.outcomes = {
        "1.2.2": ImageOutcome("refused", "TRUNCATED"),
        "1.2.3": ImageOutcome(
            "segmented", "", "seg: its header cannot be used; sr: its header cannot be used"
        ),
    }
    for number in (1, 2, 3):
        store(service, number)
    assert service.analyse_next()
    store(service, 4)  # the others are not counted again
    assert service.analyse_next()
    refused, incomplete = lines(service, "image")
    assert (refused["status"], refused["reason"]) == ("refused", "TRUNCATED")
    assert refused["instance"] == service.audit.hash_of("1.2.2")
    assert "its header cannot be used" in incomplete["left_out"]
    assert counted(service, "images_analysed_total", status="segmented") == 3
    assert counted(service, "images_analysed_total", status="refused") == 1
    assert counted(service, "images_incomplete_total") == 1


@pytest.mark.parametrize("reason", ["TIMED_OUT", "DECODER_DIED", "UNREADABLE"])
def test_an_image_that_the_machine_could_not_read_is_tried_again_and_delays_no_other(
    impatient: Service, analyst: Analyst, reason: str
) -> None:
    store(impatient, 1)
    store(impatient, 2)
    analyst.outcomes = {"1.2.2": ImageOutcome("refused", reason)}
    assert impatient.analyse_next()
    (study,) = impatient.spool.studies
    assert study.due_for("pacs") == {"seg/1.2.1.dcm": DIGEST}
    analyst.outcomes = {}
    assert impatient.analyse_next()
    assert set(study.due_for("pacs")) == {"seg/1.2.1.dcm", "seg/1.2.2.dcm"}


def test_an_image_that_never_decodes_is_refused_in_the_end(impatient: Service, analyst: Analyst) -> None:
    store(impatient, 1)
    analyst.outcomes = {"1.2.1": ImageOutcome("refused", "TIMED_OUT")}
    while impatient.analyse_next():
        pass
    assert len(analyst.calls) == 4
    assert impatient.spool.studies[0].is_analysed
    assert [line["reason"] for line in lines(impatient, "image")] == ["TIMED_OUT"]


def test_an_image_that_is_gone_is_not_taken_for_analysed(service: Service, analyst: Analyst) -> None:
    store(service, 1)
    store(service, 2)
    (service.spool.studies[0].folder / "images" / "1.2.2.dcm").unlink()
    assert service.analyse_next()
    assert service.spool.studies[0].state.analysed == ("1.2.1.dcm",)
    assert lines(service, "analysis failed")


def test_results_for_a_destination_that_was_renamed_are_not_forgotten(
    tmp_path: Path, service: Service, analyst: Analyst
) -> None:
    store(service, 1)
    assert service.analyse_next()
    assert service.problems() == {}
    renamed = service.config.model_copy(
        update={"destinations": {"archive": service.config.destinations["pacs"]}}
    )
    service.config = renamed
    assert service.problems() == {"configuration": "1 results wait for destinations that it does not name"}
    service._add_gauges()
    service.senders.clear()
    assert counted(service, "results_waiting") == 1


def test_studies_that_cannot_be_used_are_a_problem(tmp_path: Path, analyst: Analyst) -> None:
    """Their images were acknowledged."""
    folder = tmp_path / "spool" / "studies" / "1.3.1" / "gone" / "images"
    folder.mkdir(parents=True)
    (folder / "1.2.1.dcm").write_bytes(b"image")
    service = Service(make_config(tmp_path, host="127.0.0.1", port=free_port(), monitor=None), analyst)
    with service._parts():
        assert "damaged state.json" in service.problems()["studies"]
