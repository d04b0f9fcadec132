"""What a header says of a person stays in the files that it came in."""

from pathlib import Path

import pytest
from tests.conftest import SHAPE, draw_case, write_radiograph
from tests.unit.pipeline.test_predict import PLANTED, SECRETS, found_in

from pneumoseg.pipeline.config import TrainConfig
from pneumoseg.pipeline.evaluate import evaluate_model
from pneumoseg.pipeline.predict import predict_folder
from pneumoseg.pipeline.prediction.settings import KINDS
from pneumoseg.pipeline.prepare import prepare_manifest
from pneumoseg.pipeline.train import train_model
from pneumoseg.transforms.rle import encode_rle

CONFIG = TrainConfig.model_validate(
    {
        "network": {"features": [4, 8, 8, 8, 8]},
        "data": {"image_size": 32, "batch_size": 4},
        "optimization": {"epochs": 1, "patience": None},
        "precision": "float32",
    }
)


def test_no_tag_gets_into_manifests_caches_checkpoints_scores_and_research_results(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = ["ImageId,EncodedPixels"]
    for number in range(12):
        pixels, mask = draw_case(number, positive=number < 6)
        tags = {**PLANTED, "PatientID": f"PLANTED02-{number}", "SOPInstanceUID": f"1.2.{number}"}
        write_radiograph(tmp_path / "images" / f"case{number:02}.dcm", pixels, **tags)
        rows.append(f"case{number:02},{encode_rle(mask)}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "out"
    out.mkdir()
    manifest = out / "manifest.json"
    prepare_manifest(
        tmp_path / "images", [tmp_path / "labels.csv"], manifest, folds=3, label_shape=SHAPE, workers=0
    )
    run = train_model(manifest, out / "run", config=CONFIG, device="cpu")
    evaluate_model(run.model, manifest, out / "evaluation", device="cpu")
    predict_folder(
        run.model,
        tmp_path / "images",
        out / "results",
        kinds=KINDS,
        dropout_passes=2,
        device="cpu",
        workers=0,
        research=True,
    )
    assert len([path for path in out.rglob("*") if path.is_file()]) > 12 * len(KINDS)
    assert found_in(out) == set()
    assert not any(secret in text for text in capfd.readouterr() for secret in SECRETS)
