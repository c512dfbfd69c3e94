"""One endpoint: its connections, the pace at which it is asked, and the one place where a request is asked again.

Each request is a blocking call in a thread of its own, over connections that are kept: with 64 of them that costs a
third of httpx2's CPU time and less than twice aiohttp's, keeps them as busy as that does, and needs no package
(tests/benchmarks/served.py). When the endpoint has too much to do, all wait together, and then fewer are asked at once
until it keeps up.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from harness.errors import SampleError, UserError

from .replies import Assembled, Denied, Passing, error_of

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a request is asked again: doubled from try to try, and drawn from the upper half of that."""
MOST_BYTES = 2**26
"""The most bytes of a reply: what is longer is no answer."""


Read = TypeVar("Read")


class Stopped(Exception):
    """Nobody waits for the answers any more."""


class Pace:
    """When the next request may be sent."""

    def __init__(self, concurrency: int, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self.most = self.allowed = float(max(1, concurrency))
        """`allowed` of them at once: halved when the endpoint has too much to do, and grown as it answers."""
        self._stop = threading.Event()
        self._of_request = 60 / requests_per_minute if requests_per_minute else 0.0
        self._of_token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._under_way = 0
        self._next = self._until = 0.0
        self._changed = threading.Condition()
        """Only those wait for it that would send: a place that is free is told to two of them."""

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def enter(self, tokens: float) -> None:
        """Wait until a request of about so many tokens may be sent; raises Stopped after `stop`."""
        with self._changed:
            while True:
                if self.stopped:
                    raise Stopped
                now = time.monotonic()
                wait = max(self._next, self._until) - now
                if wait <= 0 and self._under_way < int(self.allowed):
                    break
                self._changed.wait(wait if wait > 0 else None)
            self._under_way += 1
            self._next = max(now, self._next) + max(self._of_request, self._of_token * tokens)

    def leave(self, answered: bool, more_tokens: float = 0.0) -> None:
        """A request that was sent has its reply, which took so many more tokens than was thought."""
        with self._changed:
            self._under_way -= 1
            if answered:
                self.allowed = min(self.most, self.allowed + 1 / self.allowed)
                self._next += self._of_token * more_tokens
            self._changed.notify(2)

    def hold(self, seconds: float) -> None:
        """Send nothing for so long, and then less at once."""
        with self._changed:
            now = time.monotonic()
            if now >= self._until:
                self.allowed = max(1.0, self.allowed / 2)
            self._until = max(self._until, now + seconds)

    def sleep(self, seconds: float) -> None:
        """Wait so long for one request's own sake; raises Stopped after `stop`."""
        if self._stop.wait(seconds):
            raise Stopped

    def stop(self) -> None:
        """Nothing is sent any more."""
        with self._changed:
            self._stop.set()
            self._changed.notify_all()


class Endpoint:
    """An endpoint at `base_url`, such as https://example.com/v1. Threads may share it."""

    def __init__(self, base_url: str, key: str, pace: Pace, timeout_s: float, retries: int) -> None:
        parts = urlsplit(base_url.rstrip("/"))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"base_url: '{base_url}' is no address such as https://example.com/v1.")
        if parts.username or parts.password or parts.query:
            raise UserError("base_url: an address holds neither a password nor a query; a key belongs in api_key_env.")
        self.base_url, self.pace, self.timeout_s, self.retries = base_url.rstrip("/"), pace, timeout_s, retries
        self.answered_at = 0.0
        """When the last reply of status 200 came, by the monotonic clock; 0: none came yet."""
        self._parts = parts
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._headers = {"Content-Type": "application/json", "User-Agent": "multimodal-harness"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._proxy = _proxy_for(parts)
        self._idle: deque[http.client.HTTPConnection] = deque()

    def close(self) -> None:
        """Stop all requests that wait, and close the connections."""
        self.pace.stop()
        while self._idle:
            self._idle.pop().close()

    def get(self, path: str) -> dict[str, Any]:
        """The JSON of a page; raises what `ask` does."""
        return self._attempts(lambda: self._exchange("GET", path, None, None), dict, 0)

    def ask(
        self,
        path: str,
        body: Mapping[str, Any],
        read: Callable[[dict[str, Any]], Read],
        tokens: float = 0,
        on_text: Callable[[], None] | None = None,
    ) -> Read:
        """What `read` makes of the reply to a request of about so many tokens. `on_text` is called as pieces of a
        streamed answer come.

        Raises SampleError, Refused or Denied where the endpoint will not answer this request, OutOfBudget where it
        wants to be paid, UserError where it is not there, and Stopped after `close`.
        """
        payload = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        return self._attempts(lambda: self._exchange("POST", path, payload, on_text), read, tokens)

    def _attempts(
        self, call: Callable[[], dict[str, Any]], read: Callable[[dict[str, Any]], Read], tokens: float
    ) -> Read:
        retries = self.retries
        for attempt in range(retries + 1):
            self.pace.enter(tokens)
            reply, own, answered = None, 0.0, False
            try:
                reply = call()
                found = read(reply)
                self.answered_at, answered = time.monotonic(), True
                return found
            except Passing as error:
                pause = error.wait
                if pause is None:
                    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1)
                if error.for_all:
                    self.pace.hold(pause)
                if error.gone and not self.answered_at:
                    raise UserError(f"{self.base_url} cannot be reached: {error}. Is the server up?") from error
                if attempt == retries:
                    tries = f"after {attempt + 1} tries"
                    if error.gone:
                        raise UserError(f"{self.base_url} is not there any more, {tries}: {error}") from error
                    raise SampleError(f"no answer {tries}: {error}") from error
                own = 0.0 if error.for_all else pause
            finally:
                used = (reply or {}).get("usage") or {}
                total = used.get("total_tokens") if isinstance(used, Mapping) else None
                self.pace.leave(answered, total - tokens if isinstance(total, int) else 0.0)
            self.pace.sleep(own)
        raise AssertionError("unreachable: the last attempt returns or raises")

    # One exchange ------------------------------------------------------------------------------------------------

    def _exchange(
        self, method: str, path: str, payload: bytes | None, on_text: Callable[[], None] | None
    ) -> dict[str, Any]:
        """Send one request and read its reply, within `timeout_s`; raises Passing for what the network does."""
        end = time.monotonic() + self.timeout_s
        try:
            connection, response = self._sent(method, path, payload)
        except (OSError, http.client.HTTPException) as error:
            raise Passing(_reason(error), gone=_is_gone(error)) from error
        try:
            streamed = response.status == 200 and "event-stream" in (response.getheader("Content-Type") or "")
            reply = _events(response, end, on_text) if streamed else _read(response, end)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Passing(_reason(error)) from error
        except BaseException:
            connection.close()
            raise
        if streamed or response.will_close:  # what follows a stream's end is not waited for
            connection.close()
        else:
            self._idle.append(connection)
        if isinstance(reply, dict):
            return reply
        if response.status != 200:
            if 300 <= response.status < 400:
                raise Denied(response.status, f"moved to {response.getheader('Location')}: set base_url to it")
            raise error_of(response.status, {k.lower(): v for k, v in response.getheaders()}, reply)
        try:
            found = json.loads(reply)
        except ValueError as error:
            raise Passing("half an answer came") from error
        if not isinstance(found, dict):
            raise Denied(200, "what came is no reply of such an endpoint")
        return found

    def _sent(
        self, method: str, path: str, payload: bytes | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """A connection with the head of its response. A kept one that the endpoint has closed is replaced by a new
        one."""
        proxied = self._proxy and self._tls is None
        target = f"{self.base_url if proxied else self._parts.path}{path}"
        headers = self._headers | _password(self._proxy) if proxied else self._headers
        while True:
            try:
                connection, kept = self._idle.pop(), True
            except IndexError:
                connection, kept = self._connection(), False
            try:
                connection.request(method, target, payload, headers)
                return connection, connection.getresponse()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                connection.close()
                if not kept:
                    raise
            except BaseException:
                connection.close()
                raise

    def _connection(self) -> http.client.HTTPConnection:
        proxy = self._proxy
        host, port = self._parts.hostname or "", self._parts.port
        first = (proxy.hostname or "", proxy.port) if proxy else (host, port)
        if self._tls is None:
            return http.client.HTTPConnection(*first, timeout=self.timeout_s)
        connection = http.client.HTTPSConnection(*first, timeout=self.timeout_s, context=self._tls)
        if proxy:
            connection.set_tunnel(host, port, _password(proxy))
        return connection


def _proxy_for(address: SplitResult) -> SplitResult | None:
    """The proxy that the environment names for an address; None for this machine, which no proxy elsewhere reaches."""
    host = address.hostname or ""
    proxy = getproxies().get(address.scheme)
    if not proxy or host == "localhost" or host.startswith("127.") or host == "::1" or proxy_bypass(address.netloc):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _password(proxy: SplitResult | None) -> dict[str, str]:
    """The header with the name and the password that a proxy's address holds; none where it holds none."""
    if proxy is None or not proxy.username:
        return {}
    said = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(said.encode()).decode()}"}


