"""Counters and gauges of the listener, for Prometheus."""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REFUSALS: Final = ("peer", "connection", "context", "object", "content", "duplicate", "room")
"""Kinds of refusals: what was refused or why, as the label ``kind`` names them."""


class Metrics:
    """All metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.received = self._counter(
            "instances_received", "Instances that were acknowledged", "ae", "result"
        )
        self.refused = self._counter("refused", "Associations and instances that were refused", "kind")
        self.analysed = self._counter("images_analysed", "Images that were analysed", "status")
        self.incomplete = self._counter("images_incomplete", "Images of which not all results could be made")
        self.failed = self._counter("analyses_failed", "Analyses that failed and are tried again")
        self.sent = self._counter(
            "results_sent", "Results that a destination has acknowledged", "destination"
        )
        self.send_failed = self._counter("sends_failed", "Attempts to send that failed", "destination")
        self.committed = self._counter(
            "results_committed", "Results that a destination has committed to", "destination", "result"
        )
        self.seconds = Histogram(
            "pneumoseg_analysis_seconds",
            "Seconds of the analysis of a study",
            registry=self.registry,
            buckets=(0.1, 0.3, 1, 3, 10, 30, 100),
        )
        for kind in REFUSALS:
            self.refused.labels(kind)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"pneumoseg_{name}", what, labels, registry=self.registry)

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is computed on request.

        Args:
            name: Name without the prefix.
            what: What it measures.
            value: Computes the value.
        """
        Gauge(f"pneumoseg_{name}", what, registry=self.registry).set_function(value)
