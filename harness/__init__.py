"""Compare multimodal models honestly, from the command line or from Python.

    import harness
    run = harness.evaluate("pocket-clip", task="retrieval", limit=100)

README.md says what it does; `harness.records` is the place to start reading the code. The names below are the public
ones, and each is imported when it is first asked for: importing the package itself costs next to nothing.
"""

from __future__ import annotations

__version__ = "0.2.0"

TYPE_CHECKING = False  # type checkers take the name for typing's, whose import would cost more than all of this
if TYPE_CHECKING:
    from harness.adapter import Adapter
    from harness.api import Run, evaluate, load_run
    from harness.config.specs import ModelSpec
    from harness.errors import OutOfBudget, Refused, SampleError, TransientError, UserError
    from harness.records import Answer, Media, Record, Request, Sample

__all__ = [
    "Adapter",
    "Answer",
    "Media",
    "ModelSpec",
    "OutOfBudget",
    "Record",
    "Refused",
    "Request",
    "Run",
    "Sample",
    "SampleError",
    "TransientError",
    "UserError",
    "evaluate",
    "load_run",
]

_HOMES = {
    "harness.adapter": ("Adapter",),
    "harness.api": ("Run", "evaluate", "load_run"),
    "harness.config.specs": ("ModelSpec",),
    "harness.errors": ("OutOfBudget", "Refused", "SampleError", "TransientError", "UserError"),
    "harness.records": ("Answer", "Media", "Record", "Request", "Sample"),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(home), name)
    raise AttributeError(f"module 'harness' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
