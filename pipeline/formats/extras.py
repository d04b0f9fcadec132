"""Libraries that only exporters need."""

from collections.abc import Iterator
from contextlib import contextmanager

from pneumoseg.pipeline.core.errors import UsageError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Tell which extra to install where a library is missing.

    Args:
        name: Name of the extra.

    Raises: UsageError: If an import fails in the block.
    """
    try:
        yield
    except ImportError as error:
        library = error.name or "a library"
        raise UsageError(f"{library} is not installed; pip install 'pneumoseg[{name}]'") from None
