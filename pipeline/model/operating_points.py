"""Operating points of a model, by name or by a required rate."""

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.model.description import ModelDescription
from pneumoseg.transforms.masks import OperatingPoint


def point_for(description: ModelDescription, name: str | None) -> OperatingPoint:
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
        return description.operating_point.as_point()
    search = description.operating_point_search
    if search is None:
        raise UsageError(
            f"--operating-point {name}: the model has one operating point, and no search to choose others from"
        )
    if name in search.objectives:
        return search.objectives[name].point.as_point()
    held, _, least = name.partition("=")
    try:
        if held not in {"sensitivity", "specificity"} or not 0 <= float(least) <= 1:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--operating-point {name}: {', '.join(search.objectives)}, specificity=0.9 or sensitivity=0.9 would fit"
        ) from None
    other = "specificity" if held == "sensitivity" else "sensitivity"
    rows = [
        row
        for row in search.frontier or search.curve
        if (value := getattr(row, held)) is not None and value >= float(least)
    ]
    if not rows:
        raise UsageError(f"--operating-point {name}: the search of this model found no such point")
    best = max(rows, key=lambda row: (getattr(row, other) or 0, row.dice))
    segmentation = description.operating_point.segmentation_threshold
    return OperatingPoint(
        threshold=best.threshold,
        min_area_fraction=best.min_area_fraction,
        image_threshold=best.image_threshold,
        segmentation_threshold=None if segmentation is None else min(segmentation, best.threshold),
    )
