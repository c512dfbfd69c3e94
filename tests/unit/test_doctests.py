"""The worked examples in docstrings are true."""

import doctest
import importlib

import pytest

MODULES = (
    "harness.adapters.fusion.layers",
    "harness.adapters.fusion.model",
    "harness.adapters.transformers.decoding",
    "harness.analysis.statistics",
    "harness.metrics",
    "harness.metrics.captions",
    "harness.metrics.meteor",
    "harness.metrics.ranking",
    "harness.metrics.tokenise",
    "harness.metrics.vqa",
    "harness.tasks.retrieval",
)
"""The modules whose docstrings hold examples."""


@pytest.mark.parametrize("name", MODULES)
def test_every_example_gives_what_its_docstring_shows(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0, f"{name} has no example"
    assert found.failed == 0
