"""The code blocks of the documents, and how each kind of them is run in a folder of phantoms."""

import json
import re
import runpy
import shlex
import shutil
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
DOCUMENTS: Final = sorted((ROOT / "docs").glob("*.md"))
_NOT_RUN: Final = re.compile(r"<!-- not run: (.+?) -->", re.DOTALL)
_TITLE: Final = re.compile(r'title="([^"]+)"')
_TINY: Final = (
    "--set", "network={features: [4, 8, 8, 8, 8]}", "--set", "data={image_size: 32, batch_size: 4}",
    "--set", "optimization={epochs: 1}", "--set", "tta=[]", "--epochs", "1", "--image-size", "32", "--no-report",
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

    Python blocks share their names; results that a command is to write are removed first.
    """

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "documents"}

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
            case "json":
                json.loads(block.text)
            case "text":
                pass
            case other:
                raise AssertionError(f"{block}: no way to run a block of {other or 'no language'}")

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
                _check(run_command(*rest), block)
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
            _check(run_command("train", *words, "--epochs", "2", "--no-report"), block)
            return
        _check(run_command("train", *words, "--show-config"), block)
        _remove_results(words)
        _check(run_command("train", *words, *_TINY), block)


def _lines(text: str) -> Iterator[str]:
    """Join lines that end with a backslash to the next one."""
    yield from text.replace("\\\n", " ").splitlines()


def _remove_results(words: list[str]) -> None:
    if "-o" in words and "--part-id" not in words:
        result = Path(words[words.index("-o") + 1])
        shutil.rmtree(result) if result.is_dir() else result.unlink(missing_ok=True)


def _check(told: Any, block: Block) -> None:
    assert told.returncode == 0, f"{block}: {shlex.join(told.args)}\n{told.stdout}{told.stderr}"
