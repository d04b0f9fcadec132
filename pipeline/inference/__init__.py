"""Inference with a trained model folder, on tensors, radiographs and streams of files."""
