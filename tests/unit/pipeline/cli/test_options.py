from pathlib import Path

import pytest

from pneumoseg.pipeline.cli.options import check_fold, model_and_images, parse_shape
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.model import catalogue


@pytest.mark.parametrize("fold", [None, "all", "0", "12"])
def test_a_fold_is_a_number_or_all_of_them(fold: str | None) -> None:
    check_fold(fold)


@pytest.mark.parametrize("fold", ["first", "-1", "1.5", ""])
def test_another_text_is_no_fold(fold: str) -> None:
    with pytest.raises(UsageError, match=f"--fold {fold}: a number or `all` would fit"):
        check_fold(fold)


@pytest.mark.parametrize("text", ["256,128", "256, 128", "256x128", " 256 128 "])
def test_a_shape_is_rows_and_columns(text: str) -> None:
    assert parse_shape(text) == (256, 128)


@pytest.mark.parametrize("text", ["256", "0,5", "-1,5", "256,128,1", "a,b", "", "9999999,1", "1.5,2"])
def test_another_text_is_no_shape(text: str) -> None:
    with pytest.raises(UsageError, match=r"--label-shape .*: rows and columns in pixels, such as 1024,1024"):
        parse_shape(text)


def test_the_model_may_be_left_out_if_one_comes_with_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalogue, "available_models", lambda: {"reference": Path("there")})
    assert model_and_images([Path("model"), Path("images")]) == (Path("model"), Path("images"))
    assert capsys.readouterr().out == ""
    assert model_and_images([Path("images")]) == (Path("there"), Path("images"))
    assert "using the model `reference`" in capsys.readouterr().out


def test_images_without_a_model_are_refused_if_none_comes_with_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalogue, "available_models", dict)
    with pytest.raises(UsageError, match="name a model folder before the images"):
        model_and_images([Path("images")])


def test_a_model_without_images_is_refused(model_folder: Path) -> None:
    with pytest.raises(UsageError, match="name the folder of images after it"):
        model_and_images([model_folder])
