"""Trained models that come with the package, found by name."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.model.description import DESCRIPTION

DEFAULT: Final = "reference"
"""Name of the model that is used where none is given."""


def available_models() -> dict[str, Path]:
    """List the models of the package: the folder of each by its name, in the order of the names."""
    package = find_spec("pneumoseg.models")  # found, and not imported: it loads torch
    folders = package.submodule_search_locations if package else None
    found = [
        path.parent for folder in folders or () for path in Path(folder).glob(f"pretrained/*/{DESCRIPTION}")
    ]
    return {path.name: path for path in sorted(found)}


def refuse_to_change(folder: Path, *, option: str) -> None:
    """Refuse to write into the folder of a model that comes with the package.

    Args:
        folder: Model folder.
        option: What would write, for the message.

    Raises: UsageError: If it is such a folder.
    """
    for name, own in available_models().items():
        if folder.resolve() == own.resolve():
            raise UsageError(
                f"{option}: would change the model {name!r} of the installed package; copy {own} and name the copy"
            )


def find_model(model: str | Path, *, within: Path = Path()) -> Path:
    """Find the folder of a model.

    Args:
        model: Model folder, or the name of a model of the package. A folder of the same name takes precedence.
        within: Folder at which a relative path starts.

    Returns: The folder; *model* itself, as a path in *within*, if the package has no model of that name.
    """
    folder = within / model
    return folder if folder.exists() else available_models().get(str(model), folder)
