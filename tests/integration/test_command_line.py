"""What goes wrong is said in one line, with the right exit code, by the command that a user types."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.command import run_command
from tests.integration.conftest import SIZE, Workshop

pytestmark = pytest.mark.slow


def prepare(workshop: Workshop, images: Path, labels: Path, output: Path) -> subprocess.CompletedProcess[str]:
    shape = ("--label-shape", f"{SIZE},{SIZE}")
    return run_command("prepare", images, "--labels", labels, "-o", output, "--folds", 2, *shape)


def the_error(result: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line of an error, after a check that it is one."""
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.fixture
def copy(workshop: Workshop, tmp_path: Path) -> Path:
    """Phantoms that a test may damage."""
    return Path(shutil.copytree(workshop.phantoms.images.parent, tmp_path / "copy"))


def test_a_bad_label_row_drops_its_image_and_is_named_by_line(workshop: Workshop, copy: Path) -> None:
    labels = copy / workshop.phantoms.labels.name
    lines = labels.read_text().splitlines()
    bad = lines[1].partition(",")[0] + ", 5 -3"
    labels.write_text("\n".join([lines[0], bad, *lines[2:]]) + "\n")
    result = prepare(workshop, copy / "images", labels, copy / "manifest.json")
    assert result.returncode == 3
    assert "line 2: BAD_LENGTH" in result.stderr
    manifest = json.loads((copy / "manifest.json").read_text())
    assert lines[1].partition(",")[0] in [entry["id"] for entry in manifest["unlabelled"]]


