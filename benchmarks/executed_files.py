"""Count the source files that one image, or one training step, passes through: a measure of what a reader has to open.

    python benchmarks/executed_files.py step
    python benchmarks/executed_files.py submission MODEL IMAGES

A file counts when any function of it is called. A submission is traced with the decoder in this process, from the
loaded model to the rows of the images, before they are written and read back, without the choice of a runtime; a step
from the fetched batch to the moved weights, with all handlers of a step.
"""

import argparse
import sys
import threading
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, Final
from unittest.mock import patch

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("models", "pipeline", "transforms")


class Tracer:
    """Notes the files of this project whose functions are called, in the order of the first call."""

    def __init__(self) -> None:
        self.files: dict[str, None] = {}

    def __enter__(self) -> "Tracer":
        threading.setprofile(self._note)  # of threads that start from now on
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event != "call" or frame.f_code.co_name == "<module>" or not name.startswith("/"):
            return
        path = Path(name).resolve()
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES:
            self.files[str(path.relative_to(ROOT))] = None


def trace_step() -> Tracer:
    """Trace the second step of a tiny run: the first one also makes what is kept."""
    import torch  # noqa: PLC0415  (MONAI takes seconds, and --help should not)
    from ignite.engine import Engine, Events  # noqa: PLC0415

    from pneumoseg.pipeline.core.devices import Precision  # noqa: PLC0415
    from pneumoseg.pipeline.training.fitting import fit  # noqa: PLC0415
    from pneumoseg.pipeline.training.history import History  # noqa: PLC0415

    tracer = Tracer()

    class Trace:
        """Trace from the fetched batch to the end of the second step."""

        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(Events.ITERATION_STARTED(once=2), tracer.__enter__)
            engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), tracer.__exit__)

    sys.path.insert(0, str(ROOT))
    benchmark = import_module("benchmarks.training_step")
    run = benchmark.make_run(*benchmark.make_cases(32), Precision(torch.device("cpu"), torch.float32), 4)
    with TemporaryDirectory() as name:
        fit(run, History(), Path(name), origin={}, reports=[Trace()])
    return tracer


def trace_submission(model: Path, images: Path, shape: tuple[int, int]) -> Tracer:
    """Trace the job from the loaded model to the rows of the images, which are of one *shape*."""
    from pneumoseg.pipeline.core.runtime import Runtime  # noqa: PLC0415
    from pneumoseg.pipeline.jobs import submit  # noqa: PLC0415

    tracer = Tracer()
    load_model = submit.load_model  # type: ignore[attr-defined]  # imported there
    choose_runtime = submit.choose_runtime  # type: ignore[attr-defined]

    def load_and_trace(*words: Any) -> Any:
        loaded = load_model(*words)
        tracer.__enter__()
        return loaded

    def choose_untraced(*words: Any, **options: Any) -> Any:
        tracer.__exit__()
        chosen = choose_runtime(*words, **options)
        tracer.__enter__()
        return chosen

    def stop_and_write(*words: Any) -> None:
        tracer.__exit__()
        write(*words)

    write = submit._write
    with (
        TemporaryDirectory() as name,
        patch.object(submit, "load_model", load_and_trace),
        patch.object(submit, "choose_runtime", choose_untraced),
        patch.object(submit, "_write", stop_and_write),
    ):
        submit.write_submission(
            model, images, Path(name) / "submission.csv", shape=shape, runtime=Runtime(workers=0)
        )
    return tracer


def main() -> None:
    """Print the files and their number."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["step", "submission"])
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument(
        "--shape", nargs=2, type=int, default=(1024, 1024), help="Rows and columns of the images."
    )
    words = parser.parse_args()
    if words.what == "step":
        tracer = trace_step()
    else:
        model, images = words.paths
        tracer = trace_submission(model, images, (words.shape[0], words.shape[1]))
    print(*tracer.files, sep="\n")
    print(f"{len(tracer.files)} files")


if __name__ == "__main__":
    main()
