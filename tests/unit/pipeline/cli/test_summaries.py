from collections import Counter
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tests.conftest import make_case, make_manifest, measured_curves

from pneumoseg.pipeline.cli.summaries import (
    check_summary,
    doctor_summary,
    evaluation_table,
    operating_point_table,
    predict_summary,
    prepare_summary,
    reasons_table,
)
from pneumoseg.pipeline.dataset.groups import Grouping
from pneumoseg.pipeline.dataset.manifest import Refused, Unlabelled
from pneumoseg.pipeline.jobs.check import CheckReport
from pneumoseg.pipeline.jobs.doctor import Decoder, DoctorReport, Library
from pneumoseg.pipeline.jobs.evaluate import EvaluateReport
from pneumoseg.pipeline.jobs.predict import PredictReport
from pneumoseg.pipeline.jobs.prepare import PrepareReport
from pneumoseg.pipeline.scoring.case_curves import score_point
from pneumoseg.pipeline.scoring.headline import ScoredImages
from pneumoseg.transforms.masks import OperatingPoint
from pneumoseg.transforms.reader.reasons import Outcome


def printed(*parts: str | Table, width: int = 200) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(*parts, sep="\n")
    return capture.get()


def cells(text: str, start: str) -> list[str]:
    """The cells of the row of a table that begins with *start*."""
    line = next(line for line in text.splitlines() if start in line)
    return [cell.strip() for cell in line.strip("│┃ ").split("│")]


def prepared(**changes: object) -> PrepareReport:
    cases = [
        make_case(0, fold=0, label=("3 4",), area_px=4),
        make_case(1, fold=1),
        make_case(2, fold=1, label=("3 4",), area_px=4),
        make_case(3, fold=1, group="group2"),
    ]
    manifest = make_manifest(
        *cases,
        unlabelled=(Unlabelled(image="x.dcm", id="x", sha256="0" * 64),),
        refused=(
            Refused(image="a.dcm", reason="TRUNCATED", detail=""),
            Refused(image="b.dcm", reason="TRUNCATED", detail=""),
            Refused(image="c.dcm", outcome=Outcome.SKIPPED, reason="WRONG_VIEW", detail=""),
        ),
    )
    grouping = Grouping(names=("group0", "group1", "group2", "group2"), source="groups file")
    values: dict[str, object] = {
        "manifest": manifest, "grouping": grouping, "other_files": 7, "links": 0, "label_problems": (),
        "labels_without_image": ("n1", "n2"), **changes,
    }  # fmt: skip
    return PrepareReport(**values)  # type: ignore[arg-type]


def test_prepare_counts_images_labels_and_files() -> None:
    text = printed(*prepare_summary(prepared()))
    assert "5 images: 4 labelled, 2 of them positive; 1 unlabelled" in text
    assert "2 files refused, 1 skipped, 7 unrelated files" in text
    assert "2 labels have no image, such as n1" in text


def test_prepare_names_an_image_whose_name_is_almost_that_of_a_label() -> None:
    (image,) = prepared().manifest.unlabelled
    text = printed(*prepare_summary(prepared(labels_without_image=(f"{image.id.upper()}.DCM",))))
    assert f"an image without a label is called {image.id}, and names have to be equal" in " ".join(
        text.split()
    )


def test_prepare_says_whether_patients_can_leak() -> None:
    assert "no patient in two folds: 3 groups by groups file" in printed(*prepare_summary(prepared()))


def test_prepare_lays_out_the_folds() -> None:
    text = printed(*prepare_summary(prepared())).partition("Folds")[2]
    assert cells(text, "│    1 ") == ["1", "3", "1", "2"]  # fold, images, positive, groups


def test_reasons_come_with_their_number_and_what_they_mean_refusals_first_then_the_most_frequent() -> None:
    counts = {"BURNED_IN": 9, "WRONG_VIEW": 4, "TOO_LARGE": 1, "TRUNCATED": 2}
    text = printed(reasons_table(Counter(counts)))
    order = sorted(counts, key=text.index)
    assert order == ["TRUNCATED", "TOO_LARGE", "WRONG_VIEW", "BURNED_IN"]
    assert cells(text, "TRUNCATED")[:3] == ["2", "refused", "TRUNCATED"]
    assert len(cells(text, "TRUNCATED")[3]) > 10


def unwrapped(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())


def scores(*corners: tuple[int, int]) -> str:
    curves = [
        measured_curves(
            torch.full((4, 4), float(pred)), torch.full((4, 4), truth), index=index, image_probability=pred
        )
        for index, (pred, truth) in enumerate(corners)
    ]
    return printed(operating_point_table(score_point(curves, OperatingPoint()), title="fold 3"))


def test_each_score_stands_beside_that_of_predicting_nothing() -> None:
    text = scores((0, 0), (0, 0), (1, 0), (1, 1))
    assert cells(text, "the challenge's score")[1:] == ["0.7500", "0.7500"]
    assert cells(text, "Dice on positives")[1:] == ["1.0000", "0.0000"]
    assert cells(text, "sensitivity")[1:] == ["1.0000", "0.0000"]
    assert cells(text, "specificity")[1:] == ["0.6667", "1.0000"]
    assert "1 with a pneumothorax; 2 predicted positive, at the in-sample operating point" in unwrapped(text)


