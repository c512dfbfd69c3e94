"""Compare multimodal models honestly: see README.md; `harness.records` is the place to start reading."""

__version__ = "0.1.0"
