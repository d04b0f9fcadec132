"""Pictures of a few validation cases, drawn anew when the network is at its best."""

from collections.abc import Iterator, Sequence

import torch
from matplotlib.figure import Figure

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.dataset.cases import Bytes, CachedCases
from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.drawing.figures import make_case_figure
from pneumoseg.pipeline.inference.predictor import Predictor

SHOWN_GATE = 3  # of four, deepest first: the finest one


class Gallery:
    """Three validation cases: a large pneumothorax, a middling one and a small one.

    Args:
        cases: All cases of the manifest.
        validation: Which are validated on.
        pixels: The cache at the final resolution.
        precision: In which the network computes.
    """

    def __init__(
        self, cases: Sequence[Case], validation: Sequence[int], pixels: Bytes, *, precision: Precision
    ) -> None:
        ranked = sorted(
            (index for index in validation if cases[index].area_px), key=lambda i: -cases[i].area_px
        )
        chosen = [ranked[len(ranked) * quarter // 4] for quarter in (1, 2, 3)] if ranked else []
        self.shown = list(dict.fromkeys(chosen))  # where there are fewer than three
        self.pixels = pixels
        self.samples = CachedCases(pixels, cases, self.shown)
        self.precision = precision

    def draw(self, network: AttentionUNet) -> Iterator[tuple[str, Figure]]:
        """Draw each case: image, label, probability and attention; the names tell nothing of the patients."""
        predictor = Predictor([network], precision=self.precision)
        for number, index in enumerate(self.shown, start=1):
            grey, label = self.pixels[index]
            sample = self.samples[number - 1]
            content = sample["content"][None]
            found = predictor.predict_batch(sample["image"][None], content, attention=True)
            (prediction,) = found.map(torch.Tensor.cpu).images()
            probabilities, attention = prediction.probabilities[0].numpy(), prediction.attention or []
            yield (
                f"validation/case-{number}",
                make_case_figure(
                    image=(grey / 255.0).astype("float32"),
                    label=(label > 127).astype("uint8"),
                    pred=(probabilities > 0.5).astype("uint8"),
                    attention=attention[SHOWN_GATE][0].numpy(),
                    probability=float(prediction.image_probability),
                    title=f"validation case {number}",
                ),
            )
