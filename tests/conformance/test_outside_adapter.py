"""An adapter written elsewhere needs no more than a class with `load` and one capability."""

from __future__ import annotations

import numpy as np

from harness.adapter import Adapter, Embeds, Generates, Ranks, routes_of
from harness.clock import Clock
from harness.config.specs import ModelSpec
from harness.records import Request
from harness.targets import load_class

SOURCE = '''
import numpy as np
from harness.adapter import Adapter


class Letters(Adapter):
    """Counts letters."""

    def __init__(self, spec, letters="abc"):
        super().__init__(spec)
        self.letters = letters

    def load(self, device, clock):
        self.clock = clock

    def embed(self, inputs):
        counts = np.array([[1 + r.text.count(c) for c in self.letters] for r in inputs], dtype=np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)
'''


def test_an_adapter_from_outside_is_found_by_its_name_and_asked(tmp_path, monkeypatch):
    (tmp_path / "my_letters.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    found = load_class("my_letters.Letters", Adapter)
    spec = ModelSpec(_target_="my_letters.Letters", origin="in-house", checkpoint="none", options={"letters": "ab"})
    adapter = found(spec, **spec.options)
    adapter.load("cpu", Clock())
    vectors = adapter.embed(adapter.prepare([Request(("aab",)), Request(("b",))], "embed"))
    assert vectors.shape == (2, 2)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    adapter.close()


def test_its_routes_are_the_methods_it_has(tmp_path, monkeypatch):
    (tmp_path / "my_other_letters.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    found = load_class("my_other_letters.Letters", Adapter)
    assert issubclass(found, Adapter)
    assert routes_of(found) == ("embed",)
    adapter = found(ModelSpec(origin="in-house", checkpoint="none"))
    assert isinstance(adapter, Embeds)
    assert not isinstance(adapter, Generates | Ranks)
