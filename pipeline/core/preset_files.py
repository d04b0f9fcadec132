"""The named configurations that come with the package; quick to import, since `pneumoseg --help` lists them."""

from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).with_name("presets")


def presets() -> list[str]:
    """List the names of the presets, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def preset_path(name: str) -> Path:
    """Return the path of the YAML file of a preset.

    Args:
        name: One of `presets`.
    """
    return _FOLDER / f"{name}.yaml"
