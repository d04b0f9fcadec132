"""The state of a run on disk: from it a run goes on, and a kill at any moment leaves one that loads."""

from pathlib import Path
from typing import Any

import torch

from pneumoseg.pipeline.errors import JobError
from pneumoseg.pipeline.files import written_atomically

State = dict[str, Any]


def save_state(path: Path, state: State) -> None:
    """Write a state, all of it or nothing.

    MONAI's and Ignite's savers delete the old file before they write the new one in place; here the new one
    is written beside the old one and takes its place when it is whole.

    Args:
        path: Of the checkpoint.
        state: Tensors, numbers, texts, and lists and dictionaries of these.
    """
    with written_atomically(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path) -> State:
    """Read a state; only tensors and plain values are accepted, never code.

    Raises: JobError: If there is none, or it is damaged.
    """
    if not path.is_file():
        raise JobError(f"{path}: there is no checkpoint; start the run without --resume")
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  (torch.load raises half a dozen kinds for a damaged file)
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise JobError(f"{path}: cannot be loaded ({reason}); start the run anew") from None
    return state
