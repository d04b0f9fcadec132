"""Synthetic chest radiographs (phantoms) for the demonstration and for tests."""

from pneumoseg.pipeline.phantom.dataset import PhantomSet, write_phantoms
from pneumoseg.pipeline.phantom.pneumothorax import PneumothoraxPlan
from pneumoseg.pipeline.phantom.rendering import Phantom, render_phantom

__all__ = ["Phantom", "PhantomSet", "PneumothoraxPlan", "render_phantom", "write_phantoms"]
