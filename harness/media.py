"""Open what a `Media` refers to: any image as RGB, any sound as mono float32 at the rate that a model wants.

Models differ in what they expect and files in what they hold; here the two meet once, so that no adapter has to know
of EXIF rotation, palettes, 16 bits or stereo. What does not open raises SampleError naming the file and the row that
asked for it; the run goes on.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import stat
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes

import numpy as np

from harness.errors import MediaError, SampleError
from harness.records import Media

if TYPE_CHECKING:
    from PIL import Image


FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF", "ICO", "TGA", "PCX", "SGI")
"""The formats that are opened: those that Pillow decodes by itself. Left to choose, Pillow also hands what it takes for
PostScript to another program, Ghostscript, and a user's file must start no program."""

MOST_SAMPLES = 2**27
"""The most numbers that a sound may decode to, over all channels, at its own rate or at the one that is wanted: half a
GiB, or 2 h 20 min at 16 kHz. Silence packs so well that a small file can hold days of it."""


HIGHEST_RATE = 10_000_000
"""The most samples a second that a sound may have: recorders of ultrasound stay below."""
LOUDEST = 1e6
"""The largest sample that is taken for a sound. Files of floats may go over full scale, which is 1, but not so far."""


REMEMBERED = 2**28
"""How many bytes of decoded media are kept for questions that share them: 256 MiB, a few hundred photos."""


MOST_THREADS = 8
"""The most threads that prepare media at the same time. There is a bound because what each has in hand takes memory."""

THUMBNAIL_SIDE = 320
"""The most pixels along a thumbnail's longer side. It stays sharp at twice the size at which a report shows it."""
LOSSLESS_SIDE = 128
"""Thumbnails up to this many pixels along the longer side are kept as PNG, because JPEG would smear them."""


class Memory:
    """What was made before, by key. When it takes over `room` bytes, what was used longest ago is dropped. Threads may
    share it."""

    def __init__(self, room: int) -> None:
        self.room, self.taken = room, 0
        self._kept: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> Any:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: Any, made: Any, size: int) -> None:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made, size
                self.taken += size
            while self.taken > self.room:
                self.taken -= self._kept.popitem(last=False)[1][1]


_memory: Memory | None = None


@contextmanager
def remembered(room: int = REMEMBERED) -> Iterator[None]:
    """Within it a medium that is opened again is not decoded again, as far as `room` bytes reach.

    A latency pass does not use it: whoever asks a model waits for the decoding too.
    """
    global _memory
    _memory = Memory(room)
    try:
        yield
    finally:
        _memory = None


def _once(key: Any, decode: Callable[[], Any], size: Callable[[Any], int]) -> Any:
    """What `decode` gives, or what it gave before for the same key; a copy, as whoever opens a medium may change it."""
    memory = _memory
    if memory is None:
        return decode()
    decoded = memory.get(key)
    if decoded is None:
        decoded = decode()
        memory.put(key, decoded, size(decoded))
    return decoded.copy()


class Read(NamedTuple):
    """What was found when a medium was opened, by which it is told later whether it still is the same."""

    key: str
    sha256: str
    """The first 16 hex digits of the sha256 of its bytes."""
    size: int | None = None
    """Of a file: its size in bytes."""
    time: int | None = None
    """Of a file: when it was last changed, in nanoseconds as the system counts them."""


MOST_READS = 2**16
"""So many media are remembered as they were when they were opened last."""
_reads: OrderedDict[str, Read] = OrderedDict()
_reads_lock = threading.Lock()


def reads(media: Iterable[Media]) -> list[Read]:
    """Those of the media that this process has opened, each once, as they were then."""
    with _reads_lock:
        found = (_reads.get(key) for key in dict.fromkeys(medium.key for medium in media))
        return [read for read in found if read is not None]


def _note(key: str, content: bytes | memoryview, size: int | None = None, time: int | None = None) -> None:
    """Remember what a medium was when it was opened; its bytes are in memory anyway."""
    read = Read(key, hashlib.sha256(content).hexdigest()[:16], size, time)
    with _reads_lock:
        _reads[key] = read
        _reads.move_to_end(key)
        if len(_reads) > MOST_READS:
            _reads.popitem(last=False)


