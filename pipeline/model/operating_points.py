"""Operating points of a model, by name or by a required rate."""

from dataclasses import replace

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.model.description import ModelDescription
from pneumoseg.transforms.masks import OperatingPoint


def point_for(description: ModelDescription, aim: str | None) -> OperatingPoint:
    """Select an operating point of a model.

    Args:
        description: Description of the model.
        aim: Name of the operating point; None selects the model's own. ``challenge``, ``specificity`` and ``screening``
            are searched by training. ``specificity=0.9`` selects the point of the search with the highest sensitivity
            at no less than this specificity; ``sensitivity=0.9`` selects the highest specificity at no less than this
            sensitivity.

    Raises: UsageError: If the model has no such point.
    """
    if aim is None:
        return description.operating_point.as_point()
    search = description.operating_point_search
    if search is None:
        raise UsageError(
            f"--operating-point {aim}: the model has one operating point, and no search to choose others from"
        )
    if aim in search.objectives:
        return search.objectives[aim].point.as_point()
    held, _, least = aim.partition("=")
    try:
        if held not in {"sensitivity", "specificity"} or not 0 <= float(least) <= 1:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--operating-point {aim}: {', '.join(search.objectives)}, specificity=0.9 or sensitivity=0.9 would fit"
        ) from None
    other = "specificity" if held == "sensitivity" else "sensitivity"
    rows = [
        row
        for row in search.frontier or search.curve
        if (value := getattr(row, held)) is not None and value >= float(least)
    ]
    if not rows:
        raise UsageError(f"--operating-point {aim}: the search of this model found no such point")
    best = max(rows, key=lambda row: (getattr(row, other) or 0, row.dice))
    drawn = description.operating_point.as_point()
    bottom = (
        None if drawn.segmentation_threshold is None else min(drawn.segmentation_threshold, best.threshold)
    )
    return replace(
        drawn,
        threshold=best.threshold,
        min_area_fraction=best.min_area_fraction,
        image_threshold=best.image_threshold,
        segmentation_threshold=bottom,
    )
