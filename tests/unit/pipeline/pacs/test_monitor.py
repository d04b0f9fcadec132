import json
from http.client import HTTPConnection

import pytest
from tests.integration.archive import HOST, free_port

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.pacs.config import Monitor
from pneumoseg.pipeline.pacs.metrics import Metrics
from pneumoseg.pipeline.pacs.monitor import served


def get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_health_is_ok_until_something_is_wrong_and_says_what() -> None:
    problems: dict[str, str] = {}
    port = free_port()
    with served(Monitor(port=port), Metrics().registry, lambda: problems):
        status, text = get(port, "/healthz")
        assert (status, json.loads(text)) == (200, {"status": "ok", "problems": {}})
        problems["spool"] = "full"
        status, text = get(port, "/healthz")
        assert (status, json.loads(text)) == (503, {"status": "failing", "problems": {"spool": "full"}})


def test_metrics_are_served_and_other_pages_are_not() -> None:
    port = free_port()
    with served(Monitor(port=port), Metrics().registry, dict):
        assert 'pneumoseg_refused_total{kind="peer"} 0.0' in get(port, "/metrics")[1]
        assert get(port, "/")[0] == 404


def test_a_port_in_use_is_told_in_one_line() -> None:
    port = free_port()
    with (
        served(Monitor(port=port), Metrics().registry, dict),
        pytest.raises(JobError, match=f"monitor: {HOST}:{port} cannot be used"),
        served(Monitor(port=port), Metrics().registry, dict),
    ):
        pass


def test_without_a_monitor_nothing_is_served() -> None:
    with served(None, Metrics().registry, dict):
        pass
