"""CONTRIBUTING.md names files and packages that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_file_of_the_two_walks_exists() -> None:
    files = re.findall(r"`((?:pipeline|transforms|models)/[\w/]+\.pyi?)`", TEXT)
    assert len(files) > 20
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_the_table_of_packages_lists_all_of_them() -> None:
    table = TEXT[TEXT.index("| package |") : TEXT.index("`transforms/` has")]
    listed = {name for row in table.splitlines() if row for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    packages = {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")}
    assert listed == packages