def test_a_score_that_no_image_counts_for_is_a_dash() -> None:
    text = scores((0, 0), (0, 0))
    for name in ("Dice on positives", "sensitivity", "AUC"):
        assert cells(text, name)[1:] == ["-", "-"]


def test_cross_fitted_scores_stand_with_intervals_beside_in_sample_ones_and_predicting_nothing() -> None:
    in_sample = ScoredImages(
        groups=[str(number) for number in range(20)],
        pred_px=np.repeat([0, 0, 4, 0], 5),
        true_px=np.repeat([0, 0, 4, 4], 5),
        shared_px=np.repeat([0, 0, 4, 0], 5),
    )
    cross_fitted = replace(in_sample, pred_px=np.repeat([0, 4, 4, 0], 5))
    report = EvaluateReport(
        fold=3,
        scores=None,  # type: ignore[arg-type]  # a table does not look at it
        trained_on=0,
        images=in_sample,
        in_sample=True,
        cross_fitted=cross_fitted,
    )
    text = printed(evaluation_table(report, title="fold 3"))
    # of ten of twenty, by Clopper and Pearson
    assert cells(text, "the challenge's score")[1:] == ["0.5000", "0.2720 to 0.7280", "0.7500", "0.5000"]
    assert cells(text, "Dice where both contain pixels")[1:3] == ["1.0000", "no interval"]
    assert "fewer than 10 patients count for the score" in unwrapped(text)
    assert "20 images of 20 patients, resampled by patient" in text
    assert "cross-fitted: at the operating point tuned without the patient" in unwrapped(text)
    assert "…" not in printed(evaluation_table(report, title="fold 3"), width=80)  # no name is cut off
    head = next(line for line in text.splitlines() if "95 %" in line)
    assert head.index("cross-fitted") < head.index("95 %") < head.index("in-sample")
    alone = printed(evaluation_table(replace(report, cross_fitted=None), title="fold 3"))
    # of ten, by Clopper and Pearson
    assert cells(alone, "specificity")[1:] == [
        "1.0000",
        "0.6915 to 1.0000",
        "1.0000",
    ]
    assert "in-sample: at the operating point tuned on these images" in unwrapped(alone)
    fixed = printed(evaluation_table(replace(report, in_sample=False, cross_fitted=None), title="fold 3"))
    assert "model" in fixed
    assert "in-sample" not in fixed


def test_predict_counts_what_became_of_the_files() -> None:
    report = PredictReport(
        segmented=9,
        predicted_positive=3,
        reasons=Counter({"TRUNCATED": 2, "WRONG_VIEW": 1}),
        refused=2,
        other_files=4,
    )
    text = printed(*predict_summary(report))
    assert "9 images segmented, 3 predicted positive; 2 refused, 1 skipped, 4 unrelated files" in text
    assert "WRONG_VIEW" in text


def test_predict_says_how_many_images_the_model_was_trained_on() -> None:
    report = PredictReport(
        segmented=9, predicted_positive=3, reasons=Counter(), refused=0, other_files=0, trained_on=4
    )
    assert "4 of them were in the model's training set" in printed(*predict_summary(report))


def test_predict_says_how_many_images_have_to_be_reviewed() -> None:
    report = PredictReport(
        segmented=9, predicted_positive=3, reasons=Counter(), refused=0, other_files=0, review=2
    )
    assert "2 of them have to be reviewed" in printed(*predict_summary(report))


def test_predict_shows_no_table_where_every_file_has_a_result() -> None:
    report = PredictReport(segmented=9, predicted_positive=3, reasons=Counter(), refused=0, other_files=0)
    assert len(predict_summary(report)) == 1
    assert np.all([isinstance(line, str) for line in predict_summary(report)])


def test_check_counts_what_became_of_the_files_and_why() -> None:
    report = CheckReport(
        statuses=Counter(accepted=5, refused=2),
        reasons=Counter({"TRUNCATED": 2, "DUPLICATE_IMAGE": 1}),
        other_files=3,
        links=4,
    )
    text = printed(*check_summary(report))
    assert "5 accepted, 0 warned, 0 skipped, 2 refused; 3 unrelated files, 4 links not followed" in text
    assert cells(text, "TRUNCATED")[:3] == ["2", "refused", "TRUNCATED"]


def test_check_shows_no_table_where_all_is_well() -> None:
    report = CheckReport(Counter(accepted=5), Counter(), other_files=0, links=0)
    assert check_summary(report) == ["5 accepted, 0 warned, 0 skipped, 0 refused; 0 unrelated files"]


def test_doctor_says_of_each_part_whether_it_is_as_it_should_be() -> None:
    report = DoctorReport(
        libraries=(
            Library("monai", "1.6.0", "1.6.1"),
            Library("torch", None, "2.11"),
            Library("numpy", "2.0", None),
        ),
        decoders=(
            Decoder("1.2.5", "RLE", "x", available=True),
            Decoder("1.2.4", "JPEG", "y", available=False),
        ),
        devices=("cpu: slow",),
        runtimes=("torch: float32",),
        advice=("eat less",),
    )
    text = printed(*doctor_summary(report))
    assert [cells(text, name)[-1] for name in ("monai", "torch", "numpy")] == ["too old", "missing", "ok"]
    assert [cells(text, syntax)[-1] for syntax in ("1.2.5", "1.2.4")] == ["ok", "missing"]
    assert text.splitlines()[-3:] == ["cpu: slow", "torch: float32", "eat less"]
