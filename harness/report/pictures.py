"""Small copies of the images that samples are about, inside the page: an answer is judged best beside its picture.

Images that are files are read where they are. Those that a data set makes or unpacks are gone when a report is made, so
the driver keeps thumbnails of the few that may be shown. Where there is neither, the page shows no image.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from harness.media import thumbnail
from harness.records import Media
from harness.store.files import file_stem

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_KINDS = {".png": "image/png", ".jpg": "image/jpeg"}


def data_uri(key: str, folders: Sequence[Path]) -> str | None:
    """The image `key` as a data: address, from its own file or from a thumbnail in `folders`; None without either."""
    path = Path(key)
    if path.suffix.lower() in _ENDINGS and path.is_file():
        small = thumbnail(Media("image", key, path))
        return None if small is None else _uri(*small)
    copies = [folder / (file_stem(key) + ending) for folder in folders for ending in _KINDS]
    return next((_uri(copy.suffix, copy.read_bytes()) for copy in copies if copy.is_file()), None)


def _uri(ending: str, encoded: bytes) -> str:
    return f"data:{_KINDS[ending]};base64,{base64.b64encode(encoded).decode('ascii')}"