def in_parallel(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """What `work` makes of each item, in order; raises the first error.

    Several threads share the items, so that a GPU is not kept waiting while one processor decodes and resizes.
    """
    if threads() == 1 or len(items) < 2:
        return [work(item) for item in items]
    return list(_pool(threads()).map(work, items))


def threads() -> int:
    """How many threads prepare media. One processor is left to the thread that feeds the device."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_THREADS, cores - 1))


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="media")


def open_image(media: Media) -> Image.Image:
    """The image as RGB. It is turned as its EXIF tag says, transparent parts become white, 16 bits of grey become 8.

    Raises SampleError for a file that is absent, empty, cut short, too large or not an image.
    """
    from PIL import Image

    if isinstance(media.source, np.ndarray):
        pixels = np.ascontiguousarray(media.source)
        _note(media.key, pixels.data)
        return Image.fromarray(pixels)
    return _once(("image", media.key), lambda: _decoded_image(media), lambda image: 4 * image.width * image.height)


def _decoded_image(media: Media) -> Image.Image:
    from PIL import Image, ImageOps

    try:
        # Image.open refuses decompression bombs: more than 178,956,970 pixels.
        with Image.open(_file(media), formats=_formats()) as image:
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    except Image.UnidentifiedImageError as error:
        raise _failure(media, "this is not an image in a known format") from error
    except Exception as error:  # a decoder raises whatever a broken file leads it to
        raise _failure(media, str(error) or type(error).__name__) from error


def encoded(text: str) -> bytes | None:
    """The bytes of a medium that is written into a text, as base64 or as a data URI; None for the path of a file.

    A text of base64's letters (in either alphabet, with line breaks or without, padded or not) is a medium if its bytes
    begin as one does, or if it is longer than paths are. What is a medium's text for sure and yet damaged gives bytes
    that do not open.
    """
    if text[:5].lower() == "data:":
        head, _, body = text.partition(",")
        content = unquote_to_bytes(body)
        if head.rstrip().lower().endswith(";base64"):
            content = _from_base64(content.decode("latin-1"))
        return content or text.encode(errors="replace")
    if text[:2] in ("b'", 'b"') and text[-1] == text[1]:  # as Python prints bytes
        text = text[2:-1]
    content = _from_base64(text)
    if content is not None and ((_MAGIC.match(content) and len(content) > _SHORTEST) or len(text) > _LONGEST):
        return content
    return text.encode(errors="replace") if len(text) > 4 * _LONGEST else None


_SHORTEST = 24
"""No picture or sound has as few bytes, and a file's name may well begin as one does."""
_LONGEST = 1_024
"""A path of more characters than this has a point in it, before the ending of its file's name; no path at all is four
times as long."""
_MAGIC = re.compile(
    rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|BM.{4}\x00{4}|P[1-6]\s|II\*\x00|MM\x00\*|\x00\x00\x01\x00.\x00"
    rb"|\x00{3}\x0cjP  |.{4}ftyp|RIFF.{4}(WEBP|WAVE)|OggS|fLaC|ID3",
    re.DOTALL,
)
"""How the bytes of pictures and sounds begin."""


def _from_base64(text: str) -> bytes | None:
    """What a text of base64's letters stands for; None where there are other characters in it."""
    if "." in text:  # the usual path
        return None
    letters = "".join(text.split()).replace("\\n", "").replace("\\r", "").rstrip("=")
    if not re.fullmatch(r"[A-Za-z0-9+/_-]{8,}", letters):
        return None
    letters = letters[
        : len(letters) - (len(letters) % 4 == 1)
    ]  # a single letter at the end, where it is cut, says nothing
    return base64.urlsafe_b64decode(letters.replace("+", "-").replace("/", "_") + "=" * (-len(letters) % 4))


def contents(media: Sequence[Media]) -> list[str]:
    """For each medium a name that exactly those share whose bytes are equal.

    Only where two have as many bytes are these read, in small parts, and a process reads a file that did not change
    once. An array is known by its key, and so is what is empty or cannot be read: it stands by itself.
    """
    sizes = {medium: _size(medium) for medium in media}
    alike = Counter(sizes.values())
    return [
        f"{medium.kind} {_digest(medium) if size and alike[size] > 1 else medium.key}"
        for medium, size in ((medium, sizes[medium]) for medium in media)
    ]


def _size(media: Media) -> int:
    """How many bytes a file or an encoded file has; 0 for an array and for what is absent."""
    if isinstance(media.source, bytes):
        return len(media.source)
    try:
        return os.stat(media.source).st_size if isinstance(media.source, Path) else 0
    except (OSError, ValueError):
        return 0


def _digest(media: Media) -> str:
    """The beginning of the sha256 of a medium's bytes; its key where they cannot be read."""
    if isinstance(media.source, bytes):
        return hashlib.sha256(media.source).hexdigest()[:24]
    assert isinstance(media.source, Path)
    try:
        found = media.source.stat()
        return _file_digest(media.source, found.st_size, found.st_mtime_ns)
    except OSError:
        return media.key


@lru_cache(2**16)
def _file_digest(path: Path, size: int, changed: int) -> str:
    """The digest of a file that has this size and was changed at this time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:24]


def thumbnail(media: Media) -> tuple[str, bytes] | None:
    """The image at most THUMBNAIL_SIDE pixels wide and high, as (file ending, encoded bytes): ".png" or ".jpg".

    None where the image does not open: the record of its sample says why.
    """
    try:
        image = open_image(media)
    except SampleError:
        return None
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    encoded = io.BytesIO()
    if max(image.size) <= LOSSLESS_SIDE:
        image.save(encoded, "PNG", optimize=True)
        return ".png", encoded.getvalue()
    image.save(encoded, "JPEG", quality=80)
    return ".jpg", encoded.getvalue()


def open_audio(media: Media, rate: int) -> np.ndarray:
    """The sound as float32 [n] within -1..1, its channels averaged, resampled to `rate` samples a second.

    Raises SampleError for a file that is absent, empty, cut short, too long, without sound or in no known format.
    """
    return _once(("audio", media.key, rate), lambda: _decoded_audio(media, rate), lambda sound: sound.nbytes)


def _decoded_audio(media: Media, rate: int) -> np.ndarray:
    import soundfile

    if isinstance(media.source, np.ndarray):
        if media.rate is None:
            raise _failure(media, "the array comes without its rate")
        sound, found = np.asarray(media.source, np.float32), media.rate
        _note(media.key, np.ascontiguousarray(sound).data)
    else:
        try:
            encoded = _file(media)
            _refuse_cut_sound(encoded.getbuffer())
            with soundfile.SoundFile(encoded) as file:
                found = file.samplerate
                if found > HIGHEST_RATE:
                    raise ValueError(f"its header is impossible: {found:,} samples a second")
                longest = max(1, file.channels, rate / found) * file.frames
                if longest > MOST_SAMPLES:
                    raise ValueError(f"it is too long: {file.frames / found:.0f} s decode to {longest:.0f} numbers")
                sound = file.read(dtype="float32")
                if 2 * len(sound) < file.frames:  # a packed file's claim may be somewhat off
                    claimed = f"it claims {file.frames:,} samples and has {len(sound):,}"
                    raise ValueError(f"its header is impossible: {claimed}")
        except soundfile.LibsndfileError as error:
            raise _failure(media, error.error_string) from error
        except Exception as error:  # a decoder raises whatever a broken file leads it to
            raise _failure(media, str(error) or type(error).__name__) from error
    if sound.ndim == 2:
        sound = sound.mean(axis=1)
    if not len(sound):
        raise _failure(media, "it holds no sound")
    if not np.isfinite(sound).all():
        raise _failure(media, "it holds samples that are not finite numbers")
    if (loudest := float(np.abs(sound).max())) > LOUDEST:
        raise _failure(media, f"it holds samples of {loudest:.0e}, which are no sound: full scale is 1")
    if found != rate:
        import soxr

        sound = soxr.resample(sound, found, rate)
    return np.ascontiguousarray(sound, dtype=np.float32)


@cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow was built with."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def decoded_size(media: Media) -> int:
    """How many bytes a medium takes when it is decoded, as its header says; 0 for one that does not open, which tells
    why when it is opened."""
    if isinstance(media.source, np.ndarray):
        return media.source.nbytes
    try:
        source: Any = io.BytesIO(media.source) if isinstance(media.source, bytes) else media.source
        if isinstance(media.source, Path):
            regular(media.source)
        if media.kind == "audio":
            import soundfile

            sound = soundfile.info(source)
            return 4 * sound.frames * sound.channels
        from PIL import Image

        with Image.open(source, formats=_formats()) as image:
            return 4 * image.width * image.height  # Pillow keeps four bytes a pixel of RGB
    except Exception:  # a decoder raises whatever a broken file leads it to
        return 0


def original(media: Media) -> bytes:
    """A medium's encoded bytes as they stand in its file; raises SampleError where they cannot be read.

    Not for an array, which has none.
    """
    try:
        return _file(media).getvalue()
    except (OSError, ValueError) as error:
        raise _failure(media, str(error)) from error


def _file(media: Media) -> io.BytesIO:
    """A medium's encoded bytes; raises OSError or ValueError with a reason."""
    if isinstance(media.source, Path):
        found = regular(media.source)
        with media.source.open("rb") as file:
            encoded = file.read()
        _note(media.key, encoded, found.st_size, found.st_mtime_ns)
    elif isinstance(media.source, bytes):
        encoded = media.source
        _note(media.key, encoded)
    else:
        raise ValueError(f"its source is of type {type(media.source).__name__}, not a path, bytes or an array")
    if not encoded:
        raise ValueError("it is empty (0 bytes)")
    return io.BytesIO(encoded)


def regular(path: Path) -> os.stat_result:
    """What the system knows of a file; raises OSError where there is none, and ValueError for what is not one.

    A pipe would be waited for, a device read without end, and what lies under /proc or /sys is the system's own.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or path.resolve().parts[1:2] in (("proc",), ("sys",)):
        raise ValueError("it is not a file of data but a folder, a pipe, a device or the system's own")
    return found


def _refuse_cut_sound(encoded: memoryview) -> None:
    """Raise ValueError for a WAV or Ogg file that ends early: the decoder would play what is left as the whole."""
    if encoded[:4] == b"RIFF":
        promised = int.from_bytes(encoded[4:8], "little")
        cut = promised != 0xFFFFFFFF and promised > len(encoded)  # a stream's writer cannot know the size
    elif encoded[:4] == b"OggS":
        last = bytes(encoded[-65_307:])  # the longest page there is
        page = last[last.rfind(b"OggS") :]
        length = 27 + page[26] + sum(page[27 : 27 + page[26]]) if len(page) > 26 else len(page) + 1
        cut = length > len(page) or not page[5] & 4  # not whole, or not marked as the last
    else:
        return
    if cut:
        raise ValueError("it is cut short")


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        return _grey(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    """An image of integers or floats of 16 bits or more as RGB.

    Its numbers stay as they are where all fit into a byte; 16-bit ones are divided by 257, and larger ones scaled so
    that the largest becomes 255. Floats that all lie within 0..1 are shares of white. What is no number is black.
    """
    from PIL import Image

    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    if image.mode == "F" and values.min(initial=0) >= 0 and values.max(initial=0) <= 1:
        values *= 255
    values = values.clip(0)
    top = values.max(initial=0)
    sixteen = image.mode.startswith("I;16") or top > 255
    scale = 1.0 if not sixteen else 257.0 if top <= 65535 else top / 255
    return Image.fromarray((values / scale).round().astype(np.uint8)).convert("RGB")


def _failure(media: Media, reason: str) -> MediaError:
    file = str(media.source) if isinstance(media.source, Path) else "its data"
    if isinstance(media.source, Path) and not os.path.exists(media.source):
        reason = "there is no such file"
    where = f" ({media.where})" if media.where else ""
    return MediaError(f"The {media.kind} {file}{where} does not open: {reason}.")
