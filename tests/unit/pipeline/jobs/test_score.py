import csv
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table
from scipy import stats

from pneumoseg.pipeline.cli.score_tables import comparison_table, score_table
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.jobs.score import SubmissionScore, score_submission, score_submissions
from pneumoseg.pipeline.scoring.intervals import PatientBootstrap
from pneumoseg.pipeline.scoring.submission import InvalidSubmissionError, write_faults
from pneumoseg.transforms.labels.challenge_csv import read_labels
from pneumoseg.transforms.labels.rle import decode_rle, encode_rle

HEADER = "ImageId,EncodedPixels\n"
SHAPE = (3, 4)
Write = Callable[[str, str], Path]
Score = Callable[[str, str], SubmissionScore]


@pytest.fixture(scope="module")
def siim(shared_data: Path) -> Path:
    return shared_data / "siim-acr"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the rows of a label file, by its name."""

    def write_rows(name: str, rows: str) -> Path:
        path = tmp_path / f"{name}.csv"
        path.write_text(HEADER + rows, encoding="utf-8")
        return path

    return write_rows


@pytest.fixture
def score(write: Write) -> Score:
    """Score the rows of a submission against the rows of a truth."""
    return lambda submission, truth: score_submission(
        write("submission", submission), write("truth", truth), shape=SHAPE
    )


# scores


def test_the_four_corners_by_hand(score: Score) -> None:
    result = score("a,-1\nb,0 2\nc,-1\nd,0 5\n", "a,-1\nb,-1\nc,4 1\nd,3 3\n")
    assert result.ids == ("a", "b", "c", "d")
    assert result.dice.tolist() == [1.0, 0.0, 0.0, 0.5]  # d: 2 * 2 / (5 + 3)
    assert result.score.dice == pytest.approx(1.5 / 4)


def test_the_order_of_the_rows_does_not_matter(score: Score) -> None:
    assert score("b,3 3\na,-1\n", "a,-1\nb,3 3\n").score.dice == 1.0


def test_the_truth_of_an_image_is_the_union_of_its_rows(score: Score) -> None:
    assert score("a,0 6\n", "a,0 4\na,2 4\n").score.dice == 1.0


def test_predicting_nothing_on_the_real_data_scores_0_7742(siim: Path) -> None:
    result = score_submission(siim / "sample_submission.csv", siim / "stage_2_train.csv")
    assert (result.score.images, result.score.positives) == (970, 219)
    assert result.score.dice == result.score.predict_nothing == pytest.approx(1 - 219 / 970, abs=1e-12)
    assert f"{result.score.dice:.4f}" == "0.7742"


def test_one_generation_of_the_truth_scores_1_against_the_other(siim: Path) -> None:
    assert score_submission(siim / "train-rle.csv", siim / "stage_2_train.csv").score.dice == 1.0


def test_random_masks_score_as_their_pixels_do_on_all_970_real_images(siim: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    lines, by_pixel = [], []
    for name, label in read_labels(siim / "stage_2_train.csv").images.items():
        pred = np.zeros((1024, 1024), dtype=np.bool_)
        if random.random() < 0.6:
            row, column = random.integers(0, 900, size=2)
            pred[row : row + 124, column : column + 124] = random.random((124, 124)) < 0.7
        true = decode_rle(label.texts, (1024, 1024)).astype(np.bool_)
        if label.texts and random.random() < 0.5:
            pred |= np.roll(true, 20, axis=0)
        total = int(pred.sum()) + int(true.sum())
        by_pixel.append(2 * int((pred & true).sum()) / total if total else 1.0)
        lines.append(f"{name},{encode_rle(pred)}\n")
    submission = tmp_path / "submission.csv"
    submission.write_text(HEADER + "".join(lines), encoding="utf-8")

    result = score_submission(submission, siim / "stage_2_train.csv")
    np.testing.assert_allclose(result.dice, by_pixel, rtol=0, atol=1e-12)
    assert result.score.dice == pytest.approx(np.mean(by_pixel), abs=1e-12)
    assert 0.01 < result.score.dice < 0.9  # the masks are neither all right nor all wrong


# faults


def test_an_invalid_submission_is_not_scored_and_lists_its_faults(score: Score) -> None:
    with pytest.raises(InvalidSubmissionError) as caught:
        score("x,-1\na,11 2\n", "a,-1\nb,-1\nc,-1\nd,-1\ne,-1\n")
    assert caught.value.exit_code == 1
    assert Counter(fault.kind for fault in caught.value.faults) == {"EXTRA": 1, "PAST_END": 1, "MISSING": 4}
    first, *rest = str(caught.value).split("\n")
    assert first.endswith("submission.csv is not a valid submission; faults: 6")
    assert rest == [
        "  line 2: EXTRA: x is not expected",
        "  line 3: PAST_END: run [11, 13) leaves a 3x4 mask of 12 pixels; "
        "is the shape (rows, columns) of the original image?",
        "  MISSING: b has no row",
        "  MISSING: c has no row",
        "  MISSING: d has no row",
        "  ... and 1 more MISSING",
    ]


# truths that are not perfect


def test_images_whose_truth_cannot_be_trusted_are_left_out_and_reported(score: Score) -> None:
    result = score("a,-1\nb,2 3\nc,-1\n", "a,-1\nb,11 2\nc,\n")
    assert result.ids == ("a",)
    assert [issue.kind for issue in result.unscored] == ["PAST_END", "EMPTY"]
    assert result.exit_code == 3


def test_a_truth_without_a_usable_row_is_an_error(score: Score) -> None:
    with pytest.raises(
        JobError, match="holds no image to score against; its first fault is on line 2: EMPTY"
    ):
        score("a,-1\n", "a,\n")


def test_a_truth_that_is_no_label_file_is_an_error(write: Write, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="cannot be read"):
        score_submission(write("submission", "a,-1\n"), tmp_path / "nowhere.csv")


def test_a_truth_of_absolute_starts_is_not_scored_against(score: Score) -> None:
    with pytest.raises(JobError, match="no mask in it is to be trusted"):
        score("a,-1\nb,-1\nc,-1\n", "a,2 3 8 2\nb,-1\nc,1 3 9 2\n")


# the table


@pytest.fixture(autouse=True)
def intervals_of_two_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Submissions are so small here that their scores would have no interval."""
    monkeypatch.setitem(cast("Any", PatientBootstrap.__init__).__kwdefaults__, "fewest", 2)


