"""The adapter: the one interface behind which every model stands. This page is all of it.

An adapter loads a model and has one or more capabilities, each a Protocol: it embeds, ranks or generates (and may
explain). The engine calls `prepare` in a host thread for batch i+1 while the device computes batch i, and times both,
so `prepare` does what needs no device (decode, resize, tokenise) and the capability's method does the rest. An adapter
holds no metric, no data set's name and no prompt; it prints nothing and keeps no global state. Its module must import
without torch (import it inside `load`), because the command line looks at the class before any model is loaded.

Any method may raise: SampleError for what is wrong with a request, TransientError for what may pass (a busy server; it
is called again after a pause), anything else for what is wrong with itself. The engine finds out which request is at
fault by asking in halves, and goes on with the others; it does so too when memory runs out or the process dies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from harness.records import Answer, Modality, Request, Route

if TYPE_CHECKING:
    import numpy as np

    from harness.clock import Clock
    from harness.config.specs import ModelSpec


class Adapter:
    """Base of all adapters. `spec.dtype` is float32, bfloat16 or float16 by the time it gets here, and "auto" only for
    a model that runs elsewhere."""

    imports: ClassVar[tuple[str, ...]] = ()
    """Heavy modules that `load` will import; an engine may import them once for all models, before it forks."""
    needs: ClassVar[tuple[Modality, ...]] = ()
    """What every request must hold: with one of these taken out (`ablate=image`) the model is not asked at all."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def load(self, device: str, clock: Clock) -> None:
        """Read the weights onto `device` ("cpu", "cuda", "cuda:1", "mps"). Timed as the cold load.

        `clock` may be kept to mark what later calls do, for latency passes: `with clock.phase("encode")` (or "prefill",
        "decode", "postprocess"), and `clock.token()` for each output token.
        Raises OSError or UserError with a message for people when the weights are missing, corrupt or of another model.
        """
        raise TypeError(f"{type(self).__name__} has no load()")

    def close(self) -> None:
        """Free what `load` took. The process ends soon after; the default does nothing."""

    def remarks(self) -> Sequence[str]:
        """What is to be told beside the results of the cell that was asked last, such as "3 images made smaller for the
        endpoint's limits"; asked once, when the cell is done."""
        return ()

    def prepare(self, requests: Sequence[Request], route: Route) -> Any:
        """Host work for a batch; safe in a thread beside device work. The default hands the requests on.

        Raises SampleError (or any error) when a request cannot be prepared; the engine then tries them one by one.
        """
        return requests

    def text_cut(self, inputs: Any) -> Sequence[bool]:
        """For each request of what `prepare` returned, whether the model will see less than all of its text (choices to
        rank included), as its context is too short. Asked outside of what is timed; nothing means that none is cut.
        """
        return ()


@runtime_checkable
class Embeds(Protocol):
    def embed(self, inputs: Any) -> np.ndarray:
        """Float32 [n, d], rows L2-normalised; row i is the joint embedding of all parts of request i.

        An adapter may have an attribute `logit_scale` (float): choice scores are then cosines times it, so that their
        softmax is the model's own confidence.
        """
        ...


@runtime_checkable
class Generates(Protocol):
    def generate(self, inputs: Any) -> Sequence[Answer | Exception]:
        """n answers, greedily decoded, without the prompt; answer i is for request i.

        In the place of an answer an error may stand (SampleError, Refused), so that the other answers are kept.
        """
        ...


@runtime_checkable
class Streams(Protocol):
    def stream(self, requests: Iterator[tuple[int, Request]]) -> Iterator[tuple[int, Answer | Exception]]:
        """The outcomes of all requests of a cell, in any order, each with its request's index, as they come.

        For an adapter whose answers do not depend on what is asked with them (a served model). It takes requests as it
        has room for them (at most twice its `concurrency`, an attribute, are handed out and unanswered), and itself
        waits and repeats where that helps: the engine repeats nothing. It serves the route "generate". A UserError that
        it raises says that the model cannot be asked at all, and fails all its cells.
        """
        ...


@runtime_checkable
class Ranks(Protocol):
    def rank(self, inputs: Any) -> list[np.ndarray]:
        """n arrays, float [number of choices]: larger is likelier (mean log-likelihood of a choice's tokens)."""
        ...


@runtime_checkable
class Explains(Protocol):
    def explain(self, inputs: Any) -> list[dict[str, np.ndarray]]:
        """n mappings for reports: "image_attention" [h, w], "audio_attention" [t], "modality_weights" [3] (text, image,
        audio), whichever the model has."""
        ...


def streams(adapter: type, route: Route) -> bool:
    """Whether an adapter class serves a route by `stream`, which it then does always."""
    return route == "generate" and callable(getattr(adapter, "stream", None))


CAPABILITIES: dict[Route, type] = {"embed": Embeds, "rank": Ranks, "generate": Generates}


def routes_of(adapter: type) -> tuple[Route, ...]:
    """The routes an adapter class can serve, from the methods it has."""
    return tuple(route for route in CAPABILITIES if callable(getattr(adapter, route, None)) or streams(adapter, route))
