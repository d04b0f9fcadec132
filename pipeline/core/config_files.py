"""Read a configuration from presets, files and options, write it as YAML, and explain errors in one line."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.config_schema import ConfigSchema
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.preset_files import preset_path, presets

OPTION_KEYS: Final = {
    "epochs": "optimization.epochs",
    "image_size": "data.image_size",
    "batch_size": "data.batch_size",
    "learning_rate": "optimization.learning_rate",
    "seed": "seed",
    "deterministic": "deterministic",
}
"""Configuration keys that an option of `pneumoseg train` sets; options take precedence over all else."""


def load_config(
    path: str | Path | None = None,
    settings: Sequence[str] | None = None,
    *,
    preset: str | None = None,
    base: str | Path | None = None,
    options: Mapping[str, object] | None = None,
) -> TrainConfig:
    """Compose a configuration of *base*, *preset*, *path*, *settings* and *options*; later ones take precedence.

    Args:
        path: YAML file; missing keys keep their values, and lists are replaced as a whole.
        settings: Strings ``section.key=value``, the value in YAML.
        preset: ``article``, ``quick`` or ``reference``.
        base: YAML file with the configuration of a run to resume.
        options: Values by the names of the options, such as ``epochs``; None leaves a value as it is.

    Returns: The checked configuration.
    Raises: UsageError: If a file, key or value is not valid.
    """
    layers: list[_Layer] = []
    if base is not None:
        layers.append((str(base), read_yaml(base)))
    if preset is not None:
        if preset not in presets():
            raise UsageError(f"--preset {preset}: {', '.join(presets())} would fit")
        layers.append((f"--preset {preset}", read_yaml(preset_path(preset))))
    if path is not None:
        layers.append((str(path), read_yaml(path)))
    content: dict[str, Any] = {}
    for _, layer in layers:
        content = _merged(content, layer)
    layers += [("--set", _apply(content, setting)) for setting in settings or []]
    for name, value in (options or {}).items():
        if value is not None:
            source = f"--{name.replace('_', '-')}"
            layers.append((source, _put(content, OPTION_KEYS[name], value, source=source)))
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        raise UsageError(_explain(error, layers)) from None


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _merged(below[key], above[key])
    return merged


def dump_config(config: TrainConfig) -> str:
    """Write the configuration as YAML that `load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None)


def explain_config(config: TrainConfig) -> str:
    """Write the configuration as YAML that `load_config` reads back, with a comment on each key.

    The comment has the description of the key, its valid values and its default.
    """
    return config_schema().explain(config.model_dump(mode="json")) + "\n"


@cache
def config_schema() -> ConfigSchema:
    """Return the keys of a configuration with their valid values."""
    return ConfigSchema(TrainConfig.model_json_schema())


def flatten(config: TrainConfig) -> dict[str, object]:
    """List all values of a configuration by their dotted keys, like ``data.image_size``."""
    sections = config.model_dump(mode="json")
    return {
        name if not isinstance(section, dict) else f"{name}.{key}": value
        for name, section in sections.items()
        for key, value in (section.items() if isinstance(section, dict) else [(name, section)])
    }


class _Loader(yaml.SafeLoader):
    """Loader of plain values only, for which 1e-3 is a number, unlike in YAML 1.1.

    Aliases are refused: a few lines of them stand for more values than fit into memory, and no configuration needs any.
    So are keys that are there twice.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node that is no alias."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "an alias (*name) is not accepted; write the value itself", mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Construct a mapping whose keys differ; of two sections of one name the first would be lost."""
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value} is there twice; put both together", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _load_yaml(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506  (a safe loader)
    except (RecursionError, ValueError) as error:  # lists in lists in lists; a date or a number that is none
        raise yaml.YAMLError(str(error)) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping of plain values.

    Args:
        path: Path of the file; an empty one holds no keys.

    Raises: UsageError: If it cannot be read, is not YAML, or holds something else.
    """
    try:
        content = _load_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error  # the text of an OSError repeats the path
        raise UsageError(f"{path}: cannot be read as text ({why}); give a YAML file") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: is not YAML ({' '.join(str(error).split())})") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(
            f"{path}: holds a {type(content).__name__}; `section:` lines with `key: value` would fit"
        )
    return content


_Layer = tuple[str, dict[str, Any]]
"""Name of a source of values, and its values."""


def _apply(content: dict[str, Any], setting: str) -> dict[str, Any]:
    """Set the value of a ``section.key=value`` text in *content*, and return a mapping with only this value."""
    keys, equals, text = setting.partition("=")
    if not equals or not keys.strip():
        raise UsageError(f"--set {setting}: section.key=value would fit, like data.image_size=128")
    try:
        value = _load_yaml(text)
    except yaml.YAMLError:
        raise UsageError(f"--set {setting}: {text!r} is not a value in YAML") from None
    return _put(content, keys.strip(), value, source=f"--set {setting}")


def _put(content: dict[str, Any], keys: str, value: object, *, source: str) -> dict[str, Any]:
    """Set the value of a dotted key in *content*, and return a mapping with only this value."""
    *sections, key = keys.split(".")
    alone: dict[str, Any] = {key: value}
    for section in sections:
        inner = content.setdefault(section, {})
        if not isinstance(inner, dict):
            raise UsageError(f"{source}: {section} holds the value {inner!r}, not further keys")
        content = inner
    content[key] = value
    for section in reversed(sections):
        alone = {section: alone}
    return alone


def _explain(error: ValidationError, layers: Sequence[_Layer]) -> str:
    """Explain in one line which value is not valid, where it comes from, and what would fit."""
    problems = [_problem(each, layers) for each in error.errors()]
    (location, text), *others = problems
    # a union has an error for each of its kinds, and a list has one in addition to that of its item
    more = {place for place, _ in others if place != location[: len(place)]}
    return text + (f" (and {len(more)} more)" if more else "")


def _problem(error: ErrorDetails, layers: Sequence[_Layer]) -> tuple[tuple[int | str, ...], str]:
    """Return the location of an error and its text."""
    location, kind, value = error["loc"], error["type"], error["input"]
    schema = config_schema()
    node, known = schema.find(location)
    if kind == "value_error":  # from a validator of a section; its message names key and value
        return location, f"{_dotted(location)}{': ' if location else ''}{error['ctx']['error']}"
    if kind == "extra_forbidden":
        problem = f"unknown key {_dotted(location)}; known there: {', '.join(schema.keys(node))}"
        if elsewhere := [key for key in flatten(TrainConfig()) if key.endswith(f".{location[-1]}")]:
            problem += f"; did you mean {' or '.join(elsewhere)}?"
        return location, _source(location, layers) + problem
    if kind == "missing" and isinstance(location[-1], str):
        problem = f"{_dotted(known[:-1])} has no {location[-1]}; {schema.fitting(node)} would fit"
        return location, _source(known[:-1], layers) + problem
    if kind == "missing":  # an item of a list whose length is fixed
        node, known = schema.find(location[:-1])
    if isinstance(value, dict) and value.keys() == {"name"}:
        value = value["name"]
    example = f", like {node['default']}" if "prefixItems" in node else ""
    problem = f"{_dotted(known)} = {value!r}: {schema.fitting(node)} would fit{example}"
    return known, _source(known, layers) + problem


def _dotted(location: Sequence[int | str]) -> str:
    return ".".join(map(str, location))


def _source(location: Sequence[int | str], layers: Sequence[_Layer]) -> str:
    """Name the last layer that has a value at a location, as the prefix of an error."""
    for name, content in reversed(layers):
        inner: Any = content
        for part in location:
            if not isinstance(inner, dict):
                return f"{name}: "
            if part not in inner:
                break
            inner = inner[part]
        else:
            return f"{name}: "
    return ""
