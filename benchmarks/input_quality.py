"""Fit of the chest template, and rates of false warnings about the quality of images.

    python benchmarks/input_quality.py MANIFEST [--others FOLDER] [--phantoms 40] [--write]

Every case of a manifest is assumed to be an upright frontal radiograph. Copies of it are rotated, mirrored, inverted,
cropped and so on, and each is checked as in `read_radiograph`, with a template that was fitted to the other folds, so
that no patient is in both. Phantoms, and the files of `--others`, are checked with the project's own template, which is
fitted to all folds; `--write` writes that template into the project.
"""

import argparse
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression

from pneumoseg.pipeline.dataset.manifest import Case, image_path, read_manifest
from pneumoseg.pipeline.phantom.rendering import render_phantom
from pneumoseg.pipeline.reading.folders import find_radiographs
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.grey import GreyScale, Window
from pneumoseg.transforms.reader.quality import (
    LEAST_GAIN,
    TEMPLATE_FILE,
    Template,
    find_pose,
    lit_field,
    look_at,
    sample,
    shrink,
    standardized,
)
from pneumoseg.transforms.reader.radiograph import read_radiograph
from pneumoseg.transforms.reader.reasons import RadiographError, Reason
from pneumoseg.transforms.reader.record import Radiograph

Stored = NDArray[Any]
Copy = Callable[[Radiograph], Radiograph]
ALL_OPEN: Final = AcceptanceFilters(any_modality=True, any_view=True, any_body_part=True)
REASONS: Final = (
    *(Reason.LOOKS_TURNED, Reason.LOOKS_INVERTED, Reason.LOOKS_UNLIKE_CHEST, Reason.SMALL_FIELD),
    *(Reason.SATURATED, Reason.LOW_CONTRAST, Reason.NOISY, Reason.LOW_RESOLUTION),
)


def pixels(change: Callable[[Stored], Stored]) -> Copy:
    """Make a function that changes the pixels of a copy without spacing.

    Args:
        change: Function of the stored pixels.
    """
    return lambda radiograph: replace(radiograph, stored=change(radiograph.stored), spacing_mm=None)


def crop(top: float, bottom: float, left: float, right: float) -> Copy:
    """Make a function that crops to shares of the rows and of the columns.

    Args:
        top: First row as a share.
        bottom: Last row as a share.
        left: First column as a share.
        right: Last column as a share.
    """

    def cut(stored: Stored) -> Stored:
        rows, columns = stored.shape
        return stored[
            round(top * rows) : round(bottom * rows), round(left * columns) : round(right * columns)
        ]

    return pixels(cut)


def tilted(degrees: float) -> Copy:
    """Make a function that turns by less than a quarter, with black corners.

    Args:
        degrees: Angle, clockwise.
    """
    return pixels(
        lambda stored: np.asarray(Image.fromarray(stored).rotate(-degrees, Image.Resampling.BILINEAR))
    )


def on_black(stored: Stored) -> Stored:
    """Place an image on a black one of which it fills a third.

    Args:
        stored: Stored pixels, shape ``(rows, columns)``.
    """
    rows, columns = stored.shape
    canvas = np.zeros((round(1.73 * rows), round(1.73 * columns)), stored.dtype)
    canvas[:rows, :columns] = stored
    return canvas


def windowed(center: float, width: float) -> Copy:
    """Make a function that applies another window to 8-bit values.

    Args:
        center: Center of the window.
        width: Width of the window.
    """
    return lambda radiograph: replace(radiograph, grey=GreyScale(voi=Window(center, width)))


def noise(std: float) -> Copy:
    """Make a function that adds white noise to 8-bit values.

    Args:
        std: Standard deviation in grey levels.
    """

    def add(stored: Stored) -> Stored:
        values = stored + np.random.default_rng(0).normal(0, std, stored.shape)
        return values.clip(0, 255).astype(np.uint8)

    return pixels(add)


def scaled(side: int, change: Callable[[Stored], Stored]) -> Copy:
    """Make a function that scales to a square by means, and changes the pixels then.

    Args:
        side: Rows and columns of the square.
        change: Function of the stored pixels.
    """

    def scale(stored: Stored) -> Stored:
        small = Image.fromarray(stored).resize((side, side), Image.Resampling.BOX)
        return change(np.asarray(small))

    return pixels(scale)


ALTERED: Final[dict[str, Callable[[Stored], Stored]]] = {
    "": lambda stored: stored,
    ", turned by 90°": np.rot90,
    ", turned by 180°": lambda stored: np.rot90(stored, 2),
    ", flipped": lambda stored: stored[::-1],
    ", inverted": lambda stored: 255 - stored,
}


