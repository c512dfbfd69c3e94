"""Small copies of the images that samples are about, inside the page: an answer is judged best beside its picture.

Only images that are files on this machine can be shown; where a report is made elsewhere, the pages do without.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

from harness.errors import SampleError
from harness.media import open_image
from harness.records import Media

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_SIDE = 320
"""Pixels of the longer side: sharp at twice the size that it is shown at."""


def data_uri(key: str) -> str | None:
    """A JPEG of the medium `key` as a data: address; None where that is no image file, or one that does not open."""
    path = Path(key)
    if path.suffix.lower() not in _ENDINGS or not path.is_file():
        return None
    try:
        image = open_image(Media("image", key, path))
    except SampleError:  # the sample's own record says why
        return None
    image.thumbnail((_SIDE, _SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")
