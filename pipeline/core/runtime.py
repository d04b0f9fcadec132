"""Where and how fast a job runs; results do not depend on it beyond floating-point rounding."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Device and resources of a job.

    Attributes:
        device: ``auto``, ``cpu`` or ``cuda:N``.
        batch_size: Images per batch.
        workers: Processes that decode; 0 decodes in this process, without protection from damaged files.
    """

    device: str = "auto"
    batch_size: int = 4
    workers: int = 1
