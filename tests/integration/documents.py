"""The code blocks of the documents, and how each kind of them is run in a folder of phantoms."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from markdown_it import MarkdownIt
from tests.integration.command import run_command

from pneumoseg.pipeline.core.config_files import load_config
from pneumoseg.pipeline.pacs.config import load_listen_config

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_NOT_RUN: Final = re.compile(r"<!-- not run: (.+?) -->", re.DOTALL)
_TITLE: Final = re.compile(r'title="([^"]+)"')
_TINY: Final = (
    "--set", "network.features=[4, 8, 8, 8, 8]", "--set", "network.normalization=none", "--set", "network.dropout=0.2",
    "--set", "data.stages=[]", "--set", "data.crop=null",
    "--set", "data.batch_size=4", "--set", "optimization.average=none",
    "--epochs", "1", "--image-size", "32", "--no-report",
)  # fmt: skip
"""Arguments of `train` that make any training a matter of a second; the last ones on a command line take precedence."""


@dataclass(frozen=True)
class Block:
    """A code block of a document.

    Attributes:
        document: Name of the document.
        line: Line of the document on which the block starts.
        language: First word after the fence; empty for an indented block.
        title: Name of the file that the block shows; empty for none.
        text: Content.
        not_run: Reason why it is not run, from a comment before it; None if it is.
    """

    document: str
    line: int
    language: str
    title: str
    text: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks_of(path: Path) -> Iterator[Block]:
    """Find the code blocks of a Markdown file."""
    reason = None
    for token in MarkdownIt().parse(path.read_text(encoding="utf-8")):
        if token.type in {"fence", "code_block"}:
            assert token.map is not None
            language, _, rest = token.info.strip().partition(" ")
            title = _TITLE.search(rest)
            yield Block(
                path.name, token.map[0] + 1, language, title[1] if title else "", token.content, reason
            )
        marker = _NOT_RUN.search(token.content) if token.type == "html_block" else None
        reason = " ".join(marker[1].split()) if marker else None


class Runner:
    """Run the blocks of one document, one after the other, in the current folder.

    Python blocks share their names; results that a command is to write are removed first. A diff changes a copy of the
    source, which the commands that follow run from.
    """

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "documents"}
        self.source: Path | None = None

    def run(self, block: Block) -> None:
        """Run a block, by its language."""
        match block.language:
            case "python":
                exec(compile(block.text, str(block), "exec"), self.names)
            case "bash":
                for line in _lines(block.text):
                    self._command(shlex.split(line, comments=True), block)
            case "console":
                for line in _lines(block.text):
                    if line.startswith("$ "):
                        self._command(shlex.split(line[2:], comments=True), block)
            case "yaml":
                Path(block.title).write_text(block.text)
                (load_listen_config if block.title == "listen.yaml" else load_config)(block.title)
            case "diff":
                self.source = self.source or _copy_source(Path("source").absolute())
                _change(self.source / block.title, block)
            case "text":
                pass
            case other:
                raise AssertionError(f"{block}: no way to run a block of {other or 'no language'}")

    def _pneumoseg(self, words: list[str], block: Block) -> None:
        if self.source is None:
            told = run_command(*words)
        else:
            told = subprocess.run(
                [sys.executable, "-m", "pneumoseg.pipeline", *words],
                env={**os.environ, "PYTHONPATH": str(self.source / ".namespace")},
                capture_output=True,
                text=True,
                check=False,
            )
        assert told.returncode == 0, f"{block}: {shlex.join(words)}\n{told.stdout}{told.stderr}"

    def _command(self, words: list[str], block: Block) -> None:
        match words:
            case []:
                return
            case ["pneumoseg", "train", *rest] if "--show-config" not in rest:
                self._train(rest, block)
            case ["pneumoseg", "describe", *rest] if "-o" in rest and shutil.which("dot") is None:
                return  # Graphviz draws the picture
            case ["pneumoseg", *rest]:
                _remove_results(rest)
                self._pneumoseg(rest, block)
            case ["python", script, *rest]:
                with patch("sys.argv", [script, *rest]):
                    runpy.run_path(str(ROOT / script), run_name="__main__")
            case _:
                raise AssertionError(
                    f"{block}: {shlex.join(words)}: mark the block as not run, with the reason"
                )

    def _train(self, words: list[str], block: Block) -> None:
        """Check the configuration of a training as it stands, and run a tiny one."""
        if "--resume" in words:  # with the run's own settings
            self._pneumoseg(["train", *words, "--epochs", "2", "--no-report"], block)
            return
        self._pneumoseg(["train", *words, "--show-config"], block)
        _remove_results(words)
        self._pneumoseg(["train", *words, *_TINY], block)


def _lines(text: str) -> Iterator[str]:
    """Join lines that end with a backslash to the next one."""
    yield from text.replace("\\\n", " ").splitlines()


def _remove_results(words: list[str]) -> None:
    if "-o" in words and "--part-id" not in words:
        result = Path(words[words.index("-o") + 1])
        shutil.rmtree(result) if result.is_dir() else result.unlink(missing_ok=True)


def _copy_source(folder: Path) -> Path:
    for name in (".namespace", "data_manifests", "models", "pipeline", "transforms"):
        shutil.copytree(
            ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    return folder


def _change(path: Path, block: Block) -> None:
    """Apply a diff without line numbers: what it removes and keeps has to occur once."""
    lines = [(line[:1] or " ", line[1:]) for line in block.text.splitlines()]
    before, after = ("\n".join(text for sign, text in lines if sign in kept) for kept in (" -", " +"))
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{block}: {path.name} has {text.count(before)} times\n{before}"
    path.write_text(text.replace(before, after), encoding="utf-8")