def test_a_dicom_cut_in_half_is_refused_and_the_rest_is_prepared(workshop: Workshop, copy: Path) -> None:
    path = min((copy / "images").rglob("*.dcm"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = prepare(workshop, copy / "images", copy / workshop.phantoms.labels.name, copy / "manifest.json")
    assert result.returncode == 3
    manifest = json.loads((copy / "manifest.json").read_text())
    assert next(entry["reason"] for entry in manifest["refused"]) in ("TRUNCATED", "DECODE_ERROR")
    assert manifest["size"] + len(manifest["unlabelled"]) == len(list((copy / "images").rglob("*.dcm"))) - 1


def test_an_empty_folder_is_an_error(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = prepare(workshop, tmp_path / "empty", workshop.phantoms.labels, tmp_path / "manifest.json")
    assert "holds no DICOM or PNG file" in the_error(result, 1)


def test_a_missing_column_is_named_with_those_that_are_there(workshop: Workshop, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("Image,Mask\na,-1\n")
    result = prepare(workshop, workshop.phantoms.images, labels, tmp_path / "manifest.json")
    assert "has no column ImageId, only 'Image', 'Mask'" in the_error(result, 1)


def test_a_model_without_weights_is_an_error(workshop: Workshop, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(workshop.model, model)
    shutil.rmtree(model / "weights")
    result = run_command("predict", model, workshop.phantoms.test_images, "-o", tmp_path / "out")
    assert "the weights of the model are missing" in the_error(result, 1)


def test_an_unknown_key_in_the_configuration_is_a_usage_error(workshop: Workshop, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("optimization: {learning_rte: 0.1}\n")
    result = run_command("train", workshop.manifest, "-o", tmp_path / "run", "--config", config)
    error = the_error(result, 2)
    assert "unknown key optimization.learning_rte" in error
    assert "learning_rate" in error


def test_an_unknown_preset_names_those_there_are(workshop: Workshop, tmp_path: Path) -> None:
    result = run_command("train", workshop.manifest, "-o", tmp_path / "run", "--preset", "better")
    assert "article, quick, reference would fit" in the_error(result, 2)


def test_a_fold_that_is_no_number_is_a_usage_error(workshop: Workshop, tmp_path: Path) -> None:
    result = run_command("train", workshop.manifest, "-o", tmp_path / "run", "--fold", "first")
    assert "a number or `all` would fit" in the_error(result, 2)


def test_the_configuration_that_is_shown_can_be_given_back(workshop: Workshop, tmp_path: Path) -> None:
    words = ("train", workshop.manifest, "-o", tmp_path / "run", "--show-config")
    shown = run_command(*words, "--preset", "quick", "--set", "seed=5").stdout
    (tmp_path / "config.yaml").write_text(shown)
    assert run_command(*words, "--config", tmp_path / "config.yaml").stdout == shown
    assert not (tmp_path / "run").exists()


def test_weights_of_another_network_are_no_beginning(workshop: Workshop, tmp_path: Path) -> None:
    result = run_command("train", workshop.manifest, "-o", tmp_path / "run", "--init", workshop.model)
    assert "is of another network: features is (4, 8, 8, 16, 16)" in the_error(result, 2)


def test_an_output_that_exists_is_not_written_over(workshop: Workshop) -> None:
    result = prepare(workshop, workshop.phantoms.images, workshop.phantoms.labels, workshop.manifest)
    assert "--overwrite" in the_error(result, 2)


def test_an_unknown_command_is_a_usage_error() -> None:
    assert "No such command" in the_error(run_command("segment"), 2)


def test_a_sample_with_an_image_that_is_not_there_is_an_error(workshop: Workshop, tmp_path: Path) -> None:
    sample = tmp_path / "sample.csv"
    sample.write_text("ImageId,EncodedPixels\nnowhere,-1\n")
    output = tmp_path / "submission.csv"
    result = run_command(
        "submit", workshop.model, workshop.phantoms.test_images, "--sample", sample, "-o", output
    )
    assert "the first is nowhere" in the_error(result, 1)
    assert not output.exists()


def test_help_imports_neither_torch_nor_monai() -> None:
    code = "import sys; from pneumoseg.pipeline.cli import app; print({'torch', 'monai', 'numpy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_evaluate_takes_an_operating_point_augmentations_and_dropout_together(
    workshop: Workshop, tmp_path: Path
) -> None:
    words = ("--operating-point", "specificity=0.5", "--tta", "flip", "--dropout-passes", "2")
    result = run_command("evaluate", workshop.model, workshop.manifest, "-o", tmp_path / "out", *words)
    assert result.returncode == 0, result.stderr
    assert "95 % interval" in result.stdout
    assert "resampled by patient" in result.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "cases.csv",
        "scores.json",
        "subgroups.csv",
        "uncertainty",
    }


def test_predict_takes_the_same_options(workshop: Workshop, tmp_path: Path) -> None:
    words = ("--operating-point", "specificity=0.5", "--tta", "flip", "--dropout-passes", "2")
    result = run_command(
        "predict",
        workshop.model,
        workshop.phantoms.test_images,
        "-o",
        tmp_path / "out",
        "-t",
        "uncertainty",
        *words,
    )
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "out" / "uncertainty").iterdir())) == 8


def test_an_unknown_operating_point_is_a_usage_error_of_one_line(workshop: Workshop, tmp_path: Path) -> None:
    result = run_command(
        "evaluate", workshop.model, workshop.manifest, "-o", tmp_path / "out", "--operating-point", "beauty"
    )
    assert result.returncode == 2
    assert "challenge, specificity, screening, specificity=0.9 or sensitivity=0.9 would fit" in result.stderr
    assert not (tmp_path / "out").exists()


def test_several_submissions_are_scored_against_the_truth_that_comes_last(tmp_path: Path) -> None:
    rows = {"nothing": "a,-1\nb,-1\n", "something": "a,0 4\nb,-1\n", "truth": "a,0 4\nb,-1\n"}
    for name, text in rows.items():
        (tmp_path / f"{name}.csv").write_text(f"ImageId,EncodedPixels\n{text}")
    result = run_command("score", *(tmp_path / f"{name}.csv" for name in rows))
    assert result.returncode == 0, result.stderr
    assert "+0.5000" in result.stdout


def test_an_invalid_submission_is_named_beside_the_score_of_the_others(tmp_path: Path) -> None:
    rows = {"nothing": "a,-1\nb,-1\n", "part": "a,0 4\n", "truth": "a,0 4\nb,-1\n"}
    for name, text in rows.items():
        (tmp_path / f"{name}.csv").write_text(f"ImageId,EncodedPixels\n{text}")
    result = run_command(
        "score", *(tmp_path / f"{name}.csv" for name in rows), "--faults", tmp_path / "faults.csv"
    )
    assert result.returncode == 1
    assert "0.5000" in result.stdout
    assert "invalid, faults: 1" in result.stdout
    assert result.stderr.splitlines() == [
        f"error: {tmp_path / 'part.csv'} is not a valid submission; faults: 1",
        "  MISSING: b has no row",
    ]
    assert (tmp_path / "faults.csv").read_text().endswith(",MISSING,b has no row\n")


def test_a_network_with_an_encoder_is_described_without_a_model(workshop: Workshop) -> None:
    described = run_command("describe", "--set", "network.encoder=efficientnet-lite0")
    assert described.returncode == 0, described.stderr
    assert "encoder.level5.4" in described.stdout
    both = run_command("describe", workshop.model, "--preset", "reference")
    assert "a model folder has its own network" in the_error(both, 2)


def test_a_model_of_the_package_is_described_by_its_name() -> None:
    described = run_command("describe", "reference")
    assert described.returncode == 0, described.stderr
    assert "encoder.level5.4" in described.stdout
    assert "3×512×512" in described.stdout  # at the size of its input
