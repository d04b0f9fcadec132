"""Write and read the state of a run; a kill at any moment leaves one that loads."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch

from pneumoseg.pipeline.core.errors import JobError, first_line
from pneumoseg.pipeline.core.files import sync_folder, written_atomically

State = dict[str, Any]

KEPT: Final = 2
"""States of a run on disk: the newest, and the one before it in case the newest is damaged."""
_DIGITS: Final = 16


def save_state(folder: Path, state: State) -> None:
    """Write the state of a run atomically, and delete all but the last two.

    MONAI's and Ignite's savers delete the old file before they write the new one in place; here the new one is
    written beside the old one and gets its name when it is whole. The name holds a number that rises with each save,
    and a checksum.

    Args:
        folder: Folder of the checkpoints.
        state: Tensors, numbers, texts, and lists and dictionaries of these.

    Raises: OSError: If the disk is full; the states that are there stay.
    """
    before = _states(folder)
    number = 1 + int(before[0].name.split("-")[1]) if before else 0
    save_weights_file(folder, f"state-{number:06d}", state)
    for old in _states(folder)[KEPT:]:
        old.unlink(missing_ok=True)


def save_weights_file(folder: Path, stem: str, state: State) -> str:
    """Write a file whose name ends in its own checksum.

    Args:
        folder: Folder of the file.
        stem: Start of the name.
        state: Tensors, numbers, texts, and lists and dictionaries of these.

    Returns: The name of the file.

    Raises: OSError: If the disk is full.
    """
    content = io.BytesIO()
    torch.save(state, content)
    name = f"{stem}-{_checksum(content.getvalue())}.pt"
    with written_atomically(folder / name) as temporary:
        temporary.write_bytes(content.getbuffer())
    sync_folder(folder)
    return name


def load_state(folder: Path, *, on_damage: Callable[[str], None] = lambda _: None) -> State:
    """Read the newest undamaged state of a run; only tensors and plain values are accepted, never code.

    Args:
        folder: Folder of the checkpoints.
        on_damage: Called with a message about a newer state that is damaged.

    Raises: JobError: If there is none.
    """
    states = _states(folder)
    if not states:
        raise JobError(f"{folder}: there is no checkpoint; start the run without --resume")
    *newer, oldest = states
    for path in newer:
        try:
            return load_file(path)
        except JobError as error:
            on_damage(f"{error}; the one before it is used")
    return load_file(oldest)


def load_file(path: Path) -> State:
    """Read a file written by `save_weights_file`.

    Args:
        path: Path of the file.

    Returns: What was saved, with tensors on the CPU.

    Raises: JobError: If it is missing or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise JobError(f"{path}: cannot be read ({error.strerror}); start the run anew") from None
    if _checksum(content) != path.stem.rpartition("-")[2]:
        raise JobError(f"{path}: is damaged: the content does not fit the checksum in its name")
    try:
        state: State = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  (torch.load raises half a dozen kinds)
        raise JobError(f"{path}: cannot be loaded ({first_line(error)}); start the run anew") from None
    return state


def has_state(folder: Path) -> bool:
    """Return whether a folder holds a checkpoint, whole or damaged.

    Args:
        folder: Folder of the checkpoints.
    """
    return bool(_states(folder))


def _states(folder: Path) -> list[Path]:
    """List the states of a run, newest first."""
    return sorted(folder.glob("state-*-*.pt"), reverse=True)


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
