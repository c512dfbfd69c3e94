"""What an endpoint's reply means: an answer, or one of the errors that differ in what follows from them.

The protocol leaves errors to each maker. What counts is first whether the account is empty, then whether a filter
spoke, then whether it may pass; makers say it by status, by a code in the body, or in words alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

from harness.errors import OutOfBudget, Refused, SampleError
from harness.records import Answer, Finish

LONGEST_WAIT = 600.0
"""An endpoint that asks to wait longer, in seconds, has stopped serving for now: the run goes on another time."""
_EMPTY_ACCOUNT = re.compile(
    r"insufficient[ _-]?(account[ _-]?)?(quota|balance|funds|credits?)|arrear|overdue|exceeded_current_quota"
    r"|余额不足|欠费",
    re.IGNORECASE,
)
_FILTER = re.compile(
    r"filter|content[ _]?policy|data_?inspection|inappropriate|moderation|sensitive|safety|risk[ _]control"
    r"|敏感|违规|不安全",
    re.IGNORECASE,
)
_LIMIT = re.compile(r"rate[ _-]?limit|too many requests|\b429\b|overloaded|throttl|quota exceeded|限流", re.IGNORECASE)
_TOO_LARGE = re.compile(r"request too large|too large for", re.IGNORECASE)
_FINISHES: dict[str, Finish] = {"stop": "stop", "eos": "stop", "length": "length", "max_tokens": "length"}
_FILTERED = ("content_filter", "sensitive", "filter")


class Denied(Exception):
    """The endpoint will not answer such a request, and says why."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"the endpoint said {status}: {said}")
        self.status = status


class Passing(Exception):
    """An error that may pass: the same request is asked again.

    `wait` is how many seconds the endpoint wants to be left alone, where it says so; `for_all` says that it has too
    much to do, so that no other request should be sent either; `gone` that it could not even be reached.
    """

    def __init__(self, said: str, wait: float | None = None, for_all: bool = False, gone: bool = False) -> None:
        super().__init__(said)
        self.wait, self.for_all, self.gone = wait, for_all, gone


def error_of(status: int, headers: Mapping[str, str], body: str) -> Exception:
    """The error that a reply stands for: OutOfBudget, Refused, SampleError (this request alone), Passing or Denied."""
    said = _said(body)
    if status == 402 or _EMPTY_ACCOUNT.search(said):
        return OutOfBudget(f"the endpoint wants to be paid first: {said}")
    if status in (400, 403, 413, 422, 451) and _FILTER.search(said):
        return Refused(f"refused by the endpoint: {said}")
    if status == 429 and _TOO_LARGE.search(said):
        return SampleError(f"the endpoint said {status}: {said}")
    if status in (408, 409, 425, 429) or status >= 500:
        wait = _wait(headers)
        if wait is not None and wait > LONGEST_WAIT:
            return OutOfBudget(f"the endpoint asks to wait {wait:,.0f} s: {said}")
        for_all = status == 429 or wait is not None or bool(_LIMIT.search(said))
        return Passing(f"the endpoint said {status}: {said}", wait, for_all)
    return Denied(status, said)


def answer_of(reply: Mapping[str, Any]) -> Answer:
    """The answer in a reply of status 200; raises what else it holds."""
    choices = reply.get("choices")
    if not choices:
        raise _error_in(reply)
    choice = _mapping(choices[0]) if isinstance(choices, list) else {}
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise SampleError("what came is no reply of such an endpoint: it holds no message")
    text = _text(message.get("content"))
    finish = str(choice.get("finish_reason") or "")
    if isinstance(refusal := message.get("refusal"), str) and refusal and not text:
        raise Refused(f"refused by the model: {refusal}")
    if finish in _FILTERED and not text:
        raise Refused(f"refused by the endpoint: it ended the answer ({finish})")
    usage = _mapping(reply.get("usage"))
    details = _mapping(usage.get("completion_tokens_details"))
    return Answer(
        text=text.strip(),
        tokens_in=_count(usage.get("prompt_tokens")),
        tokens_out=_count(usage.get("completion_tokens")),
        finish="filter" if finish in _FILTERED else _FINISHES.get(finish),
        reasoning=_text(message.get("reasoning_content") or message.get("reasoning")).strip(),
        reasoning_tokens=_count(details.get("reasoning_tokens")),
        served_by=str(reply.get("model") or ""),
    )


def _error_in(reply: Mapping[str, Any]) -> Exception:
    """What a reply of status 200 without an answer means: some put an error into it."""
    error = reply.get("error")
    code = error.get("code") if isinstance(error, Mapping) else None
    body = json.dumps(dict(reply), ensure_ascii=False)
    if _EMPTY_ACCOUNT.search(body):
        return error_of(402, {}, body)
    if _FILTER.search(_said(body)):
        return error_of(400, {}, body)
    return error_of(code if isinstance(code, int) and 400 <= code < 600 else 500, {}, body)


class Assembled:
    """A reply that arrives in pieces (server-sent events), put together as if it had come at once."""

    def __init__(self) -> None:
        self.reply: dict[str, Any] = {}
        self.texts: dict[str, str] = {}
        self.finish: Any = None
        self.done = False

    def add(self, event: Mapping[str, Any]) -> bool:
        """Take one event into account; whether it brought text of the answer or of the reasoning."""
        if event.get("error"):
            raise _error_in(event)
        self.reply |= {key: event[key] for key in ("model", "usage") if event.get(key)}
        fresh = False
        choices = event.get("choices")
        for choice in map(_mapping, choices if isinstance(choices, list) else ()):
            delta = _mapping(choice.get("delta") or choice.get("message"))
            for key in ("content", "reasoning_content", "reasoning", "refusal"):
                if piece := _text(delta.get(key)):
                    self.texts[key] = self.texts.get(key, "") + piece
                    fresh = True
            if choice.get("finish_reason"):
                self.finish, self.done = choice["finish_reason"], True
        return fresh

    def whole(self) -> dict[str, Any]:
        """The reply; raises Passing where the stream ended before the answer did."""
        if not self.done:
            raise Passing("the stream ended before the answer did")
        return self.reply | {"choices": [{"message": self.texts, "finish_reason": self.finish}]}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int | None:
    """A count of tokens; None for what is none, as an answer is worth more than its count."""
    return value if type(value) is int and 0 <= value < 2**31 else None


def _text(content: Any) -> str:
    """The text of a message's content: a text, or a list of parts of which some are texts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _said(body: str) -> str:
    """What an error's body says, its code included, in one line of at most 300 characters."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    while isinstance(found, list) and found:  # Gemini puts its error into a list
        found = found[0]
    if isinstance(found, Mapping):
        error = next((found[k] for k in ("error", "base_resp", "detail") if found.get(k)), found)
        if isinstance(error, Mapping):
            keys = ("code", "type", "message", "msg", "status_msg", "error_msg", "innererror")
            parts = dict.fromkeys(str(error[key]) for key in keys if error.get(key))
            body = ": ".join(parts) or json.dumps(error, ensure_ascii=False)
        else:
            body = error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())[:300] or "nothing more"


def _wait(headers: Mapping[str, str]) -> float | None:
    """How many seconds an endpoint asks to wait, by its headers; None where it does not say."""
    said = headers.get("retry-after") or ""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time())
    except (TypeError, ValueError):
        return None
