"""Pictures of cases in a folder, from which a report can be made again without network and radiographs."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import write_json, written_atomically
from pneumoseg.pipeline.reporting.content import Picture, PictureGallery, Shown

FOLDER: Final = "gallery"
_LIST: Final = "gallery.json"


def save_gallery(folder: Path, exhibits: Iterable[Shown]) -> None:
    """Replace an earlier gallery by pictures and, last, their list.

    Args:
        folder: Folder of the results, in which ``gallery/`` is written.
        exhibits: Cases in the order of the report.
    """
    place = folder / FOLDER
    if place.exists():
        shutil.rmtree(place)
    listed = []
    for number, exhibit in enumerate(exhibits, start=1):
        files = []
        for panel_number, panel in enumerate(exhibit.panels, start=1):
            file = f"{number:02}-{panel_number}.jpg"  # not the name of the case, which may be unsafe
            with written_atomically(place / file) as temporary:
                temporary.write_bytes(panel.jpeg)
            files.append({"name": panel.name, "file": file})
        listed.append(
            {"kind": exhibit.kind, "name": exhibit.name, "facts": dict(exhibit.facts), "panels": files}
        )
    write_json(place / _LIST, listed)


def load_gallery(folder: Path) -> PictureGallery:
    """Read a gallery written by `save_gallery`.

    Args:
        folder: Folder of the results.

    Returns: Gallery; empty where the folder has none.
    Raises: JobError: If the list of pictures is damaged.
    """
    place = folder / FOLDER
    if not (place / _LIST).is_file():
        return PictureGallery(())
    try:
        listed = json.loads((place / _LIST).read_text(encoding="utf-8"))
        return PictureGallery(
            [
                Shown(
                    kind=case["kind"],
                    name=case["name"],
                    facts=dict(case["facts"]),
                    panels=[
                        Picture(each["name"], (place / Path(each["file"]).name).read_bytes())
                        for each in case["panels"]
                    ],
                )
                for case in listed
            ]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise JobError(
            f"{place / _LIST}: cannot be read ({type(error).__name__}); evaluate anew, or delete {place}"
        ) from None
