"""Valid values of the keys of the configuration, in words: for ``--show-config`` and for error messages.

All texts are derived from the JSON Schema that pydantic makes of the configuration, so they are never out of date.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

Schema = Mapping[str, Any]
_WIDTH: Final = 100


@dataclass(frozen=True)
class Key:
    """Documentation of a key of the configuration.

    Attributes:
        name: Name of the key.
        description: Description; it may have several lines.
        values: Valid values, in words.
        has_default: Whether the key may be missing.
        default: Its value then, in types that YAML has.
        section: Schema of the keys below it; None for a key with a value.
        item: Schema of the items of a list, which are mappings without names; None for other keys.
        kinds: Schema of each named item that a list may have, by name.
    """

    name: str
    description: str
    values: str
    has_default: bool
    default: Any
    section: Schema | None
    item: Schema | None
    kinds: Mapping[str, Schema]


class ConfigSchema:
    """Keys of a configuration and their valid values.

    Args:
        schema: JSON Schema of the configuration.
    """

    def __init__(self, schema: Schema) -> None:
        self.root = schema

    def find(self, location: Sequence[int | str]) -> tuple[Schema, tuple[int | str, ...]]:
        """Follow a path of keys, list indices and names of list items as far as the schema contains it.

        Args:
            location: Path from the root of the configuration.

        Returns: The schema where the path ends, and the part of the path that was followed.
        """
        node = self.root
        for count, part in enumerate(location):
            below = self._below(node, part)
            if below is None:
                return node, tuple(location[:count])
            node = self._resolve(below)
        return node, tuple(location)

    def _below(self, node: Schema, part: int | str) -> Schema | None:
        if isinstance(part, int):
            item: Schema | None = node.get("items") or next(iter(node.get("prefixItems", ())), None)
            return item
        kinds = {name: {"$ref": reference} for name, reference in _kinds(node).items()}
        below: dict[str, Schema] = {**kinds, **node.get("properties", {})}
        return below.get(part)

    def _resolve(self, node: Schema) -> Schema:
        """Replace a reference by what it refers to, with the description and default that stand beside it."""
        if "$ref" not in node:
            return node
        return {**self.root["$defs"][node["$ref"].rpartition("/")[2]], **node}

    def keys(self, node: Schema) -> list[str]:
        """List the keys of a section or of a list item.

        Args:
            node: Schema of the section or item.
        """
        return list(node.get("properties", {}))

    def fitting(self, node: Schema) -> str:
        """Describe the values that fit a key, like "a number from 0 to 1".

        Args:
            node: Schema of the key.
        """
        match self._resolve(node):
            case {"anyOf": options}:
                text = _alternatives(
                    name for each in options for name in each.get("enum") or [self.fitting(each)]
                )
            case {"const": value}:
                text = str(value)
            case {"enum": values}:
                text = _alternatives(map(str, values))
            case {"discriminator": {"mapping": kinds}}:
                text = f"{_alternatives(kinds)}, alone or as {{name: NAME, key: value}}"
            case {"prefixItems": items}:
                text = f"a list of {len(items)} values, each {self.fitting(items[0])}"
            case {"items": item, **others}:
                least = " with at least one item" if others.get("minItems") else ""
                text = f"a list{least}, each item {self.fitting(item)}"
            case {"properties": keys}:
                text = f"a mapping with the keys {', '.join(keys)}"
            case {"type": "integer" | "number"} as number:
                text = _number(number)
            case {"type": kind}:
                text = {"boolean": "true or false", "string": "a string", "null": "null"}[kind]
        return text

    def documented(self, section: Schema) -> list[Key]:
        """Document the keys of a section or of a named item.

        Args:
            section: Schema of the section or item.
        """
        keys = []
        for name, unresolved in section["properties"].items():
            node = self._resolve(unresolved)
            item = self._resolve(node.get("items", {}))
            keys.append(
                Key(
                    name=name,
                    description=node.get("description", ""),
                    values=self.fitting(node),
                    has_default="default" in node,
                    default=node.get("default"),
                    section=node if "properties" in node else None,
                    item=item if "properties" in item else None,
                    kinds={
                        kind: self._resolve({"$ref": reference}) for kind, reference in _kinds(item).items()
                    },
                )
            )
        return keys

    def explain(self, values: Mapping[str, Any]) -> str:
        """Write a configuration as YAML, with a comment above each key: description, valid values and default.

        Args:
            values: Values of the configuration, in types that YAML has.
        """
        return "\n".join(self._explain(self.root, values))

    def _explain(self, section: Schema, values: Mapping[str, Any]) -> Iterable[str]:
        for key in self.documented(section):
            yield from _comment(key.description)
            value = values[key.name]
            if key.section is not None:
                yield f"{key.name}:"
                yield from (f"  {line}" for line in self._explain(key.section, value))
            else:
                yield from _comment(f"Values: {key.values}. Default: {inline(key.default)}.")
                yield from _comment(*self._kinds_with_keys(key))
                style = None if isinstance(value, list) else False  # each item of a list in a line of its own
                yield from yaml.safe_dump(
                    {key.name: value}, sort_keys=False, default_flow_style=style
                ).splitlines()

    def _kinds_with_keys(self, key: Key) -> Iterable[str]:
        """List the keys of each named item of a list, with their defaults."""
        for name, kind in key.kinds.items():
            keys = {key: each["default"] for key, each in kind["properties"].items() if key != "name"}
            yield f"  {name}: {inline(keys)}"


def _kinds(node: Schema) -> dict[str, str]:
    """Map the names that an item may have to references to their schemas; empty if items have no names."""
    mapping: dict[str, str] = node.get("discriminator", {}).get("mapping", {})
    return mapping


def _alternatives(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _number(node: Schema) -> str:
    kind = "a whole number" if node["type"] == "integer" else "a number"
    if "minimum" in node and "maximum" in node:
        return f"{kind} from {node['minimum']} to {node['maximum']}"
    words = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "of at most",
        "exclusiveMaximum": "below",
    }
    bounds = [f"{word} {node[key]}" for key, word in words.items() if key in node]
    return " ".join([kind, " and ".join(bounds)]).rstrip()


def inline(value: Any) -> str:
    """Write a value as YAML in one line.

    Args:
        value: Value in types that YAML has.
    """
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def _comment(*paragraphs: str) -> Iterable[str]:
    for text in paragraphs:
        indent = text[: len(text) - len(text.lstrip())]
        lines = textwrap.wrap(
            " ".join(text.split()),
            _WIDTH,
            initial_indent=indent,
            subsequent_indent=f"{indent}  " if indent else "",
        )
        yield from (f"# {line}" for line in lines)
