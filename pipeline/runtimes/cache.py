"""Cache folder of graphs, compiled kernels and measurements, so that a start does not make them again."""

import os
import platform
import sys
import tempfile
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

_VARIABLE: Final = "PNEUMOSEG_CACHE"
_LIBRARIES: Final = ("pneumoseg", "torch", "onnx", "onnxruntime", "onnxscript", "openvino")


def cache_folder() -> Path:
    """Find the cache folder, and make it if necessary; only its owner can read it.

    It is ``PNEUMOSEG_CACHE`` or ``pneumoseg`` in the user's cache folder. Everything in it can be deleted at any time.

    Returns: Path of the folder; a temporary one where that cannot be written.
    """
    folder = Path(os.environ.get(_VARIABLE) or _users_caches() / "pneumoseg")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return Path(_temporary_folder().name)
    return folder if os.access(folder, os.W_OK) else Path(_temporary_folder().name)


def versions() -> dict[str, str]:
    """List the libraries and the machine that results in the cache depend on."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        **found,
        "python": platform.python_version(),
        "machine": f"{platform.node()} {platform.machine()}",
    }


def _users_caches() -> Path:
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")


@cache
def _temporary_folder() -> "tempfile.TemporaryDirectory[str]":
    """Make a folder that lasts as long as this process, for a system whose cache folder cannot be written."""
    return tempfile.TemporaryDirectory(prefix="pneumoseg-")
