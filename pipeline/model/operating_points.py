"""Selection of an operating point of a model by its name, with its scores in validation."""

from dataclasses import dataclass

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.model.description import CurvePoint, ModelDescription
from pneumoseg.transforms.masks import OperatingPoint

_MOST_SENSITIVE = "screening"


@dataclass(frozen=True)
class SelectedPoint:
    """Operating point, and its scores on the cases of the search.

    Attributes:
        point: Operating point.
        sensitivity: Share of the positives that are predicted positive; None if it is unknown.
        specificity: Share of the negatives that are predicted negative; None if it is unknown.
    """

    point: OperatingPoint
    sensitivity: float | None
    specificity: float | None


def select_point(description: ModelDescription, name: str | None) -> SelectedPoint:
    """Select an operating point of a model.

    Args:
        description: Description of the model.
        name: Name of the operating point; None selects the model's own. Training searches ``challenge``,
            ``specificity`` and ``screening``. ``specificity=0.9`` selects the point of the search with the highest
            sensitivity at no less than this specificity; ``sensitivity=0.9`` selects the highest specificity at no less
            than this sensitivity.

    Raises: UsageError: If the model has no such point.
    """
    if name is None:
        scores = description.validation
        point = description.operating_point.as_point()
        return SelectedPoint(point, scores.get("sensitivity"), scores.get("specificity"))
    search = description.operating_point_search
    if search is None:
        raise UsageError(
            f"--operating-point {name}: the model has one operating point, and no search to choose others from"
        )
    if name in search.objectives:
        found = search.objectives[name]
        return SelectedPoint(found.point.as_point(), found.sensitivity, found.specificity)
    held, _, least = name.partition("=")
    try:
        if held not in {"sensitivity", "specificity"} or not 0 <= float(least) <= 1:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--operating-point {name}: {', '.join(search.objectives)}, specificity=0.9 or sensitivity=0.9 would fit"
        ) from None
    other = "specificity" if held == "sensitivity" else "sensitivity"
    rows: list[CurvePoint] = [
        row
        for row in search.frontier or search.curve
        if (value := getattr(row, held)) is not None and value >= float(least)
    ]
    if not rows:
        raise UsageError(f"--operating-point {name}: the search of this model found no such point")
    best = max(rows, key=lambda row: (getattr(row, other) or 0, row.dice))
    segmentation = description.operating_point.segmentation_threshold
    point = OperatingPoint(
        threshold=best.threshold,
        min_area_fraction=best.min_area_fraction,
        image_threshold=best.image_threshold,
        segmentation_threshold=None if segmentation is None else min(segmentation, best.threshold),
    )
    return SelectedPoint(point, best.sensitivity, best.specificity)


def expectation(description: ModelDescription, name: str | None) -> str | None:
    """Say how many pneumothoraces an operating point finds, and which one finds more; None if that is unknown.

    Args:
        description: Description of the model.
        name: Name of the operating point; None selects the model's own.
    """
    selected, search = select_point(description, name), description.operating_point_search
    images = description.validation.get("images")
    if images is None or selected.sensitivity is None or selected.specificity is None:
        return None
    text = (
        f"at this operating point the model finds {selected.sensitivity:.0%} of the positives, with false alarms on "
        f"{1 - selected.specificity:.0%} of the negatives, on its {images:.0f} validation images"
    )
    most = search and search.objectives.get(_MOST_SENSITIVE)
    if most and most.sensitivity and most.specificity and most.sensitivity > selected.sensitivity:
        text += f"; at the operating point {_MOST_SENSITIVE}, {most.sensitivity:.0%} and {1 - most.specificity:.0%}"
    return text
