"""Write the reference pages that follow from the code: commands.md, configuration.md and reasons.md.

python docs/generate.py
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import typer

from pneumoseg.pipeline.cli.app import app
from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.config_files import OPTION_KEYS, config_schema, flatten, load_config
from pneumoseg.pipeline.core.config_schema import Key, inline
from pneumoseg.pipeline.core.preset_files import presets
from pneumoseg.transforms.reader.reasons import reasons_page

FOLDER: Final = Path(__file__).parent
_NOTE: Final = "<!-- Written by docs/generate.py (`make reference`): change the code, not this page. -->"
_SHARED: Final = ("verbose", "quiet")
"""Options of every command, by name."""
_EXIT_CODES: Final = (
    ("0", "Done; files that are not frontal chest radiographs may have been skipped."),
    ("1", "Failed; the message says why. Finished results are kept."),
    ("2", "A command, an option, a folder or the configuration is not valid."),
    (
        "3",
        "Done, but files or label rows were refused, results need review, or a requested DICOM result is missing.",
    ),
    ("130, 143", "Interrupted by Ctrl-C or SIGTERM; the state is saved, and the command can be resumed."),
)
_TYPES: Final = {str: "text", Path: "path", int: "whole number", float: "number"}


def pages() -> dict[str, str]:
    """Return the texts of all generated pages, by file name."""
    return {
        "commands.md": "\n".join(_commands()),
        "configuration.md": "\n".join(_configuration()),
        "reasons.md": reasons_page(),
    }


def _commands() -> Iterator[str]:
    commands: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    first = next(iter(commands.values()))
    yield from ("# Commands", "", _NOTE, "")
    yield "All commands with their arguments and options, as `pneumoseg COMMAND --help` prints them."
    yield ""
    yield from _table(
        ("command", "what it does"),
        ([f"[`{name}`](#{name})", _summary(command)] for name, command in commands.items()),
    )
    yield from ("Options of every command:", "")
    yield from _options(each for each in first.params if each.name in _SHARED)
    yield from ("`pneumoseg --version` prints the version.", "", "## Exit codes", "")
    yield from _table(("code", "meaning"), _EXIT_CODES)
    for name, command in commands.items():
        arguments = " ".join(_usage(each) for each in command.params if each.required)
        yield from ("", f"## {name}", "", f"`pneumoseg {name} {arguments}`".replace(" `", "`"), "")
        yield from (inspect.cleandoc(command.help), "")
        yield from _options(each for each in command.params if each.name not in _SHARED)


def _summary(command: Any) -> str:
    return " ".join(inspect.cleandoc(command.help).partition("\n\n")[0].split())


def _usage(parameter: Any) -> str:
    if _is_argument(parameter):
        return _argument(parameter)
    return f"{parameter.opts[0]} {parameter.name.upper()}"


def _argument(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _options(parameters: Iterable[Any]) -> Iterable[str]:
    rows = []
    for each in parameters:
        name = _argument(each) if _is_argument(each) else ", ".join([*each.opts, *each.secondary_opts])
        no_default = each.default is None or each.default is False
        default = "required" if each.required else "" if no_default else f"`{_text(each.default)}`"
        rows.append([f"`{name}`", _cell(each.help or ""), _values(each), default])
    return _table(("argument or option", "meaning", "values", "default"), rows) if rows else []


def _text(default: Any) -> str:
    if isinstance(default, list | tuple):
        return " ".join(map(str, default))
    return str(default).lower() if isinstance(default, bool) else str(default)


def _values(parameter: Any) -> str:
    """Describe the values of an option; empty for one that takes none."""
    if getattr(parameter, "is_flag", False):
        return ""
    kind = parameter.type_descriptor.annotation
    kinds = get_args(kind) or (kind,)  # a list has one kind of values, a tuple one for each place
    words = (not _is_argument(parameter) and parameter.metavar) or ", ".join(
        _TYPES.get(each, str(each)) for each in kinds
    )
    limits = [
        f"{word} {limit}"
        for word, limit in (("from", parameter.min), ("to", parameter.max))
        if limit is not None
    ]
    return _cell(" ".join([words, *limits, *(["(repeatable)"] if parameter.multiple else [])]))


def _configuration() -> Iterator[str]:
    schema = config_schema()
    yield from ("# Configuration", "", _NOTE, "")
    yield "All settings of a training run, with their meaning, values and defaults."
    yield ""
    yield "They are set by `train --preset`, `--config FILE` (YAML),"
    yield "`--set section.key=value` and a few ordinary options, in this order; the later one takes precedence."
    yield "`pneumoseg train --show-config` prints all keys with the values that a command line gives them."
    yield ""
    top = [key for key in schema.documented(schema.root) if key.section is None]
    by_path = {key.name: key for key in top}
    for section in schema.documented(schema.root):
        if section.section is None:
            continue
        keys = schema.documented(section.section)
        by_path |= {f"{section.name}.{key.name}": key for key in keys}
        yield from (f"## {section.name}", "", section.description, "")
        yield from _keys(keys, f"{section.name}.")
        for key in keys:
            yield from _items(key, f"{section.name}.{key.name}")
    yield from ("## Top level", "")
    yield from _keys(top, "")
    for key in top:
        yield from _items(key, key.name)
    yield from _presets(by_path)


def _keys(keys: Sequence[Key], prefix: str) -> Iterable[str]:
    options = {key: f"--{name.replace('_', '-')}" for name, key in OPTION_KEYS.items()}
    rows = []
    for key in keys:
        name = f"`{prefix}{key.name}`"
        option = options.get(f"{prefix}{key.name}")
        name += f", option `{option}`" if option else ""
        default = f"`{inline(_shortened(key, key.default))}`" if key.has_default else "required"
        rows.append([name, _cell(key.description), _cell(key.values), default])
    return _table(("key", "meaning", "values", "default"), rows)


def _items(key: Key, path: str) -> Iterator[str]:
    """Document the items of a list: those with names, or those that are mappings."""
    if not key.kinds and key.item is None:
        return
    yield from (f"### Items of {path}", "")
    if key.item is not None:
        yield from ("Each item is a mapping with these keys:", "")
        yield from _keys(config_schema().documented(key.item), "")
        return
    yield from ("Each item is a name, or a mapping with `name` and these keys:", "")
    rows = []
    for name, kind in key.kinds.items():
        rows.append([f"**`{name}`**", _cell(str(kind["description"])), "", ""])
        rows += [
            [f"`{each.name}`", _cell(each.description), _cell(each.values), f"`{inline(each.default)}`"]
            for each in config_schema().documented(kind)
            if each.name != "name"
        ]
    yield from _table(("item or key", "meaning", "values", "default"), rows)


def _presets(keys: Mapping[str, Key]) -> Iterator[str]:
    names = presets()
    values = {name: flatten(load_config(preset=name)) for name in names}
    yield from ("## Presets", "", "Keys that a preset sets to another value than the default:", "")
    rows = []
    for path, default in flatten(TrainConfig()).items():
        own = [values[name][path] for name in names]
        if any(value != default for value in own):
            cells = (
                "" if value == default else f"`{inline(_shortened(keys[path], value))}`" for value in own
            )
            rows.append([f"`{path}`", *cells])
    yield from _table(("key", *(f"`{name}`" for name in names)), rows)


def _shortened(key: Key, value: Any) -> Any:
    """Leave those keys of named items out that have their default."""
    if not key.kinds:
        return value
    defaults = {name: kind["properties"] for name, kind in key.kinds.items()}
    return [
        {
            name: each
            for name, each in item.items()
            if each != defaults[item["name"]][name].get("default") or name == "name"
        }
        for item in value
    ]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{' --- |' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(row)} |".replace("|  |", "| |").replace("|  |", "| |")
    yield ""


if __name__ == "__main__":
    for page, text in pages().items():
        (FOLDER / page).write_text(text.rstrip("\n") + "\n", encoding="utf-8")