COPIES: Final[dict[str, Copy]] = {
    "as it is": lambda radiograph: radiograph,
    "mirrored": pixels(lambda stored: stored[:, ::-1]),
    "turned by 90°, clockwise": pixels(lambda stored: np.rot90(stored, -1)),
    "turned by 180°": pixels(lambda stored: np.rot90(stored, 2)),
    "turned by 90°, counterclockwise": pixels(np.rot90),
    **{f"tilted by {degrees}°": tilted(degrees) for degrees in (10, 20, 30, 45)},
    "flipped top to bottom": pixels(lambda stored: stored[::-1]),
    "inverted": pixels(lambda stored: 255 - stored),
    "inverted and turned by 180°": pixels(lambda stored: 255 - np.rot90(stored, 2)),
    "middle, 70 % of each side": crop(0.15, 0.85, 0.15, 0.85),
    "middle, 50 % of each side": crop(0.25, 0.75, 0.25, 0.75),
    "upper half": crop(0, 0.5, 0, 1),
    "lower half": crop(0.5, 1, 0, 1),
    "left half": crop(0, 1, 0, 0.5),
    "right half": crop(0, 1, 0.5, 1),
    "upper left quarter": crop(0, 0.5, 0, 0.5),
    "lower right quarter": crop(0.5, 1, 0.5, 1),
    "a third of the image, rest black": pixels(on_black),
    "window too bright": windowed(64, 128),
    "window too dark": windowed(192, 128),
    "window too narrow": windowed(128, 64),
    "blank": pixels(lambda stored: np.full_like(stored, 128)),
    "noise of 10 of 255 grey levels": noise(10),
    "noise of 20 of 255 grey levels": noise(20),
    "thumbnail of 128 px": pixels(lambda stored: stored[::8, ::8]),
    **{
        f"{side} px a side{what}": scaled(side, change)
        for side in (64, 32, 16)
        for what, change in ALTERED.items()
    },
}


@dataclass(frozen=True)
class Look:
    """What was measured of all copies of one case, with the template of the other folds."""

    reasons: dict[str, frozenset[Reason]]
    mirror: float
    """How much more like the unmirrored chests of other patients it is than its mirror image."""


