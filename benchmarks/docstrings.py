"""Count the public functions with parameters whose docstrings document arguments or shapes, and list the others.

    python benchmarks/docstrings.py [--at-least 70] [FOLDER ...]

A function counts as documented if its docstring has a section ``Args:`` or ``Shape:``, or if each of its parameters
carries the help of a command-line option. The class documents `__init__`, and may document `forward`. Private names,
overridden operators, and functions within functions do not count.
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FOLDERS: Final = ("models", "transforms", "pipeline")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Found = tuple[str, int, bool]
"""Qualified name, line, and whether arguments or shapes are documented."""


def parameters(function: Function, *, method: bool) -> list[ast.arg]:
    """List the parameters of a function, without ``self`` or ``cls`` of a method."""
    words = function.args
    positional = [*words.posonlyargs, *words.args]
    static = any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in function.decorator_list)
    rest = [each for each in (words.vararg, words.kwarg) if each is not None]
    return [*positional[1 if method and not static else 0 :], *words.kwonlyargs, *rest]


def is_documented(node: Function | ast.ClassDef) -> bool:
    """Tell whether a docstring has a section about arguments or shapes."""
    lines = [line.strip() for line in (ast.get_docstring(node) or "").splitlines()]
    return any(line.startswith(("Args:", "Shape:")) for line in lines)


def public_functions(body: list[ast.stmt], owner: ast.ClassDef | None = None) -> Iterator[Found]:
    """Walk through the public functions with parameters of a module or a class."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body, node)
        if not isinstance(node, Function):
            continue
        names = parameters(node, method=owner is not None)
        if not names or (node.name.startswith("_") and (owner is None or node.name != "__init__")):
            continue
        known = is_documented(node) or all(_is_option(each) for each in names)
        if owner is not None and node.name in {"__init__", "forward"}:
            known = known or is_documented(owner)
        yield f"{owner.name}.{node.name}" if owner else node.name, node.lineno, known


def _is_option(parameter: ast.arg) -> bool:
    return parameter.annotation is not None and ast.unparse(parameter.annotation).startswith("Annotated[")


def main() -> None:
    """Print the share and the functions without documentation; exit with 1 below the wanted share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", default=FOLDERS, metavar="FOLDER")
    parser.add_argument("--at-least", type=float, default=0, metavar="PERCENT")
    options = parser.parse_args()
    count = documented = 0
    for path in sorted(path for folder in options.folders for path in (ROOT / folder).rglob("*.py")):
        if any(part.startswith("_") for part in path.relative_to(ROOT).parts):
            continue
        for name, line, known in public_functions(ast.parse(path.read_bytes()).body):
            count, documented = count + 1, documented + known
            if not known:
                print(f"{path.relative_to(ROOT)}:{line}: {name}")
    share = 100 * documented / max(count, 1)
    print(f"{documented} of {count} public functions with parameters document them: {share:.1f} %")
    sys.exit(share < options.at_least)


if __name__ == "__main__":
    main()
