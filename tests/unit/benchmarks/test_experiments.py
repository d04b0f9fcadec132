import json
from pathlib import Path

import pytest
import yaml

from benchmarks.experiments import read_runs
from pneumoseg.pipeline.core.config import TrainConfig

METRICS = "epoch,image_size,seconds,images_per_s\n1,64,{seconds},2\n2,64,20,1\n"
HEADER = "id,group,label_area_px,cross_fitted_area_px,cross_fitted_dice,probability"


def write_run(folder: Path, rows: list[str], *, in_sample: float, seconds: int) -> Path:
    (folder / "evaluation").mkdir(parents=True)
    config = TrainConfig().model_dump(mode="json")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.csv").write_text(METRICS.format(seconds=seconds))
    (folder / "summary.json").write_text(json.dumps({"device": "cpu", "precision": "bf16", "threads": 1}))
    scores = {"images": len(rows), "in_sample": {"dice": {"value": in_sample}}, "scores": {}}
    (folder / "evaluation" / "scores.json").write_text(json.dumps(scores))
    (folder / "evaluation" / "cases.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return folder


def test_runs_together_are_scored_on_all_their_images(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", ["1,p,100,100,0.5,0.9", "2,q,0,0,1,0.1"], in_sample=0.8, seconds=10)
    second = write_run(
        tmp_path / "b", ["3,r,0,50,0,0.2", "4,r,0,0,1,0.3", "5,s,10,0,0,0.4"], in_sample=0.3, seconds=20
    )
    row = read_runs([first, second])
    assert (row["images"], row["patients"], row["folds"], row["epochs"]) == (5, 4, 2, 2)
    assert row["predict_nothing"] == pytest.approx(3 / 5)
    assert row["scores"]["dice"]["value"] == pytest.approx((0.5 + 1 + 0 + 1 + 0) / 5)
    assert row["gain"]["value"] == pytest.approx((0.5 - 1) / 5)
    assert row["scores"]["auc"]["value"] == 1.0
    assert row["in_sample"] == pytest.approx((2 * 0.8 + 3 * 0.3) / 5)
    assert row["images_seen"] == 20 + 20 + 40 + 20


def test_hours_are_those_at_the_rate_of_the_fastest_epoch(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", ["1,p,100,100,0.5,0.9", "2,q,0,0,1,0.1"], in_sample=0.8, seconds=10)
    assert read_runs([run])["training_hours"] == pytest.approx((20 + 20) / 2 / 3600)
