"""A font for Chinese labels: matplotlib draws boxes for what its own font lacks, and a bare machine has no other."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from harness.report.strings import Strings

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry

_USUAL = (
    "Noto Sans CJK",
    "Source Han Sans",
    "PingFang",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "WenQuanYi",
    "SimHei",
    "Heiti",
)
"""These are looked at first, because it takes long to read the character map of every installed font."""


def families(texts: Iterable[str], strings: Strings) -> tuple[list[str], Strings]:
    """The font families that can draw `texts`, in the order in which a character is looked up in them, and the strings
    for labels.

    Where no installed font has the Chinese characters, the strings are the English ones and one warning is logged.
    """
    usual = ["DejaVu Sans"]
    characters = frozenset(c for text in texts for c in text if ord(c) >= 0x2E80)
    if not characters:
        return usual, strings
    family = having(characters)
    if family is not None:
        return [*usual, family], strings
    logging.getLogger(__name__).warning(strings("no_font"))
    return usual, Strings("en")


@cache
def having(characters: frozenset[str]) -> str | None:
    """The first installed family, upright and neither light nor bold, that has all these characters, or None."""
    from matplotlib import font_manager

    known = list(font_manager.fontManager.ttflist)
    if (found := _first(known, characters)) is not None:
        return found
    # matplotlib keeps its list of fonts between runs: one that was installed since, as we may have advised, is missing.
    paths = {font.fname for font in known}
    for path in font_manager.findSystemFonts():
        if path not in paths:
            with suppress(OSError, RuntimeError):
                font_manager.fontManager.addfont(path)
    return _first(font_manager.fontManager.ttflist[len(known) :], characters)


def _first(candidates: Iterable[FontEntry], characters: frozenset[str]) -> str | None:
    """The first of these fonts that has all the characters.

    The font that newer versions of matplotlib bring as a last resort is passed over: it has a box for every character.
    """
    from matplotlib import ft2font

    fonts = [
        font
        for font in candidates
        if font.style == "normal"
        and font.weight in (400, 500, "normal", "regular", "medium")
        and "Last Resort" not in font.name
    ]
    place = {usual: position for position, usual in enumerate(_USUAL)}
    fonts.sort(key=lambda font: min((p for usual, p in place.items() if usual in font.name), default=len(_USUAL)))
    codes = {ord(c) for c in characters}
    for font in fonts:
        try:
            found = ft2font.FT2Font(font.fname).get_charmap()
        except (OSError, RuntimeError):
            continue
        if codes <= found.keys():
            return font.name
    return None
