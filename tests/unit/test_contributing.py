"""CONTRIBUTING.md names files and packages that exist, and all that a reader of one image has to open."""

import re
from pathlib import Path
from typing import Final

from tests.conftest import SHAPE, Collection

from benchmarks.executed_files import trace_submission

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BESIDE_THE_WALK: Final = {"pipeline/core/console.py", "transforms/labels/challenge_csv.py"}
"""Files that one image passes, and whose work the walk need not name: progress, and which ids are safe."""
MOST_FILES: Final = 31


def test_every_file_of_the_two_walks_exists() -> None:
    files = re.findall(r"`((?:pipeline|transforms|models)/[\w/]+\.pyi?)`", TEXT)
    assert len(files) > 20
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_the_table_of_packages_lists_all_of_them() -> None:
    table = TEXT[TEXT.index("| package |") : TEXT.index("`transforms/` has")]
    listed = {name for row in table.splitlines() if row for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    packages = {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")}
    assert listed == packages


def test_the_walk_of_one_image_names_the_files_that_are_executed(
    collection: Collection, model_folder: Path
) -> None:
    walk = TEXT[TEXT.index("### One image") : TEXT.index("### One training step")]
    executed = trace_submission(model_folder, collection.images, SHAPE).files
    assert [name for name in executed if f"`{name}`" not in walk and name not in BESIDE_THE_WALK] == []
    assert 20 < len(executed) <= MOST_FILES
