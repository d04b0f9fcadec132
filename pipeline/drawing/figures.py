"""Figure of one case: radiograph, label, prediction, and attention map."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pneumoseg.pipeline.core.files import written_atomically
from pneumoseg.pipeline.drawing.pictures import overlay
from pneumoseg.transforms.measurements import probability_text

LABEL_COLOUR = (64, 200, 255)


def make_case_figure(
    *,
    image: npt.NDArray[np.float32],
    label: npt.NDArray[np.uint8],
    pred: npt.NDArray[np.uint8],
    attention: npt.NDArray[np.float32],
    probability: float,
    title: str,
) -> Figure:
    """Render four panels side by side.

    Args:
        image: Radiograph with values in [0, 1], shape ``(rows, columns)``.
        label: True mask of zeros and ones, of the same shape.
        pred: Predicted mask of zeros and ones, of the same shape.
        attention: Coefficients of a gate, of the same shape; the range without the 2 % at each end is stretched to the
            whole colour scale.
        probability: Image probability.
        title: Title of the first panel.
    """
    figure = Figure(figsize=(14, 3.9), layout="constrained", facecolor="black")
    panels = (
        (title, overlay(image, label * 0)),
        ("label", overlay(image, label, colour=LABEL_COLOUR)),
        (f"prediction, probability {probability_text(probability)}", overlay(image, pred)),
        ("attention gate", None),
    )
    for axes, (name, picture) in zip(figure.subplots(1, 4), panels, strict=True):
        axes.set_title(name, color="white", fontsize=12)
        axes.set_axis_off()
        axes.imshow(overlay(image, label * 0) if picture is None else picture, interpolation="antialiased")
        if picture is None:
            # single pixels at the border are far outside of the range of the other pixels
            low, high = np.quantile(attention, (0.02, 0.98))
            axes.imshow(attention, cmap="inferno", alpha=0.65, interpolation="bilinear", vmin=low, vmax=high)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as an image file.

    Args:
        figure: Figure to write.
        path: Path of the file; its suffix selects the format.
    """
    with written_atomically(path) as temporary:
        figure.savefig(temporary, dpi=110)
