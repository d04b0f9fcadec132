import itertools

import numpy as np
import pytest
import torch

from pneumoseg.transforms.reader.record import Orientation, read_directions

UPRIGHT = np.array([[1, 2, 3], [4, 5, 6]])
STORED = {  # by hand: the first letters say where the rows lead to, the second where the columns lead to
    ("L", "F"): [[1, 2, 3], [4, 5, 6]],
    ("R", "F"): [[3, 2, 1], [6, 5, 4]],
    ("L", "H"): [[4, 5, 6], [1, 2, 3]],
    ("R", "H"): [[6, 5, 4], [3, 2, 1]],
    ("F", "L"): [[1, 4], [2, 5], [3, 6]],
    ("F", "R"): [[3, 6], [2, 5], [1, 4]],
    ("H", "L"): [[4, 1], [5, 2], [6, 3]],
    ("H", "R"): [[6, 3], [5, 2], [4, 1]],
}


def test_the_orientation_is_two_directions_or_none() -> None:
    table: list[tuple[str, tuple[str, str] | None]] = [
        ("L\\F", ("L", "F")),
        ("r \\ f", ("R", "F")),
        ("LF\\FAR", ("LF", "FAR")),
        ("A\\F", ("A", "F")),
        ("", None),
        ("L", None),
        ("L\\F\\P", None),
        ("LR\\F", None),
        ("LEFT\\F", None),
        ("L\\", None),
        ("L\\R", None),
        ("F\\H", None),
        ("LF\\RF", None),
    ]
    for text, directions in table:
        assert read_directions(text) == directions


@pytest.mark.parametrize(("directions", "stored"), STORED.items())
def test_stored_pixels_become_upright_and_return(
    directions: tuple[str, str], stored: list[list[int]]
) -> None:
    orientation = Orientation.of(directions)
    np.testing.assert_array_equal(orientation.apply(np.array(stored)), UPRIGHT)
    np.testing.assert_array_equal(orientation.invert(UPRIGHT), stored)
    assert orientation.swap(np.shape(stored)) == UPRIGHT.shape
    tensor = torch.tensor([stored])  # with a channel
    assert torch.equal(orientation.apply(tensor), torch.from_numpy(UPRIGHT)[None])
    assert torch.equal(orientation.invert(orientation.apply(tensor)), tensor)


def test_only_the_first_letters_count() -> None:
    assert Orientation.of(("LF", "FR")) == Orientation()
    assert Orientation.of(("HL", "RA")) == Orientation.of(("H", "R"))


def test_a_lateral_or_unknown_orientation_changes_nothing() -> None:
    laterals = itertools.product("AP", "HF")
    for directions in [None, ("L", "P"), ("L", "R"), *laterals]:
        assert Orientation.of(directions) == Orientation()
    assert Orientation().apply(UPRIGHT) is UPRIGHT
