"""The Dockerfile copies what exists, and its context holds all that the package is built from."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
CONTEXT = {
    line[1:]
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    if line.startswith("!")
}


def test_the_context_exists_and_holds_all_that_the_package_is_built_from() -> None:
    assert [name for name in CONTEXT if not (ROOT / name).exists()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["only-include"], *wheel["dev-mode-dirs"], project["project"]["readme"], "pyproject.toml"}
    assert needed | set(project["project"]["license-files"]) | {"constraints.txt"} == CONTEXT


def test_the_extras_of_the_image_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = re.search(r'^ARG EXTRAS="([\w,]+)"$', TEXT, flags=re.MULTILINE)
    assert found
    assert set(found[1].split(",")) <= project["optional-dependencies"].keys()


def test_the_image_is_not_root_and_looks_after_its_health() -> None:
    last = TEXT.split("\nFROM ")[-1]
    assert "\nUSER 10001:10001\n" in last
    assert last.index("\nUSER ") > last.index("\nRUN ")  # nothing is installed afterwards
    assert re.search(r'^HEALTHCHECK .*CMD \["pneumoseg", "-q", "doctor"\]$', last, flags=re.MULTILINE)


def test_a_build_without_arguments_is_for_processors_and_an_empty_index_gives_cuda() -> None:
    assert '\nARG TORCH_INDEX="https://download.pytorch.org/whl/cpu"\n' in TEXT
    assert '\nRUN if [ -n "$TORCH_INDEX" ]; then ' in TEXT
    documented = (ROOT / "docs/containers.md").read_text(encoding="utf-8")
    for command in (
        "docker build -t pneumoseg .",
        "docker build --build-arg TORCH_INDEX= -t pneumoseg:cuda .",
    ):
        assert command in TEXT
        assert f"\n{command}\n" in documented
