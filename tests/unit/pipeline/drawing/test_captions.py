import numpy as np
import pytest

from pneumoseg.pipeline.drawing.captions import with_caption

LINES = [
    "No pneumothorax was found (probability 0.25).",
    "pneumoseg 0.1.0. Research software, not for diagnosis.",
]


def strip_of(rows: int, columns: int) -> np.ndarray:
    picture = np.full((rows, columns, 3), 7, dtype=np.uint8)
    return with_caption(picture, LINES)[rows:]


@pytest.mark.parametrize("shape", [(128, 128), (512, 400), (4000, 3000), (300, 4000), (4000, 300)])
def test_the_picture_is_unaltered_and_the_strip_is_below(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    whole = with_caption(picture, LINES)
    np.testing.assert_array_equal(whole[: shape[0]], picture)
    assert whole.shape[0] > shape[0]
    assert whole.shape[1:] == picture.shape[1:]


@pytest.mark.parametrize("shape", [(128, 128), (512, 400), (4000, 3000), (300, 4000), (4000, 300)])
def test_text_reaches_no_edge_of_the_strip(shape: tuple[int, int]) -> None:
    strip = strip_of(*shape)
    assert strip.max() > 200
    for edge in (strip[0], strip[-1], strip[:, 0], strip[:, -1]):
        assert edge.max() == 0


def test_letters_are_as_large_in_a_window_whatever_the_size_of_the_image() -> None:
    small, large = (strip_of(side, side).shape[0] / side for side in (1000, 4000))
    assert abs(small - large) < 0.02


def test_no_word_is_lost_where_lines_are_wrapped() -> None:
    """A strip of one long line has as many white pixels as its wrapped parts."""
    wide, narrow = (strip_of(128, columns).astype(np.int64).sum() for columns in (250, 128))
    assert narrow == pytest.approx(wide, rel=0.02)
