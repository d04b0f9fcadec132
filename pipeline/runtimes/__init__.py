"""Runtimes that compute the forward pass of a network: torch, ONNX Runtime and OpenVINO."""
