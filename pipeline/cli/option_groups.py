"""Groups of options that several commands share; each group is one parameter of a command and several options of it."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final, get_type_hints

from pneumoseg.pipeline.cli.options import (
    AnyBodyPart,
    AnyModality,
    AnyView,
    BatchSize,
    Calibrated,
    Device,
    DropoutPasses,
    FollowLinks,
    OperatingPointName,
    PrecisionChoice,
    Quiet,
    RuntimeChoice,
    Threads,
    Tta,
    Verbose,
    Workers,
    set_threads,
)

if TYPE_CHECKING:  # they load NumPy and torch
    from pneumoseg.pipeline.core.runtime import Runtime
    from pneumoseg.pipeline.inference.model import ModelOptions
    from pneumoseg.transforms.reader.acceptance import AcceptanceFilters


@dataclass(frozen=True, kw_only=True)
class Verbosity:
    """What every command prints. The callbacks run while the command line is parsed, so that they cover its errors."""

    verbose: Verbose = False
    quiet: Quiet = False


_VERBOSITY: Final = inspect.Parameter("verbosity", inspect.Parameter.KEYWORD_ONLY, annotation=Verbosity)


@dataclass(frozen=True, kw_only=True)
class AcceptanceChoice:
    """Files that a command accepts as radiographs."""

    any_view: AnyView = False
    any_modality: AnyModality = False
    any_body_part: AnyBodyPart = False
    follow_links: FollowLinks = False

    def filters(self, *, allow_burned_in: bool = False) -> "AcceptanceFilters":
        """Make the acceptance filters; images of any modality have other views and body parts, too.

        Args:
            allow_burned_in: Whether to assume that burned-in annotations contain no identifying text.
        """
        from pneumoseg.transforms.reader.acceptance import AcceptanceFilters

        return AcceptanceFilters.widened(
            any_view=self.any_view,
            any_modality=self.any_modality,
            any_body_part=self.any_body_part,
            allow_burned_in=allow_burned_in,
        )


@dataclass(frozen=True, kw_only=True)
class Computation:
    """Where and how a command computes."""

    device: Device = "auto"
    runtime: RuntimeChoice = "auto"
    precision: PrecisionChoice = "auto"
    batch_size: BatchSize = 4
    workers: Workers = 1
    threads: Threads = None

    def start(self) -> "Runtime":
        """Set the threads of this process, and make the runtime options of a job."""
        from pneumoseg.pipeline.core.runtime import Runtime

        set_threads(self.threads)
        return Runtime(device=self.device, batch_size=self.batch_size, workers=self.workers)


@dataclass(frozen=True, kw_only=True)
class ModelUse:
    """How a command uses a model, where that differs from the model's own settings."""

    operating_point: OperatingPointName = None
    tta: Tta = None

    def options(self, computation: Computation) -> "ModelOptions":
        """Make the options of the model.

        Args:
            computation: How it is computed.
        """
        from pneumoseg.pipeline.inference.model import ModelOptions
        from pneumoseg.pipeline.inference.passes import parse_tta

        own = {field.name: getattr(self, field.name) for field in fields(self)} | {"tta": parse_tta(self.tta)}
        return ModelOptions(**own, runtime=computation.runtime, precision=computation.precision)


@dataclass(frozen=True, kw_only=True)
class ModelUseWithUncertainty(ModelUse):
    """How a command uses a model whose probabilities it reports."""

    calibrated: Calibrated = False
    dropout_passes: DropoutPasses = 0


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Turn each parameter of a command whose type is a group into the options of the group, and add -v and -q.

    Args:
        command: Command whose annotations typer reads.

    Returns: The command with one parameter for each option; it passes the groups on to *command*.
    """
    parameters = [*inspect.signature(command).parameters.values(), _VERBOSITY]
    groups: dict[str, Any] = {
        each.name: each.annotation for each in parameters if is_dataclass(each.annotation)
    }

    @functools.wraps(command)
    def call(**options: Any) -> None:
        for name, group in groups.items():
            options[name] = group(**{field.name: options.pop(field.name) for field in fields(group)})
        del options[_VERBOSITY.name]
        command(**options)

    expanded: list[inspect.Parameter] = []
    for each in parameters:
        if each.name not in groups:
            expanded.append(each.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        hints = get_type_hints(each.annotation, include_extras=True)
        expanded += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hints[field.name],
            )
            for field in fields(each.annotation)
        ]
    call.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in expanded}
    return call
