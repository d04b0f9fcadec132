"""Segmentation of one radiograph, and the public predictor."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pneumoseg.pipeline.core.devices import resolve_device
from pneumoseg.pipeline.inference.model import Model, ModelOptions, load_model
from pneumoseg.pipeline.inference.predictor import Prediction
from pneumoseg.pipeline.model.description import Calibration
from pneumoseg.pipeline.scoring.calibration import calibrate
from pneumoseg.transforms.masks import to_mask
from pneumoseg.transforms.network_input import network_input, to_original_size
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.grey import GreyScale, Window, WindowFunction
from pneumoseg.transforms.reader.quality import look_at
from pneumoseg.transforms.reader.radiograph import Radiograph, read_radiograph
from pneumoseg.transforms.reader.reasons import REVIEW_REASONS, Reason

Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Segmentation:
    """The segmentation of one radiograph.

    Attributes:
        radiograph: Input radiograph.
        image_probability: Image probability as the model outputs it.
        probabilities: Probability of each stored pixel, shape ``(rows, columns)``, from which the mask is computed.
        mask: Mask of zeros and ones, of the same shape.
        image_std: Standard deviation of the image probability over Monte-Carlo dropout samples, not
            calibrated; None without dropout.
        pixel_std: Standard deviation of each pixel's probability, shape ``(rows, columns)``; None without dropout.
        attention: Coefficients of the four attention gates, deepest first, each of shape ``(rows, columns)``; None
            unless requested.
        calibration: Calibration of the reported image probability; None reports it as the model outputs it.
        path: Path of the file; None for an array or a radiograph in memory.
    """

    radiograph: Radiograph
    image_probability: float
    probabilities: Map
    mask: npt.NDArray[np.uint8]
    image_std: float | None = None
    pixel_std: Map | None = None
    attention: tuple[Map, ...] | None = None
    calibration: Calibration | None = None
    path: Path | None = None

    @property
    def probability(self) -> float:
        """Reported image probability, calibrated where that was requested."""
        return float(calibrate(self.image_probability, self.calibration))

    @property
    def review(self) -> tuple[Reason, ...]:
        """Reasons why a person has to review the result; empty where there is none."""
        return tuple(reason for reason, _ in self.radiograph.warnings if reason in REVIEW_REASONS)

    @property
    def decision(self) -> Literal["positive", "negative", "indeterminate"]:
        """Decision by the mask; an empty mask decides nothing where the image has to be reviewed."""
        if self.area_px:
            return "positive"
        return "indeterminate" if self.review else "negative"

    @property
    def area_px(self) -> int:
        """Number of pixels of the mask."""
        return int(np.count_nonzero(self.mask))

    @property
    def area_mm2(self) -> float | None:
        """Area of the mask in mm2; None where the pixel spacing is unknown.

        In the patient where `Radiograph.is_calibrated`, and otherwise in the plane of the detector, which is larger.
        """
        spacing = self.radiograph.spacing_mm
        return None if spacing is None else self.area_px * spacing[0] * spacing[1]


@dataclass(frozen=True)
class ModelPredictor:
    """Predictor of radiographs, made by `load_predictor`; threads can share it, and it can be copied and pickled.

    Attributes:
        model: Model folder in memory.
        acceptance: Which files are accepted as frontal chest radiographs.
    """

    model: Model
    acceptance: AcceptanceFilters = field(default_factory=AcceptanceFilters)

    def predict(
        self, image: str | Path | Radiograph | npt.NDArray[Any], *, attention: bool = False
    ) -> Segmentation:
        """Segment one radiograph.

        Args:
            image: Path of a DICOM or PNG file, read in this process; a `Radiograph`; or an array of shape
                ``(rows, columns)``: uint8 or uint16 as in a PNG file, or floats with greys in [0, 1].
            attention: Whether to include the attention maps.

        Returns: Mask, probabilities and decision, in the order of the stored pixels.

        Raises:
            RadiographError: If the file cannot be read, or is not accepted.
            ValueError: If shape, type or values of an array differ.
        """
        path = None
        if isinstance(image, str | Path):
            path = Path(image)
            image = read_radiograph(path, acceptance=self.acceptance)
        radiograph = image if isinstance(image, Radiograph) else radiograph_of(image)
        prepared, content = network_input(radiograph, self.model.image_size)
        found = self.predict_batch(prepared[None], content[None], attention=attention)
        (prediction,) = found.map(Tensor.cpu).images()
        return postprocess(self.model, radiograph, prediction, path=path)

    def predict_batch(
        self, images: Tensor, content: Tensor | None = None, *, attention: bool = False
    ) -> Prediction:
        """Predict for a batch of images prepared by `inference_chain`.

        Args:
            images: (B, 1, H, W), standardised.
            content: (B, 1, H, W), True for the pixels that are not padding; None for all.
            attention: Whether to include the attention maps.
        """
        return self.model.predictor.predict_batch(images, content, attention=attention)


def load_predictor(
    model_folder: str | Path,
    device: str = "auto",
    tta: Sequence[str] | None = None,
    *,
    operating_point: str | None = None,
    calibrated: bool = False,
    dropout_passes: int = 0,
    runtime: str = "auto",
    precision: str = "auto",
    acceptance: AcceptanceFilters | None = None,
) -> ModelPredictor:
    """Load a model for use from Python.

    Args:
        model_folder: Model folder written by `train_model`, or the name of a model of the package: ``reference``.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        tta: Test-time augmentations, ``flip`` and ``scale``; None selects the model's own.
        operating_point: Operating point to use: ``challenge``, ``specificity``, ``screening``, or a bound such as
            ``specificity=0.9`` or ``sensitivity=0.9``; None selects the model's own.
        calibrated: Whether to report calibrated image probabilities; masks do not change.
        dropout_passes: Monte-Carlo dropout samples, 2 or more, whose standard deviation is the uncertainty and whose
            mean gives probabilities and mask; 0 leaves dropout off.
        runtime: ``torch``, ``torch.compile``, ``onnx`` or ``openvino``; ``auto`` is torch, since a number of images
            for which another runtime would pay is not known here.
        precision: ``float32``, ``bf16``, ``fp16`` on CUDA or ``int8``; ``auto`` is that of the model's validation.
        acceptance: Which files are accepted as frontal chest radiographs.

    Returns: The model in memory; its `predict` segments one radiograph.

    Raises:
        UsageError: If an argument is invalid.
        JobError: If the folder is not a model, or its weights are missing, altered or of another network.
    """
    model = load_model(
        Path(model_folder),
        resolve_device(device),
        ModelOptions(
            operating_point=operating_point,
            tta=tta,
            calibrated=calibrated,
            dropout_passes=dropout_passes,
            runtime=runtime,
            precision=precision,
        ),
    )
    return ModelPredictor(model, acceptance or AcceptanceFilters())


def postprocess(
    model: Model, radiograph: Radiograph, prediction: Prediction, *, path: Path | None = None
) -> Segmentation:
    """Resize the prediction for one radiograph to its original size, and compute the mask.

    Args:
        model: Model whose operating point and calibration are used.
        radiograph: Radiograph of the prediction.
        prediction: Prediction for a single image, on the CPU.
        path: Path of the radiograph's file; None without a file.
    """

    def enlarged(map_: Tensor) -> Map:
        array: Map = to_original_size(map_, radiograph.shape, radiograph.orientation)[0].numpy()
        return array

    probabilities = enlarged(prediction.probabilities)
    probability = float(prediction.image_probability)
    return Segmentation(
        radiograph=radiograph,
        image_probability=probability,
        probabilities=probabilities,
        mask=to_mask(probabilities, model.operating_point, probability),
        image_std=None if prediction.image_std is None else float(prediction.image_std),
        pixel_std=None if prediction.pixel_std is None else enlarged(prediction.pixel_std),
        attention=None if prediction.attention is None else tuple(map(enlarged, prediction.attention)),
        calibration=model.calibration,
        path=path,
    )


def radiograph_of(pixels: npt.NDArray[Any]) -> Radiograph:
    """Make a radiograph from an array, without spacing and without identity; its quality is checked as a file's is.

    Args:
        pixels: Shape ``(rows, columns)``: uint8 or uint16 as in a PNG file, or floats with greys in [0, 1].

    Raises: ValueError: If shape, type or values differ.
    """
    wanted = "wanted are rows and columns of uint8, of uint16, or of floats from 0 to 1"
    if not isinstance(pixels, np.ndarray):
        raise ValueError(f"{type(pixels).__name__}: neither a path, a Radiograph nor an array; {wanted}")  # noqa: TRY004  (the error of all arguments)
    stored, voi = pixels, None
    if pixels.dtype.kind == "f" and pixels.size and pixels.min() >= 0 and pixels.max() <= 1:
        highest = 2**16 - 1
        voi = Window(highest / 2, highest, WindowFunction.LINEAR_EXACT)  # the whole range
        # in float16, `highest` is infinite
        scaled = np.multiply(pixels, highest, dtype=np.result_type(pixels, np.float32))
        stored = scaled.round().astype(np.uint16)
    if pixels.ndim != 2 or not pixels.size or stored.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"an array of shape {pixels.shape} and type {pixels.dtype}: {wanted}")
    bits = 8 * stored.dtype.itemsize
    radiograph = Radiograph(stored=stored, grey=GreyScale(bits_stored=bits, voi=voi), bits_stored=bits)
    return replace(radiograph, warnings=tuple(look_at(radiograph)))
