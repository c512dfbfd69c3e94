"""What models with prices cost: a purse that is never overdrawn, and the rule for what a request may cost.

The rule needs no call: a token for every four ASCII characters of a request and for every other character, one for
28 x 28 pixels of an image (at most 2,560 an image), 32 for a second of sound; and of an answer as many as it may have.
Tokenisers differ, so it is good to a factor of about two, and is put right by the first counts that come back.
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from harness.config.specs import EndpointSpec, ModelSpec
from harness.errors import OutOfBudget
from harness.media import decoded_size
from harness.records import Answer, Media, Request

PIXELS, MOST_OF_IMAGE, OF_SECOND = 28 * 28, 2_560, 32


def tokens_of(request: Request) -> int:
    """About how many tokens a request has, by the rule above."""
    text = request.text
    ascii_ = sum(character.isascii() for character in text)
    return math.ceil(ascii_ / 4) + len(text) - ascii_ + sum(
        _tokens_of_medium(part) for part in request.parts if isinstance(part, Media)
    )  # fmt: skip


def _tokens_of_medium(medium: Media) -> int:
    if medium.kind == "image":
        channels = 3 if isinstance(medium.source, np.ndarray) else 4
        return min(MOST_OF_IMAGE, math.ceil(decoded_size(medium) / channels / PIXELS))
    if isinstance(medium.source, np.ndarray):
        return math.ceil(OF_SECOND * len(medium.source) / (medium.rate or 16_000))
    with suppress(Exception):  # whatever a broken file leads the library to; it costs nothing, as it cannot be sent
        import soundfile

        source: Any = io.BytesIO(medium.source) if isinstance(medium.source, bytes) else medium.source
        return math.ceil(OF_SECOND * soundfile.info(source).duration)
    return 0


def price(spec: ModelSpec, tokens_in: float | None, tokens_out: float | None) -> float | None:
    """What so many tokens cost; None for a model without prices, or where a count is not known."""
    if not isinstance(spec, EndpointSpec) or spec.price_in is None or spec.price_out is None:
        return None
    if tokens_in is None or tokens_out is None:
        return None
    return (tokens_in * spec.price_in + tokens_out * spec.price_out) / 1e6


class Purse:
    """What may still be spent on one model. Before a request is asked, the most that it may cost is laid aside."""

    def __init__(self, spec: ModelSpec, left: float | None) -> None:
        self.spec, self.left = spec, left
        """`left` is None where there is no bound."""
        self._aside: dict[int, float] = {}
        """The most that each request under way may cost, by its identity."""
        self._scale = 1.0
        """By how much the rule has fallen short of the tokens that were counted, at most."""
        self._tried = False
        """Whether an answer has come, and the rule been held against it: until then one request is asked at a time."""
        self._lock = threading.Lock()

    def allows(self, requests: Sequence[Request]) -> bool:
        """Whether these can be paid for now, whatever they cost; what they may cost is then laid aside."""
        if self.left is None:
            return True
        most = {id(request): self._most(request) for request in requests}
        with self._lock:
            if sum(most.values()) > self.left - sum(self._aside.values()) or (self._aside and not self._tried):
                return False
            self._aside |= most
            return True

    def pays(self, requests: Sequence[Request]) -> bool:
        """Whether requests that no text answers (to embed, to rank) can be paid for; they are then paid for by the
        rule, as nothing tells what they took."""
        if self.left is None:
            return True
        cost = sum(price(self.spec, tokens_of(request), 0) or 0.0 for request in requests)
        if cost > self.left:
            return False
        self.left -= cost
        return True

    def settle(self, request: Request, outcome: Any) -> None:
        """A request has this outcome (None: it has none yet). An Answer that does not say its cost is given it."""
        if isinstance(outcome, Answer) and outcome.cost is None:
            outcome.cost = price(self.spec, outcome.tokens_in, outcome.tokens_out)
        if self.left is None:
            return
        with self._lock:
            most = self._aside.pop(id(request), 0.0)
            if isinstance(outcome, Answer):
                self._tried = True
                self.left -= most if outcome.cost is None else outcome.cost
                if outcome.tokens_in and (ours := tokens_of(request)):
                    self._scale = max(self._scale, outcome.tokens_in / ours)

    def empty(self) -> OutOfBudget:
        """What is raised where not one request can be paid for."""
        return OutOfBudget(
            f"its budget is reached: {max(0.0, self.left or 0.0):,.4f} are left, and another answer may cost more"
        )

    def _most(self, request: Request) -> float:
        return price(self.spec, self._scale * tokens_of(request), request.max_new_tokens) or 0.0


def left_to(spec: ModelSpec, of_run: float | None, spent: float, spent_by_all: float) -> float | None:
    """What may still be spent on a model; None where nothing sets a bound, as for models without prices."""
    if price(spec, 0, 0) is None:
        return None
    bounds = [] if of_run is None else [of_run - spent_by_all]
    if isinstance(spec, EndpointSpec) and spec.budget is not None:
        bounds.append(spec.budget - spent)
    return max(0.0, min(bounds)) if bounds else None
