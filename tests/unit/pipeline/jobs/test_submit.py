import csv
import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import bright_pixel_network, draw_case, job_options, write_model, write_radiograph

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.jobs.score import score_submission
from pneumoseg.pipeline.jobs.submit import SubmitReport, write_submission
from pneumoseg.pipeline.model.card import save_description
from pneumoseg.pipeline.model.description import TunedPoint, read_description
from pneumoseg.transforms.labels.rle import decode_rle, encode_rle

SIDE = 1024


def challenge_case(number: int, *, positive: bool) -> tuple[Any, Any]:
    """A made-up case enlarged to the size that the challenge's run lengths are counted over."""
    rows, columns = np.arange(SIDE) * 48 // SIDE, np.arange(SIDE) * 32 // SIDE
    pixels, mask = draw_case(number, positive=positive)
    return pixels[rows][:, columns], mask[rows][:, columns]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two radiographs with a pneumothorax and one without."""
    folder = tmp_path_factory.mktemp("images")
    for number, positive in ((0, True), (3, True), (6, False)):
        pixels = challenge_case(number, positive=positive)[0]
        write_radiograph(folder / f"case{number}.dcm", pixels, SOPInstanceUID=f"1.2.3.{number}")
    return folder


def sample(folder: Path, *names: str) -> Path:
    path = folder / "sample_submission.csv"
    path.write_text("ImageId,EncodedPixels\n" + "".join(f"{name},-1\n" for name in names))
    return path


def submit(
    model: Path, images: Path, folder: Path, **options: Any
) -> tuple[SubmitReport, list[dict[str, str]]]:
    report = write_submission(model, images, folder / "submission.csv", **job_options(**options))
    with (folder / "submission.csv").open(newline="") as file:
        return report, list(csv.DictReader(file))


def test_a_row_decodes_to_the_mask_that_the_model_drew(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    _, rows = submit(model_folder, images, tmp_path)
    assert [row["ImageId"] for row in rows] == ["case0", "case3", "case6"]
    drawn = decode_rle(rows[1]["EncodedPixels"], (SIDE, SIDE))
    expected = challenge_case(3, positive=True)[1]
    assert (drawn & expected).sum() / (drawn | expected).sum() > 0.7
    assert rows[2]["EncodedPixels"] == "-1"


def test_the_order_is_that_of_the_sample_and_other_images_are_left_out(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    report, rows = submit(model_folder, images, tmp_path, sample=sample(tmp_path, "case6", "case0"))
    assert [row["ImageId"] for row in rows] == ["case6", "case0"]
    assert (report.images, report.predicted_positive, report.left_out, report.exit_code) == (2, 1, 1, 0)


def test_the_score_command_takes_it(model_folder: Path, images: Path, tmp_path: Path) -> None:
    submit(model_folder, images, tmp_path)
    masks = {number: challenge_case(number, positive=number < 6)[1] for number in (0, 3, 6)}
    truth = "".join(f"case{number},{encode_rle(mask)}\n" for number, mask in masks.items())
    (tmp_path / "truth.csv").write_text("ImageId,EncodedPixels\n" + truth)
    assert score_submission(tmp_path / "submission.csv", tmp_path / "truth.csv").score.dice > 0.8


def test_an_id_without_an_image_is_an_error_and_nothing_is_written(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(JobError, match=r"1 of 2 images .* the first is nowhere"):
        submit(model_folder, images, tmp_path, sample=sample(tmp_path, "case0", "nowhere"))
    assert not (tmp_path / "submission.csv").exists()


def test_an_image_of_the_sample_that_cannot_be_read_is_an_error_and_nothing_is_written(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(images, tmp_path / "images"))
    (folder / "case0.dcm").write_bytes(b"broken")
    with pytest.raises(JobError, match=r"case0\.dcm: NOT_DICOM"):
        submit(model_folder, folder, tmp_path, sample=sample(tmp_path, "case0", "case3"))
    assert not (tmp_path / "submission.csv").exists()


@pytest.mark.parametrize("ids", [("case6.dcm", "case0.dcm"), ("1.2.3.6", "1.2.3.0"), ("case6", "case0.dcm")])
def test_ids_may_be_names_with_suffix_or_uids_and_rows_keep_them(
    model_folder: Path, images: Path, tmp_path: Path, ids: tuple[str, ...]
) -> None:
    report, rows = submit(model_folder, images, tmp_path, sample=sample(tmp_path, *ids))
    assert [row["ImageId"] for row in rows] == list(ids)
    assert (rows[0]["EncodedPixels"], report.predicted_positive, report.left_out) == ("-1", 1, 1)


def test_a_file_that_is_called_by_its_uid_alone_keeps_all_of_it_as_its_id(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    for number in (0, 3):
        shutil.copy(images / f"case{number}.dcm", tmp_path / "images" / f"1.2.3.{number}")
    _, rows = submit(model_folder, tmp_path / "images", tmp_path)
    assert [row["ImageId"] for row in rows] == ["1.2.3.0", "1.2.3.3"]


def test_two_ids_of_one_image_are_an_error(model_folder: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"the ids case0 and case0\.dcm are both that of"):
        submit(model_folder, images, tmp_path, sample=sample(tmp_path, "case0", "case0.dcm"))


def test_a_missing_and_a_damaged_image_may_be_negative_but_are_reported(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(images, tmp_path / "images"))
    (folder / "case0.dcm").write_bytes(b"broken")
    ids = sample(tmp_path, "nowhere", "case0", "case3")
    report, rows = submit(model_folder, folder, tmp_path, sample=ids, missing="negative")
    assert [row["ImageId"] for row in rows] == ["nowhere", "case0", "case3"]
    assert [row["EncodedPixels"] == "-1" for row in rows] == [True, True, False]
    assert (report.filled, report.exit_code) == (("nowhere", "case0"), 3)


def test_a_sample_without_rows_is_named(model_folder: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"sample_submission\.csv lists no image"):
        submit(model_folder, images, tmp_path, sample=sample(tmp_path))


def test_a_folder_without_any_image_of_the_sample_is_questioned(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(JobError, match=r"1 of 1 images .* is it the right folder\?$"):
        submit(model_folder, images, tmp_path, sample=sample(tmp_path, "nowhere"))
    with pytest.raises(JobError, match=r"1 of 2 images .* give --missing negative$"):
        submit(model_folder, images, tmp_path, sample=sample(tmp_path, "nowhere", "case0"))


def test_a_submission_of_missing_images_alone_is_an_error(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(JobError, match="none of the 1 images"):
        submit(model_folder, images, tmp_path, sample=sample(tmp_path, "nowhere"), missing="negative")
    assert not (tmp_path / "submission.csv").exists()


def test_an_image_that_cannot_be_read_is_no_harm_where_the_sample_does_not_ask_for_it(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(images, tmp_path / "images"))
    (folder / "case0.dcm").write_bytes(b"broken")
    report, rows = submit(model_folder, folder, tmp_path, sample=sample(tmp_path, "case3"))
    assert (len(rows), report.exit_code) == (1, 0)


def test_without_a_sample_a_refused_file_has_no_row_and_is_reported(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(images, tmp_path / "images"))
    (folder / "case0.dcm").write_bytes(b"broken")
    report, rows = submit(model_folder, folder, tmp_path)
    assert [row["ImageId"] for row in rows] == ["case3", "case6"]
    assert ([item.path.name for item in report.refused], report.exit_code) == (["case0.dcm"], 3)


def test_without_a_sample_a_lateral_view_is_skipped_which_is_no_failure(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(images, tmp_path / "images"))
    write_radiograph(
        folder / "lateral.dcm",
        challenge_case(0, positive=False)[0],
        ViewPosition="LL",
        SOPInstanceUID="1.2.9",
    )
    report, rows = submit(model_folder, folder, tmp_path)
    assert (len(rows), report.exit_code) == (3, 0)


def test_two_files_of_one_name_are_an_error(model_folder: Path, images: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(images, tmp_path / "images"))
    shutil.copytree(images, folder / "again")
    with pytest.raises(JobError, match="have the same name"):
        submit(model_folder, folder, tmp_path)


def test_an_image_that_is_not_of_the_challenges_size_is_an_error(model_folder: Path, tmp_path: Path) -> None:
    write_radiograph(tmp_path / "images" / "small.dcm", draw_case(0, positive=True)[0])
    with pytest.raises(JobError, match="1024"):
        submit(model_folder, tmp_path / "images", tmp_path)
    assert not (tmp_path / "submission.csv").exists()


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_bytes(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    texts = set()
    for workers in (0, 1, 2):
        submit(model_folder, images, tmp_path, workers=workers, overwrite=True)
        texts.add((tmp_path / "submission.csv").read_bytes())
    assert len(texts) == 1


def test_a_name_that_would_act_in_a_submission_is_an_error(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(images, tmp_path / "images"))
    (folder / "case3.dcm").rename(folder / "=case3.dcm")
    with pytest.raises(JobError, match="rename it or give --sample"):
        submit(model_folder, folder, tmp_path)
    assert not (tmp_path / "submission.csv").exists()
    report, _ = submit(model_folder, folder, tmp_path, sample=sample(tmp_path, "case0"))
    assert report.images == 1


def test_a_damaged_file_of_any_name_is_no_harm(model_folder: Path, images: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(images, tmp_path / "images"))
    (folder / "broken ' =1.dcm").write_bytes(b"\0\5\x16\7")
    report, rows = submit(model_folder, folder, tmp_path)
    assert (len(rows), len(report.refused)) == (3, 1)


def test_an_earlier_submission_is_not_written_over(model_folder: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "submission.csv").write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        submit(model_folder, images, tmp_path)
    assert (tmp_path / "submission.csv").read_text() == "mine"


# the decision and what it comes to


def validated(folder: Path, *, called: int, images: int) -> Path:
    """A model that called so many of so many images positive when it was validated."""
    model = write_model(folder, bright_pixel_network())
    scores: dict[str, float | int | None] = {"predicted_positive": called, "images": images}
    save_description(model, read_description(model).model_copy(update={"validation": scores}))
    return model


@pytest.mark.parametrize(
    ("called", "surprising"),
    [(600, False), (100, False), (10, True), (0, True)],  # the chances, by Fisher: 1, 0.03, 0.0004, 0.000006
)
def test_a_rate_that_is_far_from_the_validations_is_remarked_upon(
    images: Path, tmp_path: Path, called: int, surprising: bool
) -> None:
    report, _ = submit(validated(tmp_path / "model", called=called, images=1000), images, tmp_path)
    assert (report.images, report.predicted_positive) == (3, 2)
    assert report.validation_rate == called / 1000
    assert report.surprising == surprising


def test_without_a_rate_of_the_validation_nothing_is_remarked_upon(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    report, _ = submit(model_folder, images, tmp_path)
    assert (report.validation_rate, report.surprising) == (None, False)


def test_the_whole_operating_point_draws_the_masks(images: Path, tmp_path: Path) -> None:
    point = TunedPoint(threshold=0.5, min_area_fraction=0.0, segmentation_threshold=0.0)
    _, rows = submit(write_model(tmp_path / "model", bright_pixel_network(), point=point), images, tmp_path)
    assert rows[0]["EncodedPixels"] == f"0 {SIDE * SIDE}"
    assert rows[2]["EncodedPixels"] == "-1"


def test_another_aim_has_to_be_known_to_the_model(model_folder: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--operating-point screening"):
        submit(model_folder, images, tmp_path, operating_point="screening")
    assert not (tmp_path / "submission.csv").exists()


def test_augmentations_give_a_valid_submission_too(model_folder: Path, images: Path, tmp_path: Path) -> None:
    report, rows = submit(model_folder, images, tmp_path, tta=("flip", "scale"))
    assert (report.predicted_positive, rows[2]["EncodedPixels"]) == (2, "-1")


def test_images_that_the_model_was_trained_on_are_counted(images: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(next(images.rglob("case3.*")).read_bytes()).hexdigest()
    model = write_model(tmp_path / "model", bright_pixel_network(), image_digests=(digest[:16],))
    assert submit(model, images, tmp_path)[0].trained_on == 1
    other = write_model(tmp_path / "other", bright_pixel_network())
    assert submit(other, images, tmp_path, overwrite=True)[0].trained_on == 0


@pytest.mark.parametrize("cell", ["-1", "", "0 5"])
def test_ids_that_the_sample_lists_twice_have_one_row_and_are_reported(
    model_folder: Path, images: Path, tmp_path: Path, cell: str
) -> None:
    path = tmp_path / "sample.csv"
    path.write_text("ImageId,EncodedPixels\n" + "".join(f"case{number},{cell}\n" for number in (6, 0, 6)))
    report, rows = submit(model_folder, images, tmp_path, sample=path)
    assert [row["ImageId"] for row in rows] == ["case6", "case0"]
    assert report.repeated == ("case6: lines 2, 4",)


def test_images_to_review_are_counted_and_have_a_row_like_all_others(
    model_folder: Path, tmp_path: Path
) -> None:
    blank = np.full((SIDE, SIDE), 100, dtype=np.uint8)
    write_radiograph(tmp_path / "images" / "blank.dcm", blank, PixelSpacing=[0.2, 0.2])
    report, rows = submit(model_folder, tmp_path / "images", tmp_path)
    assert (report.images, report.review, report.exit_code) == (1, 1, 0)
    assert [row["EncodedPixels"] for row in rows] == ["-1"]


@pytest.mark.parametrize(("bias", "head"), [(float("nan"), 1.0), (3e38, 3e38)], ids=["NaN", "overflow"])
def test_a_network_without_finite_outputs_is_an_error_and_nothing_is_written(
    images: Path, tmp_path: Path, bias: float, head: float
) -> None:
    network = bright_pixel_network()
    with torch.no_grad():
        dict(network.named_parameters())["decoder1.conv2.bias"].fill_(bias)
        dict(network.named_parameters())["head.weight"].fill_(head)
    with pytest.raises(JobError, match="non-finite"):
        submit(write_model(tmp_path / "model", network), images, tmp_path)
    assert not (tmp_path / "submission.csv").exists()


def test_of_two_files_with_one_uid_the_later_one_has_no_row(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    write_radiograph(folder / "zz.dcm", challenge_case(3, positive=True)[0], SOPInstanceUID="1.2.3.0")
    report, rows = submit(model_folder, folder, tmp_path)
    assert [row["ImageId"] for row in rows] == ["case0", "case3", "case6"]
    assert ([item.path.name for item in report.refused], report.exit_code) == (["zz.dcm"], 3)
    shutil.copy(folder / "case0.dcm", folder / "zz.dcm")
    report, _ = submit(model_folder, folder, tmp_path, overwrite=True)
    assert (len(report.refused), report.exit_code) == (1, 0)
    with pytest.raises(JobError, match="DUPLICATE_UID"):
        submit(model_folder, folder, tmp_path, overwrite=True, sample=sample(tmp_path, "zz", "case0"))
    submit(model_folder, folder, tmp_path, overwrite=True, sample=sample(tmp_path, "zz", "case3"))


def test_links_to_images_are_counted_or_followed(model_folder: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    shutil.copy(images / "case0.dcm", tmp_path / "images")
    (tmp_path / "images" / "case3.dcm").symlink_to(images / "case3.dcm")
    report, rows = submit(model_folder, tmp_path / "images", tmp_path)
    assert (report.links, len(rows)) == (1, 1)
    report, rows = submit(model_folder, tmp_path / "images", tmp_path, overwrite=True, follow_links=True)
    assert (report.links, len(rows)) == (0, 2)
