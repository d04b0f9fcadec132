"""What OHIF shows of the results of two phantoms, fetched from a real archive."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.integration.archive import Archive
from tests.integration.phantom_results import Study
from tests.integration.viewer import Colours, running_browser, served

pytestmark = [pytest.mark.slow, pytest.mark.browser]

# of a picture of 1400 x 1000: below the messages of the viewer
VIEWPORT = (
    slice(160, 950),
    slice(300, 1340),
)
MIN_BRIGHT = 0.2  # share of the viewport that a radiograph fills; a black viewport has 0
MIN_COLOURED_PX = 100


@pytest.fixture(scope="module")
def show(
    archive: Archive, studies: dict[str, Study], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., list[str]]]:
    """Open a page of the viewer, over an archive with both studies, and keep a picture of it."""
    with served(archive) as address, running_browser(tmp_path_factory.mktemp("profile")) as browser:
        for study in studies.values():
            archive.post(*study.files)

        def show(page: str, picture: Path, is_done: Callable[[Colours], bool]) -> list[str]:
            return browser.open(f"{address}/{page}", picture, is_done=is_done)

        yield show


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for the pictures; pytest prints where it is with ``--basetemp``."""
    return tmp_path_factory.mktemp("pictures")


def shows_an_image(colours: Colours) -> bool:
    return bool((colours[VIEWPORT].max(axis=2) > 40).mean() > MIN_BRIGHT)


def shows_a_mark(colours: Colours) -> bool:
    """A radiograph is grey and the viewer is blue, so that red and green without blue are those of a result."""
    red, green, blue = np.moveaxis(colours[VIEWPORT].astype(np.int16), 2, 0)
    return bool((np.maximum(red, green) - blue > 60).sum() > MIN_COLOURED_PX)


@pytest.mark.parametrize("kind", ["seg", "sr", "sc"])
@pytest.mark.parametrize("name", ["positive", "negative"])
def test_the_image_is_shown_with_its_result(
    show: Callable[..., list[str]], studies: dict[str, Study], pictures: Path, name: str, kind: str
) -> None:
    study, picture = studies[name], pictures / f"{name}-{kind}.png"
    series = study.header(kind).SeriesInstanceUID

    def is_done(colours: Colours) -> bool:
        is_marked = name == "positive" or kind == "sr"  # a negative report has its text over the image
        return shows_an_image(colours) and (shows_a_mark(colours) or not is_marked)

    errors = show(
        f"viewer?StudyInstanceUIDs={study.uid}&initialSeriesInstanceUID={series}",
        picture,
        is_done=is_done,
    )
    assert errors == []
    with Image.open(picture) as opened:
        assert is_done(np.asarray(opened.convert("RGB")))
