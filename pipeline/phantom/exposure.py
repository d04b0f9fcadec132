"""Conversion of attenuation to an image: transmission, scatter, quantum noise, detector, and display curve."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pneumoseg.pipeline.phantom.projection import Array, blur, enlarge


@dataclass(frozen=True)
class Technique:
    """Parameters of exposure and processing."""

    bone: float  # contrast of bone; lower at a higher tube voltage
    scatter: float  # what the grid lets through
    photons: float  # per pixel of the direct beam, at 1024 pixels
    latitude: float  # how much of the slow changes the processing takes out
    sharpening: float
    black: float  # display level of the lungs, in shares of the range
    white: float
    gamma: float
    softness_px: float  # detector blur at 1024 pixels


def sample_technique(rng: np.random.Generator, *, portable: bool) -> Technique:
    """Sample tube voltage, dose and processing.

    Args:
        rng: Random generator.
        portable: Whether the unit is portable, with more scatter and less dose.
    """
    return Technique(
        bone=rng.uniform(0.75, 1.1),
        scatter=rng.uniform(0.18, 0.3) if not portable else rng.uniform(0.3, 0.5),
        photons=rng.uniform(2.5e4, 9e4) if not portable else rng.uniform(1e4, 4e4),
        latitude=rng.uniform(0.0, 0.25),
        sharpening=rng.uniform(0.1, 0.9),
        black=rng.uniform(0.04, 0.2),
        white=rng.uniform(0.82, 1.0) if rng.random() < 0.8 else rng.uniform(0.62, 0.8),
        gamma=rng.uniform(0.85, 1.2),
        softness_px=rng.uniform(0.5, 0.9),
    )


def expose(thick: Array, thin: Array, technique: Technique, rng: np.random.Generator) -> Array:
    """Render the image of an attenuation map.

    Args:
        thick: Line integrals without unit, shape ``(rows, columns)``, at the final size or an integer fraction of it.
        thin: Line integrals of thin structures at the final size.
        technique: Parameters of exposure and processing.
        rng: Random generator of the quantum noise.

    Returns: Image in [0, 1], bright where little radiation passes.
    """
    factor = len(thin) // len(thick)
    inside = 1 - np.exp(-thick / 0.6)  # the direct beam beside the body scatters nowhere
    scattered = technique.scatter * blur(np.exp(-thick) * inside, 0.09 * len(thick))

    sharp = enlarge(thick, factor) + thin
    fluence = np.exp(-sharp) + enlarge(scattered, factor)
    size = fluence.shape[0]
    photons = technique.photons * (1024 / size) ** 2
    noisy = fluence + np.sqrt(fluence / photons) * rng.standard_normal(fluence.shape, dtype=np.float32)
    noisy = blur(noisy, technique.softness_px * size / 1024)
    density = -np.log(np.maximum(noisy, 1e-4))
    return _display(density, technique, body=sharp > 0.7)


def _display(density: Array, technique: Technique, *, body: NDArray[np.bool_]) -> Array:
    """Apply the processing of a workstation: reduced latitude, enhanced edges, and a window with soft shoulders."""
    size = density.shape[0]
    slow = blur(density, 0.08 * size)
    fine = blur(density, 0.004 * size)
    shown = (
        density - technique.latitude * (slow - float(slow.mean())) + technique.sharpening * (density - fine)
    )
    sample = shown[::4, ::4][body[::4, ::4]]
    dark, bright = np.percentile(sample, (5, 86))
    level = (shown - dark) / (bright - dark) * (technique.white - technique.black) + technique.black
    first, last, steps = -0.5, 2.5, 1 << 14
    curve = _film_curve(np.linspace(first, last, steps), technique).astype(np.float32)
    place = np.clip((level - first) * ((steps - 1) / (last - first)), 0, steps - 1)
    return np.asarray(curve[place.astype(np.int32)])  # a table, as a workstation's: many times as fast


def _film_curve(level: NDArray[np.float64], technique: Technique) -> NDArray[np.float64]:
    """Compute the display value of a level by a sigmoid curve of film."""
    toe, shoulder, top = 0.05, 0.16, technique.white + 0.04
    low = toe * np.logaddexp(0, level / toe)
    high = top - shoulder * np.logaddexp(0, (top - low) / shoulder)
    return np.asarray(np.clip(high, 0, 1) ** technique.gamma)
