"""Draw a few validation cases while a network is trained."""

from collections.abc import Iterator, Sequence

import torch
from matplotlib.figure import Figure

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.dataset.cases import Bytes, CachedCases
from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.drawing.figures import make_case_figure
from pneumoseg.pipeline.inference.predictor import Predictor

SHOWN_GATE = 3
"""Index of the attention gate that is drawn: the finest of four, which are listed deepest first."""


class Gallery:
    """Three validation cases: with a large, a medium and a small pneumothorax.

    Args:
        cases: All cases of the manifest.
        validation: Indices of the held-out cases.
        pixels: Cache at the final resolution, (cases, 2, size, size) in uint8.
        precision: Number format and device of the network.
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
        """Draw image, label, probabilities and attention of each case.

        Args:
            network: Network to run.

        Yields: A name that says nothing about the patient, and the figure.
        """
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
