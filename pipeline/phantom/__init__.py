"""Synthetic chest radiographs (phantoms) for the demonstration and for tests."""

from pneumoseg.pipeline.phantom.dataset import PhantomSet, write_phantoms
from pneumoseg.pipeline.phantom.draw import Phantom, draw_phantom
from pneumoseg.pipeline.phantom.pneumothorax import PneumothoraxPlan

__all__ = ["Phantom", "PhantomSet", "PneumothoraxPlan", "draw_phantom", "write_phantoms"]
