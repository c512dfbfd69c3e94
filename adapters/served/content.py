"""Pictures and sound as an endpoint takes them: base64 within a message, each encoded once.

A file is sent as it is where every server reads it alike: a JPEG or PNG in RGB that needs no turning. All others, and
those above the endpoint's limits, are encoded anew, so that a served model sees the very pixels that one here does.
"""

from __future__ import annotations

import base64
import io
import math
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.errors import SampleError
from harness.media import Memory, open_audio, open_image, original
from harness.records import Media

if TYPE_CHECKING:
    from PIL.Image import Image

KEPT = 2**28
"""How many characters of encoded media are kept for requests that share them."""
SOUND_RATE = 16_000
"""Samples a second of a sound that is encoded anew."""
PIXELS_OF_TOKEN = 28 * 28
"""About so many pixels of an image are a token."""
ORIENTATION = 0x0112


class Sent(NamedTuple):
    """A medium as a part of a message."""

    part: dict[str, Any]
    tokens: int
    """About how many it has."""
    scaled: bool = False
    """Whether it is less than the original, because the endpoint has limits."""


class Encoder:
    """Makes parts of messages from media, for one endpoint's limits. Threads may share it."""

    def __init__(self, limit_px: int | None = None, limit_mb: float | None = None, detail: str = "") -> None:
        self.limit_px, self.limit_mb, self.detail = limit_px, limit_mb, detail
        self.encoded = 0
        """How often a medium was encoded."""
        self._memory = Memory(KEPT)
        self._locks = [threading.Lock() for _ in range(64)]

    def part(self, media: Media) -> Sent:
        """The medium as a part; raises SampleError for one that does not open or cannot be made to fit."""
        key = (media.kind, media.key)
        with self._locks[hash(key) % len(self._locks)]:  # one thread encodes what several ask for
            sent = self._memory.get(key)
            if sent is None:
                sent, size = self._image(media) if media.kind == "image" else self._sound(media)
                self.encoded += 1
                self._memory.put(key, sent, size)
            return sent

    def _image(self, media: Media) -> tuple[Sent, int]:
        image = open_image(media)
        side = max(image.size)
        encoded, kind = (None, "") if isinstance(media.source, np.ndarray) else _as_it_is(original(media))
        scaled = bool(self.limit_px and side > self.limit_px)
        if self.limit_px and scaled:
            image, encoded = _scaled(image, self.limit_px / side), None
        if encoded is None:
            encoded, kind = _png(image), "png"
        while self.limit_mb and 4 * math.ceil(len(encoded) / 3) > self.limit_mb * 1e6:
            if max(image.size) < 32:
                raise SampleError(f"The image {media.where or media.key} does not fit into {self.limit_mb} MB.")
            if kind == "jpeg" and scaled:
                image = _scaled(image, 0.75)
            encoded, kind, scaled = _jpeg(image), "jpeg", True
        text = base64.b64encode(encoded).decode()
        url: dict[str, Any] = {"url": f"data:image/{kind};base64,{text}"}
        if self.detail:
            url["detail"] = self.detail
        tokens = math.ceil(image.width * image.height / PIXELS_OF_TOKEN)
        return Sent({"type": "image_url", "image_url": url}, tokens, scaled), len(text)

    def _sound(self, media: Media) -> tuple[Sent, int]:
        sound = open_audio(media, SOUND_RATE)
        encoded, kind = (b"", "") if isinstance(media.source, np.ndarray) else (original(media), "wav")
        if encoded[:4] != b"RIFF":
            import soundfile

            file = io.BytesIO()
            soundfile.write(file, sound, SOUND_RATE, format="WAV", subtype="PCM_16")
            encoded, kind = file.getvalue(), "wav"
        text = base64.b64encode(encoded).decode()
        tokens = math.ceil(32 * len(sound) / SOUND_RATE)
        return Sent({"type": "input_audio", "input_audio": {"data": text, "format": kind}}, tokens), len(text)


def _as_it_is(encoded: bytes) -> tuple[bytes | None, str]:
    """A file's bytes with its kind, if every server reads it alike; else None."""
    from PIL import Image

    kind = "jpeg" if encoded[:3] == b"\xff\xd8\xff" else "png" if encoded[:6] == b"\x89PNG\r\n" else ""
    if kind:
        with Image.open(io.BytesIO(encoded)) as image:
            plain = image.mode in ("RGB", "L") and "transparency" not in image.info
            if plain and image.getexif().get(ORIENTATION, 1) == 1:
                return encoded, kind
    return None, ""


def _scaled(image: Image, share: float) -> Image:
    return image.resize((max(1, int(image.width * share)), max(1, int(image.height * share))))


def _png(image: Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)  # fast: what matters is that nothing is lost
    return file.getvalue()


def _jpeg(image: Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
