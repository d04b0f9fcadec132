from pathlib import Path

import pytest
from tests.conftest import TINY, make_case, make_manifest

from pneumoseg.pipeline.core.config import DataConfig, TrainConfig
from pneumoseg.pipeline.core.config_files import dump_config
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.dataset.manifest import Case, write_manifest
from pneumoseg.pipeline.jobs.starting_point import StartingPoint, read_starting_point
from pneumoseg.pipeline.training.run_record import CONFIG as CONFIG_FILE
from pneumoseg.pipeline.training.run_record import RunRecord

POSITIVE = {"label": ("0 1",), "area_px": 1}
CONFIG = TrainConfig(network=TINY, data=DataConfig(image_size=16))


def warnings(folder: Path, capsys: pytest.CaptureFixture[str], *cases: Case) -> str:
    """What is said when the first fold of these cases is held out; odd cases are in the second fold."""
    write_manifest(folder / "manifest.json", make_manifest(*cases))
    read_starting_point(folder / "run", RunRecord(manifest=folder / "manifest.json"), CONFIG, resume=False)
    return " ".join(capsys.readouterr().err.split())


def test_a_training_set_without_positives_gives_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = warnings(tmp_path, capsys, make_case(0, **POSITIVE), make_case(1), make_case(2), make_case(3))
    assert said.count("warning:") == 1
    assert "none of the 2 images to train on has a pneumothorax: the network cannot learn" in said


def test_a_validation_without_positives_gives_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = warnings(tmp_path, capsys, make_case(0), make_case(1, **POSITIVE), make_case(2), make_case(3))
    assert said.count("warning:") == 1
    assert "none of the 2 images to validate has a pneumothorax: neither epoch nor operating point" in said


def test_a_manifest_without_positives_gives_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = warnings(tmp_path, capsys, *(make_case(number) for number in range(4)))
    assert said.count("warning:") == 1
    assert "none of the 4 images of the manifest has a pneumothorax" in said


def test_a_validation_of_positives_alone_gives_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = warnings(tmp_path, capsys, make_case(0, **POSITIVE), make_case(1, **POSITIVE), make_case(3))
    assert said.count("warning:") == 1
    assert "all 1 images to validate have a pneumothorax" in said


def test_images_of_both_kinds_give_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [make_case(number, **POSITIVE) for number in (0, 1)] + [make_case(number) for number in (2, 3)]
    assert warnings(tmp_path, capsys, *cases) == ""


def resume(folder: Path, config: TrainConfig) -> StartingPoint:
    """What a resumed run starts from that was killed after its configuration was written."""
    write_manifest(folder / "manifest.json", make_manifest(*(make_case(number) for number in range(4))))
    (folder / "run").mkdir()
    (folder / "run" / CONFIG_FILE).write_text(dump_config(CONFIG))
    return read_starting_point(
        folder / "run", RunRecord(manifest=folder / "manifest.json"), config, resume=True
    )


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    assert resume(tmp_path, CONFIG).state is None


def test_such_a_run_keeps_its_settings(tmp_path: Path) -> None:
    other = CONFIG.model_copy(update={"seed": 1})
    with pytest.raises(UsageError, match=r"seed is 0 in .* and 1 was requested"):
        resume(tmp_path, other)


def test_a_run_whose_checkpoints_are_gone_is_not_started_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").touch()
    write_manifest(tmp_path / "manifest.json", make_manifest(*(make_case(number) for number in range(4))))
    record = RunRecord(manifest=tmp_path / "manifest.json")
    with pytest.raises(JobError, match="there is no checkpoint"):
        read_starting_point(tmp_path / "run", record, CONFIG, resume=True)
