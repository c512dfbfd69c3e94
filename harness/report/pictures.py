"""Small copies of the images that samples are about, inside the page: an answer is judged best beside its picture.

Images that are files are read where they are. Those that a data set makes or unpacks are gone when a report is made, so
the driver keeps copies of the few that may be shown. A page that finds neither does without.
"""

from __future__ import annotations

import base64
import heapq
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import SampleError
from harness.media import open_image
from harness.records import Media, Sample
from harness.report.formats import file_stem
from harness.report.samples import DRAWN, order

if TYPE_CHECKING:
    from PIL import Image

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_SIDE = 320
"""Pixels of the longer side: sharp at twice the size that it is shown at."""
_LOSSLESS = 128
"""Images up to this size are kept as PNG: JPEG would smear them."""
_KINDS = {".png": "image/png", ".jpg": "image/jpeg"}


def keep(samples: Iterable[Sample], folder: Path) -> None:
    """Write copies into `folder` of the images, other than files, of the samples that a report may show."""
    drawn = heapq.nsmallest(DRAWN, samples, key=lambda sample: order(sample.cluster, sample.id))
    images = {medium for sample in drawn for medium in sample.media if medium.kind == "image"}
    for medium in images:
        if not isinstance(medium.source, Path) and (image := _small(medium)) is not None:
            folder.mkdir(parents=True, exist_ok=True)
            ending, encoded = _encoded(image)
            (folder / (file_stem(medium.key) + ending)).write_bytes(encoded)


def data_uri(key: str, folders: Sequence[Path]) -> str | None:
    """The image `key` as a data: address, from its own file or a copy in `folders`; None where there is neither."""
    path = Path(key)
    if path.suffix.lower() in _ENDINGS and path.is_file():
        image = _small(Media("image", key, path))
        return None if image is None else _uri(*_encoded(image))
    copies = [folder / (file_stem(key) + ending) for folder in folders for ending in _KINDS]
    return next((_uri(copy.suffix, copy.read_bytes()) for copy in copies if copy.is_file()), None)


def _small(medium: Media) -> Image.Image | None:
    """The image at most _SIDE pixels wide and high; None where it does not open, which its record says already."""
    try:
        image = open_image(medium)
    except SampleError:
        return None
    image.thumbnail((_SIDE, _SIDE))
    return image


def _encoded(image: Image.Image) -> tuple[str, bytes]:
    out = io.BytesIO()
    if max(image.size) <= _LOSSLESS:
        image.save(out, "PNG", optimize=True)
        return ".png", out.getvalue()
    image.save(out, "JPEG", quality=80)
    return ".jpg", out.getvalue()


def _uri(ending: str, encoded: bytes) -> str:
    return f"data:{_KINDS[ending]};base64,{base64.b64encode(encoded).decode('ascii')}"