def _read(response: http.client.HTTPResponse, end: float) -> str:
    found, size = [], 0
    while part := response.read1(2**16):
        found.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise Denied(response.status, f"its reply is longer than {MOST_BYTES:,} bytes")
        if time.monotonic() > end:
            raise TimeoutError("timed out")
    if response.length:
        raise Passing("half an answer came")
    response.close()
    return b"".join(found).decode("utf-8", "replace")


def _events(response: http.client.HTTPResponse, end: float, on_text: Callable[[], None] | None) -> dict[str, Any]:
    """A streamed reply, put together."""
    reply, size = Assembled(), 0
    while line := response.readline(MOST_BYTES):
        size += len(line)
        if size > MOST_BYTES:
            raise Denied(response.status, f"its reply is longer than {MOST_BYTES:,} bytes")
        if time.monotonic() > end:
            raise TimeoutError("timed out")
        field, _, value = line.decode("utf-8", "replace").strip().partition(":")
        if field != "data":
            continue
        if value.strip() == "[DONE]":
            reply.done = True
            break
        try:
            event = json.loads(value)
        except ValueError as error:
            raise Passing("half an answer came") from error
        if isinstance(event, dict) and reply.add(event) and on_text:
            on_text()
    return reply.whole()


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()


def _is_gone(error: Exception) -> bool:
    """Whether nothing listens there, or there is no such host; an unfit certificate counts."""
    return (
        isinstance(error, ConnectionRefusedError | ssl.SSLCertVerificationError) or type(error).__name__ == "gaierror"
    )
