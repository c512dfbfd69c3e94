"""A chat model behind an endpoint: requests become messages, replies become answers.

Questions are asked over `concurrency` connections at once and answered in whatever order replies come.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from harness.errors import OutOfBudget, Refused, SampleError, UserError, alike
from harness.records import Answer, Request

from . import ServedSpec
from .base import Behind
from .replies import Denied, answer_of

ALIKE = 20
"""After so many outcomes in a row that are one and the same error, the model is given up."""
QUIET = 0.3
"""Seconds after which nothing that was just begun is overlooked."""
Outcome = Answer | Exception


class Served(Behind):
    """Asks a model by /chat/completions, at `base_url` or at a server that it starts."""

    def __init__(self, spec: ServedSpec) -> None:
        super().__init__(spec)
        self._first = threading.Condition()
        self._asking = self._denied = 0
        """How many requests are under way, and how many of these were denied while nothing had been answered."""

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
            if error.status in hints or 300 <= error.status < 400 or self._denies_all():
                return UserError(f"{self.endpoint.base_url}: {error}. {hints.get(error.status, '')}".rstrip())
            return SampleError(str(error))
        except Exception as error:
            return error
        finally:
            with self._first:
                self._asking -= 1
                self._first.notify_all()

    def _denies_all(self) -> bool:
        """Whether the endpoint, which has denied a request, denies every one that is under way and has answered none:
        then it is not the request that is wrong. While that is open it is waited for."""
        with self._first:
            self._denied += 1
            try:
                while not self.endpoint.answered_at:
                    self._first.wait(QUIET)
                    if self._denied >= self._asking:
                        return not self.endpoint.answered_at
                return False
            finally:
                self._denied -= 1 if self.endpoint.answered_at else 0

    def _body(self, request: Request) -> tuple[dict[str, Any], int]:
        """The body of a request, and about how many tokens it and its answer have."""
        spec = self.spec
        content, tokens = self.content(request)
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


class ServedRanks(Served):
    """A chat model whose endpoint tells the log-probabilities of a prompt's tokens, as vLLM does (`prompt_logprobs`).

    It ranks choices as well, by the mean over a choice's tokens as the answer's beginning.
    """

    def rank(self, inputs: Sequence[Request]) -> list[np.ndarray]:
        with ThreadPoolExecutor(self.concurrency) as pool:
            begun = [[pool.submit(self._logs, request, choice) for choice in request.choices] for request in inputs]
            bare = [len(logs) for logs in pool.map(lambda request: self._logs(request, None), inputs)]
            return [
                np.array([np.mean(one.result()[length:] or [-np.inf]) for one in own], np.float32)
                for own, length in zip(begun, bare, strict=True)
            ]

    def _logs(self, request: Request, choice: str | None) -> list[float]:
        """The log-probability of each token of the prompt but the first, with a choice as the answer's beginning."""
        body, tokens = self._body(request)
        given = choice is not None
        if given:
            body["messages"] = [*body["messages"], {"role": "assistant", "content": choice}]
        body |= {"add_generation_prompt": not given, "continue_final_message": given, "prompt_logprobs": 0}
        try:
            return self.endpoint.ask("/chat/completions", body | {self.spec.limit_name: 1}, _prompt_logs, tokens)
        except Denied as error:
            raise SampleError(str(error)) from error


def _prompt_logs(reply: dict[str, Any]) -> list[float]:
    """The numbers out of a reply; raises UserError for one without any, and for more than one token at a place."""
    found = reply.get("prompt_logprobs")
    if not isinstance(found, list):
        raise UserError("the endpoint gives no log-probabilities of a prompt: ask it by Served, not ServedRanks.")
    return [float(entry["logprob"]) for place in found if place for entry in list(place.values())[:1]]
