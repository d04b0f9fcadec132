"""``/healthz`` and ``/metrics`` on a local port."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.pacs.config import Monitor

Health = Callable[[], Mapping[str, str]]
"""Lists what is wrong, by part; empty if all is well."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    timeout = 10  # of a client that sends nothing

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@contextmanager
def served(monitor: Monitor | None, registry: CollectorRegistry, health: Health) -> Iterator[None]:
    """Serve health and metrics while the context lasts.

    Args:
        monitor: Address and port; None serves nothing.
        registry: Registry of the metrics.
        health: Lists what is wrong; the answer is then 503 instead of 200.

    Raises: JobError: If the port cannot be used.
    """
    if monitor is None:
        yield
        return
    metrics = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") == "/metrics":
            content: Iterable[bytes] = metrics(environ, start)
            return content
        if environ.get("PATH_INFO") != "/healthz":
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/healthz and /metrics are here\n"]
        problems = dict(health())
        status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
        start(f"{status.value} {status.phrase}", [("Content-Type", "application/json")])
        return [json.dumps({"status": "failing" if problems else "ok", "problems": problems}).encode()]

    try:
        server = make_server(monitor.host, monitor.port, answer, _Server, _Silent)
    except OSError as error:
        raise JobError(
            f"monitor: {monitor.host}:{monitor.port} cannot be used ({error.strerror}); name another port"
        ) from None
    with server:
        thread = Thread(target=server.serve_forever, name="monitor", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
