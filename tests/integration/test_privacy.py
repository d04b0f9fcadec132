"""What a header says of a person stays in the files that it came in."""

import gzip
import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread
from tests.conftest import SHAPE, draw_case, write_radiograph
from tests.unit.pipeline.jobs.test_predict_research import PLANTED, SECRETS

from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.inference.model import ModelOptions
from pneumoseg.pipeline.jobs.evaluate import evaluate_model
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.jobs.prepare import prepare_manifest
from pneumoseg.pipeline.jobs.report import write_report
from pneumoseg.pipeline.jobs.train import train_model
from pneumoseg.pipeline.results.settings import KINDS
from pneumoseg.transforms.labels.rle import encode_rle

pytestmark = pytest.mark.slow

CONFIG = TrainConfig.model_validate(
    {
        "network": {"features": [4, 8, 8, 8, 8]},
        "data": {"image_size": 32, "batch_size": 4},
        "optimization": {"epochs": 1, "patience": None},
        "precision": "float32",
    }
)
NAMES = ("NAMED30", "NAMED31")
"""In the names of the files, which are the ids of the cases, and in that of a folder around them."""


@dataclass(frozen=True)
class Worked:
    """Everything that the jobs have made, and what they have said."""

    folder: Path
    said: str

    def found(self, secrets: Sequence[str], *, but: Sequence[str] = ()) -> list[str]:
        """The files in which a secret stands, in the name, the content or what an archive has packed.

        Args:
            secrets: Marks.
            but: Beginnings of paths that are not looked at.
        """
        paths = {path: path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*")}
        return [
            name
            for path, name in paths.items()
            if not name.startswith(tuple(but))
            and any(
                secret in path.name or secret.encode() in content
                for content in contents(path)
                for secret in secrets
            )
        ]


def contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and those of what it has packed: volumes, arrays, checkpoints."""
    content = path.read_bytes() if path.is_file() else b""
    yield content
    if path.suffix == ".gz":
        yield gzip.decompress(content)
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield from (archive.read(name) for name in archive.namelist())


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Worked:
    """All jobs, on radiographs with marks in twenty tags, a private one, their names and their folder."""
    folder = tmp_path_factory.mktemp("privacy")
    images, labels, out = folder / NAMES[1], folder / "labels.csv", folder / "out"
    rows = ["ImageId,EncodedPixels"]
    for number in range(12):
        pixels, mask = draw_case(number, positive=number < 6)
        tags = {**PLANTED, "PatientID": f"PLANTED02-{number}", "SOPInstanceUID": f"1.2.{number}"}
        path = write_radiograph(images / f"{NAMES[0]}-{number}.dcm", pixels, **tags)
        data = dcmread(path)
        data.private_block(0x0011, "PLANTED20", create=True).add_new(1, "LO", "PLANTED21")
        data.save_as(path)
        rows.append(f"{NAMES[0]}-{number},{encode_rle(mask)}")
    labels.write_text("\n".join(rows) + "\n")
    out.mkdir()
    manifest, said = out / "manifest.json", io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        prepare_manifest(images, [labels], manifest, folds=3, label_shape=SHAPE, workers=0)
        model = train_model(manifest, out / "run", config=CONFIG, device="cpu").model
        evaluate_model(
            model,
            manifest,
            out / "evaluation",
            options=ModelOptions(dropout_passes=2),
            runtime=Runtime(device="cpu"),
        )
        predict_folder(
            model,
            images,
            out / "results",
            options=ModelOptions(dropout_passes=2),
            runtime=Runtime(device="cpu", workers=0),
            kinds=KINDS,
            research=True,
        )
        write_report(out / "results")
    return Worked(out, said.getvalue())


def test_all_jobs_have_left_something(worked: Worked) -> None:
    made = {path.relative_to(worked.folder).parts[0] for path in worked.folder.rglob("*") if path.is_file()}
    assert made == {"manifest.json", "manifest.cache", "run", "evaluation", "results"}
    assert len(list((worked.folder / "results").rglob("*"))) > 12 * len(KINDS)


def test_no_tag_gets_into_anything_that_is_made(worked: Worked) -> None:
    assert worked.found(SECRETS) == []


def test_the_way_to_a_file_stands_in_the_manifest_alone(worked: Worked) -> None:
    assert worked.found(NAMES[1:]) == ["manifest.json"]


def test_names_of_files_stand_where_cases_are_listed_and_nowhere_else(worked: Worked) -> None:
    listed = ("manifest.json", "evaluation", "run/evaluation", "run/report.html")
    assert worked.found(NAMES) != []
    assert worked.found(NAMES, but=listed) == []


def test_nothing_of_them_is_said(worked: Worked) -> None:
    assert "fold 0 held out" in worked.said
    assert not any(secret in worked.said for secret in (*SECRETS, *NAMES))
