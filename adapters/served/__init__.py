"""Models behind an endpoint that speaks OpenAI's protocol, whoever runs it: here their settings.

base.py       what all of them share: key, server, name, the parts of a message
chat.py       chat models: requests become messages, replies become answers
embeddings.py embedding models
endpoint.py   connections, retries and pace: all that is said to one endpoint goes through here
replies.py    what an endpoint's reply means, an error above all
content.py    pictures and sound as they are sent
server.py     a server that the harness starts, and `keeper.py` that ends it
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from harness.config.specs import LONGEST, EndpointSpec, ServerSpec
from harness.config.values import setting


@dataclass
class ServedSpec(EndpointSpec):
    """Settings of a model that is asked over HTTP."""

    not_in_fingerprint: ClassVar[tuple[str, ...]] = (
        *EndpointSpec.not_in_fingerprint,
        *("requests_per_minute", "tokens_per_minute", "timeout_s", "retries", "launch"),
    )

    model: str = ""
    """Its name at the endpoint; empty: the first that the endpoint lists under /models."""
    requests_per_minute: float | None = setting(None, above=0)
    """The most requests that are begun in a minute; None: as many as `concurrency` allows."""
    tokens_per_minute: float | None = setting(None, above=0)
    """The most tokens, of requests and answers together, that are asked for in a minute."""
    timeout_s: float = setting(600.0, above=0, most=LONGEST)
    """The longest that one call may take; a model that reasons may need 1800."""
    retries: int = setting(6, most=100)
    """How often a request is asked again after an error that may pass."""
    image_limit_px: int | None = setting(None, least=1)
    """The most pixels along an image's longer side; larger ones are scaled down."""
    image_limit_mb: float | None = setting(None, above=0)
    """The most megabytes (10^6 bytes) of an image as it is sent, in base64; larger ones are encoded anew until they
    fit."""
    detail: str = ""
    """What the endpoint is told of each image: low, high, auto, or nothing."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Further keys of each request's body, which beat the adapter's own; a key that is null is not sent at all."""
    limit_name: str = setting("max_tokens", of=("max_tokens", "max_completion_tokens"))
    """The name under which the endpoint takes the most tokens of an answer: max_tokens or max_completion_tokens."""
    system: str = ""
    """A system message before each request."""
    seed: int | None = None
    """The seed that the endpoint is given; None: none."""
    launch: ServerSpec | None = None
    """The server that the harness starts for it, from the file in conf/server/ that `server` names; None: there is one
    already."""

    @property
    def remote(self) -> bool:
        return self.launch is None

    @property
    def patience_s(self) -> float:
        ready_s = self.launch.ready_s if self.launch else 0.0
        return ready_s + (self.retries + 1) * self.timeout_s