def main() -> None:
    """Fit, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path, help="of frontal chest radiographs with 8 bits")
    parser.add_argument("--others", type=Path, help="a folder of other files, to see what is said of them")
    parser.add_argument("--phantoms", type=int, default=40, help="how many to draw and look at")
    parser.add_argument("--write", action="store_true", help=f"write {TEMPLATE_FILE.name}")
    words = parser.parse_args()
    manifest = read_manifest(words.manifest)
    paths = [image_path(words.manifest, case) for case in manifest.training]
    radiographs = [read_radiograph(path) for path in paths]
    smalls = np.stack([standardized(shrink(lit_field(sample(each)))) for each in radiographs])
    template = fit_template(smalls)
    if words.write:
        lines = [",".join(f"{number:.3f}" for number in row) for row in template]
        TEMPLATE_FILE.write_text("\n".join(lines) + "\n", encoding="ascii")
    print_rates(look_held_out(manifest.training, radiographs, smalls))
    with_borders = np.stack([standardized(shrink(sample(each))) for each in radiographs])
    folds = np.array([case.fold for case in manifest.training])
    print("\nof the radiographs as they are, another pose than upright has the highest likeness in")
    print(f"{count_wrong(smalls, folds, fit_template)} with the template,")
    print(f"{count_wrong(with_borders, folds, fit_template)} with one for pictures with their borders,")
    print(f"{count_wrong(smalls, folds, mean_image)} with the mean image in its place")
    print_cost(paths)
    if words.phantoms:
        print(f"\n{words.phantoms} phantoms: {counted(map(phantom, range(words.phantoms)))}")
    if words.others:
        print("\nother files, of any modality, view and body part")
        for path in find_radiographs(words.others).images:
            print(f"{path.name}: {verdict(path)}")


def fit_template(smalls: NDArray[np.float64]) -> Template:
    """Find the template that prefers each radiograph upright to itself in each of the seven other poses.

    A logistic regression of differences without an intercept: which of two poses is upright.

    Args:
        smalls: Upright radiographs, standardized, shape ``(n, 16, 16)``.
    """
    differences = []
    for upright in (smalls, smalls[:, :, ::-1]):
        turned = [np.rot90(upright, turns, axes=(1, 2)) for turns in (1, 2, 3)]
        others = [*turned, -upright, *(-each for each in turned)]
        differences += [(upright - other).reshape(len(smalls), -1) for other in others]
    preferred = np.concatenate(differences)
    both_ways = np.concatenate([preferred, -preferred])
    is_preferred = np.repeat([1, 0], len(preferred))
    fitted = LogisticRegression(fit_intercept=False, max_iter=1000).fit(both_ways, is_preferred)
    return standardized(fitted.coef_.reshape(smalls.shape[1:]))


def fit_mirror_template(smalls: NDArray[np.float64]) -> Template:
    """Fit the template that prefers each radiograph to its mirror image.

    Args:
        smalls: Standardised means of each radiograph, each of shape ``(16, 16)``.
    """
    preferred = (smalls - smalls[:, :, ::-1]).reshape(len(smalls), -1)
    both_ways = np.concatenate([preferred, -preferred])
    is_preferred = np.repeat([1, 0], len(preferred))
    fitted = LogisticRegression(C=0.1, fit_intercept=False, max_iter=1000).fit(both_ways, is_preferred)
    return standardized(fitted.coef_.reshape(smalls.shape[1:]))


def mean_image(smalls: NDArray[np.float64]) -> Template:
    """Average the radiographs and their mirror images.

    Args:
        smalls: Standardised means of each radiograph, each of shape ``(16, 16)``.
    """
    mean = smalls.mean(axis=0)
    return standardized(mean + mean[:, ::-1])


def count_wrong(
    smalls: NDArray[np.float64],
    folds: NDArray[np.int_],
    fit: Callable[[NDArray[np.float64]], Template],
) -> int:
    """Count upright radiographs that are more similar in another pose to a template of other patients.

    Args:
        smalls: Standardised means of each radiograph, each of shape ``(16, 16)``.
        folds: Fold of each radiograph.
        fit: Function that fits a template.
    """
    return sum(
        find_pose(small.astype(np.float32), template=template).gain > 0
        for fold in sorted(set(folds))
        for template in [fit(smalls[folds != fold])]
        for small in smalls[folds == fold]
    )


def look_held_out(
    cases: Iterable[Case], radiographs: list[Radiograph], smalls: NDArray[np.float64]
) -> list[Look]:
    """Check all copies of each case with templates of other patients.

    Args:
        cases: Cases of the manifest.
        radiographs: Radiograph of each case.
        smalls: Standardised means of each radiograph, each of shape ``(16, 16)``.
    """
    folds = np.array([case.fold for case in cases])
    template_of = {fold: fit_template(smalls[folds != fold]) for fold in set(folds)}
    mirror_of = {fold: fit_mirror_template(smalls[folds != fold]) for fold in set(folds)}

    def look(number: int) -> Look:
        template = template_of[folds[number]]
        reasons = {
            name: frozenset(reason for reason, _ in look_at(copy(radiographs[number]), template=template))
            for name, copy in COPIES.items()
        }
        small = smalls[number]
        return Look(reasons, float(((small - small[:, ::-1]) * mirror_of[folds[number]]).sum()))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(look, range(len(radiographs))))


def print_rates(looks: list[Look]) -> None:
    """Print the table of rates in percent of the cases.

    Args:
        looks: Results of each case.
    """
    print(f"{len(looks)} radiographs, each seen with a template of other patients; percent warned\n")
    print("| copy | any | " + " | ".join(f"`{reason}`" for reason in REASONS) + " |")
    print("| --- " * (len(REASONS) + 2) + "|")
    for name in COPIES:
        found = [look.reasons[name] for look in looks]
        rates = [np.mean([reason in each for each in found]) for reason in REASONS]
        print(
            f"| {name} | "
            + " | ".join(f"{rate:.1%}"[:-1] for rate in (np.mean(list(map(bool, found))), *rates))
            + " |"
        )
    mirror = np.array([look.mirror for look in looks])
    limit = np.quantile(mirror, 0.005)
    print(f"\nmirrored or not, by a template of its own: {np.mean(mirror > 0):.1%} right;")
    print(f"with 0.5 % false warnings {np.mean(-mirror < limit):.1%} of the mirrored are found")


def print_cost(paths: list[Path]) -> None:
    """Print the time of the checks relative to reading.

    Args:
        paths: Paths of radiographs.
    """
    reading, looking = [], []
    for path in paths[:200]:
        started = time.perf_counter()
        radiograph = read_radiograph(path)
        read = time.perf_counter()
        look_at(radiograph)
        looking.append(time.perf_counter() - read)
        reading.append(read - started)
    milliseconds = 1000 * statistics.median(looking)
    share = statistics.median(looking) / statistics.median(reading)
    print(f"\nlooking takes {milliseconds:.2f} ms, {share:.1%} of reading, which includes it")


def phantom(number: int) -> str:
    """What is said of a phantom."""
    drawn = (255 * render_phantom((0, number), size=512).image).round().astype(np.uint8)
    return said(Radiograph(stored=drawn, grey=GreyScale()))


def verdict(path: Path) -> str:
    """What is said of a file."""
    try:
        radiograph = read_radiograph(path, acceptance=ALL_OPEN)
    except RadiographError as error:
        return str(error)
    pose = find_pose(lit_field(sample(radiograph)))
    upright = "upright" if pose.gain < LEAST_GAIN else "not upright"
    return f"{said(radiograph)} (likeness {pose.likeness:.2f}, {upright})"


def said(radiograph: Radiograph) -> str:
    """The reasons of what a picture looks like."""
    return " ".join(reason for reason, _ in look_at(radiograph)) or "nothing"


def counted(verdicts: Iterable[str]) -> str:
    """How often each verdict was given."""
    return ", ".join(f"{verdict} {count}" for verdict, count in Counter(verdicts).most_common())


if __name__ == "__main__":
    main()
