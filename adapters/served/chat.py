"""A chat model behind an endpoint: requests become messages, replies become answers.

Questions are asked over `concurrency` connections at once and answered in whatever order replies come.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from harness.adapter import Adapter
from harness.clock import Clock
from harness.errors import OutOfBudget, Refused, SampleError, UserError, alike, counted
from harness.records import Answer, Request

from . import ServedSpec
from .content import Encoder
from .endpoint import Endpoint, Pace, Stopped
from .replies import Denied, answer_of
from .server import Server

ALIKE = 20
"""After so many outcomes in a row that are one and the same error, the model is given up."""
QUIET = 0.3
"""Seconds after which nothing that was just begun is overlooked."""
Outcome = Answer | Exception


class Served(Adapter):
    """Asks a model by /chat/completions, at `base_url` or at a server that it starts."""

    spec: ServedSpec
    clock: Clock

    def __init__(self, spec: ServedSpec) -> None:
        super().__init__(spec)
        self.concurrency = max(1, spec.concurrency)
        self.encoder = Encoder(spec.image_limit_px, spec.image_limit_mb, spec.detail)
        self.server: Server | None = None
        self.endpoint: Endpoint | None = None
        self.name = spec.model
        self._first = threading.Condition()
        self._asking = self._denied = 0
        """How many requests are under way, and how many of these were denied while nothing had been answered."""
        self.scaled: set[str] = set()
        """The keys of the images that the endpoint's limits made smaller."""

    def load(self, device: str, clock: Clock) -> None:
        """Find the key, start the server if it is ours, and learn the model's name if the settings do not say it.

        Raises UserError where the key is not set, the server does not start, or nobody answers.
        """
        self.clock = clock
        spec, base_url = self.spec, self.spec.base_url
        if spec.launch is not None:
            self.server = Server(spec.launch, spec, device)
            base_url = self.server.start()
        key = os.environ.get(spec.api_key_env, "").strip() if spec.api_key_env else ""
        if spec.api_key_env and not key:
            raise UserError(f"the environment variable {spec.api_key_env} that is to hold the key is not set.")
        if not (key.isascii() and key.isprintable()):
            raise UserError(f"what the environment variable {spec.api_key_env} holds is no key.")
        pace = Pace(self.concurrency, spec.requests_per_minute, spec.tokens_per_minute)
        self.endpoint = Endpoint(base_url, key, pace, spec.timeout_s, max(0, spec.retries))
        if not self.name:
            self.name = self._first_name(self.endpoint)

    def close(self) -> None:
        if self.endpoint is not None:
            self.endpoint.close()
        if self.server is not None:
            self.server.end()

    def remarks(self) -> list[str]:
        """What is to be told of the cell: how many images the endpoint's limits made smaller."""
        scaled, self.scaled = len(self.scaled), set()
        return [f"{counted(scaled, 'image')} made smaller for the endpoint's limits"] if scaled else []

    # Asking ------------------------------------------------------------------------------------------------------

    def stream(self, requests: Iterator[tuple[int, Request]]) -> Iterator[tuple[int, Outcome]]:
        """The outcomes of the requests as they come; raises UserError where the model cannot be asked at all."""
        count, last = 0, ""
        for index, outcome in self._outcomes(iter(requests)):
            if isinstance(outcome, UserError):
                raise outcome
            yield index, outcome
            failed = isinstance(outcome, Exception) and not isinstance(outcome, Refused | OutOfBudget)
            kind = alike(str(outcome)) if failed else ""
            count = count + 1 if kind and kind == last else int(failed)
            last = kind
            if count >= ALIKE:
                raise UserError(f"{count} in a row failed alike: {outcome}")

    def _outcomes(self, requests: Iterator[tuple[int, Request]]) -> Iterator[tuple[int, Outcome]]:
        assert self.endpoint is not None
        taking, found = threading.Lock(), queue.SimpleQueue[tuple[int, Outcome] | None]()
        stopped = threading.Event()
        begun = 0

        def begin() -> None:
            nonlocal begun
            begun += 1
            threading.Thread(target=work, name=f"asking {self.name}", daemon=True).start()

        def work() -> None:
            more = True
            try:
                while not stopped.is_set():
                    with taking:
                        item = next(requests, None)
                        if item is None:
                            return
                        if more and begun < self.concurrency:
                            begin()
                        more = False
                    outcome = self._outcome(item[1])
                    if isinstance(outcome, UserError):
                        stopped.set()
                    found.put((item[0], outcome))
            except Exception as error:  # what the iterator raised
                found.put((-1, UserError(f"the requests ended: {error}")))
            finally:
                found.put(None)

        with taking:
            begin()
        ended = 0
        try:
            while ended < begun:
                item = found.get()
                if item is None:
                    ended += 1
                else:
                    yield item
        finally:
            stopped.set()

    def _outcome(self, request: Request) -> Outcome:
        """What becomes of one request: an answer, or why there is none."""
        assert self.endpoint is not None
        with self._first:
            self._asking += 1
        try:
            body, tokens = self._body(request)
            on_text = self.clock.token if body.get("stream") else None
            answer = self.endpoint.ask("/chat/completions", body, answer_of, tokens, on_text)
            if self.server is not None:
                answer.served_by = ""  # the folder of the weights on this machine
            return answer
        except Denied as error:
            hints = {401: "Is the key right?", 404: f"Is there a model '{self.name}', and is base_url right?"}
            if error.status in hints or 300 <= error.status < 400 or self._denies_all(self.endpoint):
                return UserError(f"{self.endpoint.base_url}: {error}. {hints.get(error.status, '')}".rstrip())
            return SampleError(str(error))
        except Exception as error:
            return error
        finally:
            with self._first:
                self._asking -= 1
                self._first.notify_all()

    def _denies_all(self, endpoint: Endpoint) -> bool:
        """Whether the endpoint, which has denied a request, denies every one that is under way and has answered none:
        then it is not the request that is wrong. While that is open it is waited for."""
        with self._first:
            self._denied += 1
            try:
                while not endpoint.answered_at:
                    self._first.wait(QUIET)
                    if self._denied >= self._asking:
                        return not endpoint.answered_at
                return False
            finally:
                self._denied -= 1 if endpoint.answered_at else 0

    def _body(self, request: Request) -> tuple[dict[str, Any], int]:
        """The body of a request, and about how many tokens it and its answer have."""
        spec = self.spec
        content, tokens = self._content(request)
        messages = [{"role": "system", "content": spec.system}] if spec.system else []
        body: dict[str, Any] = {
            "model": self.name,
            "messages": [*messages, {"role": "user", "content": content}],
            "temperature": 0,
            spec.limit_name: request.max_new_tokens,
        }
        if spec.seed is not None:
            body["seed"] = spec.seed
        if self.clock.timer is not None:  # a latency pass: when does the first token come?
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        body |= spec.extra_body
        return {key: value for key, value in body.items() if value is not None}, tokens + request.max_new_tokens

    def _content(self, request: Request) -> tuple[str | list[dict[str, Any]], int]:
        """The parts in their order; a plain text where there are no media, as some endpoints take no other."""
        text = request.text
        tokens = sum(1 if not character.isascii() else 0.25 for character in f"{self.spec.system}{text}")
        if all(isinstance(part, str) for part in request.parts):
            return text, int(tokens)
        parts: list[dict[str, Any]] = []
        for part in request.parts:
            if isinstance(part, str):
                parts.append({"type": "text", "text": part})
                continue
            sent = self.encoder.part(part)
            tokens += sent.tokens
            if sent.scaled:
                self.scaled.add(part.key)
            parts.append(sent.part)
        return parts, int(tokens)

    def _first_name(self, endpoint: Endpoint) -> str:
        """The first model that the endpoint lists; raises UserError where it lists none."""
        try:
            listed = endpoint.get("/models").get("data")
            names = [str(entry["id"]) for entry in listed or () if isinstance(entry, Mapping) and entry.get("id")]
        except (Denied, SampleError, Stopped) as error:
            raise UserError(f"{endpoint.base_url}: {error}. Say the model's name with models.NAME.model=...") from error
        if not names:
            raise UserError(f"{endpoint.base_url} lists no model. Say its name with models.NAME.model=...")
        return names[0]