def printed(table: Table, width: int = 160) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def cells(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if start in line)
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_the_table_shows_each_number_beside_that_of_predicting_nothing(score: Score) -> None:
    text = printed(score_table(score("a,-1\nb,-1\nc,3 3\nd,-1\n", "a,-1\nb,-1\nc,3 3\nd,0 1\n")))
    found = cells(text, "the challenge's score")
    assert found[1::2] == ["0.7500", "0.5000"]  # 3 of 4 right; 2 of 4 empty
    exact = stats.binomtest(3, 4).proportion_ci(method="exact")
    assert found[2] == f"{exact.low:.4f} to 1.0000"  # resampling would begin at .25
    assert "resampled by image: give --groups" in text


def test_the_table_counts_images_that_were_not_scored(score: Score) -> None:
    assert "not scored" not in printed(score_table(score("a,-1\n", "a,-1\n")))
    assert "not scored" in printed(score_table(score("a,-1\n", "a,-1\nb,\n")))


# intervals and comparisons


# three of four images of two patients, by Clopper and Pearson: lower than the .5 of resampling q alone
EXACT = stats.beta.ppf(0.025, 1.5, 1.5)


def four_of_two_patients(write: Write) -> tuple[Path, Path]:
    groups = write("groups", "")
    groups.write_text("ImageId,PatientGroup\na,p\nb,p\nc,q\nd,q\n")
    return write("truth", "a,-1\nb,-1\nc,3 3\nd,0 1\n"), groups


def test_intervals_are_by_patient_where_patients_are_known(write: Write) -> None:
    truth, groups = four_of_two_patients(write)
    result = score_submission(write("s", "a,-1\nb,-1\nc,3 3\nd,-1\n"), truth, groups=groups, shape=SHAPE)
    assert result.images.groups == ("p", "p", "q", "q")
    dice = result.images.measure()["dice"]
    assert (dice.value, dice.high) == (0.75, 1.0)  # p alone is right
    assert dice.low == pytest.approx(EXACT)
    assert "resampled by patient" in printed(score_table(result))


def test_an_image_that_the_groups_do_not_know_is_a_patient_of_its_own(write: Write) -> None:
    truth, groups = four_of_two_patients(write)
    groups.write_text("ImageId,PatientGroup\na,p\nb,p\n")
    result = score_submission(write("s", "a,-1\nb,-1\nc,-1\nd,-1\n"), truth, groups=groups, shape=SHAPE)
    assert result.images.groups == ("p", "p", "image:c", "image:d")
    assert "resampled by patient where it is known" in " ".join(printed(score_table(result)).split())


@pytest.mark.parametrize("content", ["", "ImageId,PatientGroup\n", "ImageId,PatientGroup\nx,p\ny,p\n"])
def test_groups_that_are_empty_or_match_nothing_are_an_error(write: Write, content: str) -> None:
    truth, groups = four_of_two_patients(write)
    groups.write_text(content)
    with pytest.raises(JobError, match=r"holds no|none of 4 images"):
        score_submission(write("s", "a,-1\nb,-1\nc,-1\nd,-1\n"), truth, groups=groups, shape=SHAPE)


