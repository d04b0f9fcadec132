import inspect
from collections.abc import Callable
from typing import Any

from pneumoseg import pipeline, transforms


def path_arguments(function: Callable[..., Any]) -> dict[str, str]:
    """The parameters of a function that take paths, and their annotations."""
    found = inspect.signature(function, eval_str=False).parameters
    texts = {name: inspect.formatannotation(parameter.annotation) for name, parameter in found.items()}
    return {name: text for name, text in texts.items() if "Path" in text}


def test_every_public_path_argument_may_be_text() -> None:
    functions = [
        getattr(package, name)
        for package in (pipeline, transforms)
        for name in package.__all__
        if inspect.isroutine(getattr(package, name))
    ]
    functions += [pipeline.Readers.read]
    found = {function: path_arguments(function) for function in functions}
    assert sum(map(bool, found.values())) > 2
    assert [
        f"{function.__qualname__}({name}: {text})"
        for function, arguments in found.items()
        for name, text in arguments.items()
        if "str" not in text
    ] == []
