"""Hooks of MkDocs: pages whose text lies elsewhere in the repository, and pages that are not there yet."""

import re
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files of the repository that are pages of the site."""
_LINK: Final = re.compile(r"\[([^\]]+)\]\((?!https?:|#|mailto:)([^)\s]+)\)")


def site_text(path: Path) -> str:
    """Read a page from the top of the repository, with the links that it has on the site.

    A link to a file that is no page becomes plain text: the site has no source files.

    Args:
        path: Path of the file.
    """

    def link(found: re.Match[str]) -> str:
        text, target = found.groups()
        file, _, anchor = target.partition("#")
        page = PAGES.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else None)
        return f"[{text}]({page}{'#' if anchor else ''}{anchor})" if page else text

    return _LINK.sub(link, path.read_text(encoding="utf-8"))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave those pages out of the navigation that do not exist."""
    there = {path.name for path in Path(config.docs_dir).glob("*.md")} | set(PAGES.values())

    def existing(entries: list[Any]) -> list[Any]:
        kept: list[Any] = []
        for entry in entries:
            ((title, target),) = entry.items()
            below = existing(target) if isinstance(target, list) else target
            if isinstance(below, list) or below in there:
                kept.append({title: below})
        return kept

    config.nav = existing(config.nav or [])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages whose text lies at the top of the repository."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=site_text(ROOT / name)))
    return files