def test_unknown_patients_are_not_mentioned(score: Score) -> None:
    assert "patients" not in printed(score_table(score("a,-1\n", "a,-1\n"))).replace("for patients", "")


def test_several_submissions_are_compared_with_the_first_on_the_same_images(write: Write) -> None:
    truth, groups = four_of_two_patients(write)
    paths = [write("nothing", "a,-1\nb,-1\nc,-1\nd,-1\n"), write("better", "d,-1\nc,3 3\nb,-1\na,-1\n")]
    results = score_submissions(paths, truth, groups=groups, shape=SHAPE)
    text = printed(comparison_table(["nothing", "better"], results))
    assert cells(text, "predict nothing")[1] == "0.5000"
    assert cells(text, "│ nothing")[2:] == ["", ""]
    found = cells(text, "│ better")
    assert found[1] == f"0.7500, {EXACT:.4f} to 1.0000"
    assert found[2] == "+0.2500, 0.0000 to 0.5000"  # p alone: no difference; q alone: one of two
    assert found[3]


def test_numbers_are_whole_on_a_narrow_terminal(write: Write) -> None:
    truth, groups = four_of_two_patients(write)
    paths = [write("one", "a,-1\nb,-1\nc,-1\nd,-1\n"), write("two", "d,-1\nc,3 3\nb,-1\na,-1\n")]
    results = score_submissions(paths, truth, groups=groups, shape=SHAPE)
    assert isinstance(results[1], SubmissionScore)
    text = printed(comparison_table(["a/long/path/one.csv", "a/long/path/two.csv"], results), width=80)
    assert "+0.2500, 0.0000 to 0.5000" in text
    assert f"0.7500, {EXACT:.4f} to 1.0000" in text
    assert f"{EXACT:.4f} to 1.0000" in printed(score_table(results[1]), width=80)


def test_an_invalid_submission_of_several_keeps_no_other_from_its_score(write: Write) -> None:
    truth, _ = four_of_two_patients(write)
    paths = [
        write("bad", "a,-1\n"),
        write("good", "a,-1\nb,-1\nc,-1\nd,-1\n"),
        write("better", "a,-1\nb,-1\nc,3 3\nd,-1\n"),
    ]
    bad, good, better = results = score_submissions(paths, truth, shape=SHAPE)
    assert isinstance(bad, InvalidSubmissionError)
    assert str(bad).startswith(f"{paths[0]} is not a valid submission; faults: 3")
    assert isinstance(good, SubmissionScore)
    assert isinstance(better, SubmissionScore)
    assert (good.score.dice, better.score.dice) == (0.5, 0.75)
    text = printed(comparison_table(["bad", "good", "better"], results))
    assert cells(text, "│ bad")[1:] == ["invalid, faults: 3", "", ""]
    assert cells(text, "│ good")[2:] == ["", ""]
    assert cells(text, "│ better")[2].startswith("+0.2500, ")  # than the first that is valid


def test_all_submissions_may_be_invalid(write: Write) -> None:
    truth, _ = four_of_two_patients(write)
    results = score_submissions([write("one", "a,-1\n"), write("two", "")], truth, shape=SHAPE)
    assert printed(comparison_table(["one", "two"], results)).count("invalid") == 2


def test_every_fault_of_every_submission_can_be_written(write: Write, tmp_path: Path) -> None:
    truth, _ = four_of_two_patients(write)
    paths = [write("good", "a,-1\nb,-1\nc,-1\nd,-1\n"), write("bad", "a,-1\na,-1\n=x,-1\nc,11 2\n")]
    write_faults(tmp_path / "faults.csv", score_submissions(paths, truth, shape=SHAPE))
    with (tmp_path / "faults.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["submission"] for row in rows} == {str(paths[1])}
    assert [(row["line"], row["id"], row["kind"]) for row in rows] == [
        ("3", "a", "TWICE"),
        ("4", "'=x", "BAD_ID"),
        ("5", "c", "PAST_END"),
        ("", "b", "MISSING"),
        ("", "d", "MISSING"),
    ]
    assert rows[-1]["detail"] == "d has no row"


def test_1372_images_are_scored_with_intervals(write: Write) -> None:
    """As many as the public test of the challenge, each with a mask of a thousand runs on both sides."""
    random = np.random.default_rng(0)
    masks = [encode_rle(random.random((1024, 1024)) < 0.001) for _ in range(4)]
    rows = [f"i{number},{{}}\n" for number in range(1372)]
    truth = write("truth", "".join(row.format(masks[n % 4]) for n, row in enumerate(rows)))
    pred = write("pred", "".join(row.format(masks[n % 3]) for n, row in enumerate(rows)))
    result = score_submission(pred, truth)
    dice = result.images.measure()["dice"]
    assert (len(result.ids), dice.value) == (1372, result.score.dice)
    assert dice.low is not None
    assert 0 < dice.low < result.score.dice < 1
