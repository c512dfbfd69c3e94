"""Hydra's config groups; importable, so that they are found in an installed package. They are the only registry."""
