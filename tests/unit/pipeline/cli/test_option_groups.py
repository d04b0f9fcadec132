import inspect
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

from pneumoseg.pipeline.cli.option_groups import (
    AcceptanceChoice,
    Computation,
    ModelUse,
    ModelUseWithUncertainty,
    with_groups,
)
from pneumoseg.pipeline.inference.model import ModelOptions


def test_any_modality_includes_other_views_and_body_parts() -> None:
    filters = AcceptanceChoice(any_modality=True).filters()
    assert (filters.any_modality, filters.any_view, filters.any_body_part) == (True, True, True)
    assert not filters.allow_burned_in


def test_a_model_is_used_as_it_was_asked_for() -> None:
    use = ModelUseWithUncertainty(
        operating_point="screening", tta="flip,scale", calibrated=True, dropout_passes=3
    )
    assert use.options(Computation(runtime="onnx", precision="float32")) == ModelOptions(
        operating_point="screening",
        tta=("flip", "scale"),
        calibrated=True,
        dropout_passes=3,
        runtime="onnx",
        precision="float32",
    )
    assert ModelUse().options(Computation()) == ModelOptions()


def test_the_computation_goes_to_the_job() -> None:
    runtime = Computation(device="cpu", batch_size=3, workers=2).start()
    assert (runtime.device, runtime.batch_size, runtime.workers) == ("cpu", 3, 2)


@pytest.mark.parametrize(
    ("words", "expected"), [([], ("x", False, False)), (["--any-view", "--name", "y"], ("y", True, False))]
)
def test_a_group_is_options_of_the_command_and_one_argument_of_its_function(
    words: list[str], expected: tuple[str, bool, bool]
) -> None:
    received = []

    @with_groups
    def command(*, files: AcceptanceChoice, name: str = "x") -> None:
        received.append((name, files.any_view, files.any_modality))

    assert "files" not in inspect.signature(command).parameters
    kind, _ = get_args(inspect.signature(command).parameters["any_view"].annotation)
    assert kind is bool
    app = typer.Typer()
    app.command()(command)
    assert CliRunner().invoke(app, words).exit_code == 0
    assert received == [expected]
