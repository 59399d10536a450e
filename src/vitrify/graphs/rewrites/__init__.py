"""Rewrites of an ONNX graph, one a file: where each may apply, why it stays away, what it does."""
