"""What a cell of a table says: nothing, one text, or several. All sources of tables read their cells here.

Tables come from people, from pandas and from the hub, and each writes "nothing" and "several" in a way of its own. What
they mean is decided once, so that no missing option reads "nan" and no year reads "1990.0".
"""

from __future__ import annotations

import ast
import io
import json
import math
import tokenize
from collections.abc import Mapping
from typing import Any


def empty(value: Any) -> bool:
    """Whether a value says nothing: None, NaN, or a text without a character."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or (isinstance(value, str) and not value)


def texts(cell: Any) -> list[str]:
    """The texts in a cell, without outer blanks. An empty place of a list is "", an empty cell gives no text.

    None, NaN and blank texts are empty. A whole number that pandas made a float is written as a whole number. Raises
    ValueError for an object, and for a list of lists.
    """
    if isinstance(cell, list | tuple):
        return [_text(part) for part in cell]
    text = _text(cell)
    return [text] if text else []


def listed(text: str) -> list[str] | None:
    """The texts of a list that is written as a text, such as "['a', 'b']", in Python's, JSON's or numpy's way; None for
    any other text. Nothing in it is executed. Raises ValueError for a list of objects or lists.
    """
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
        written = _strings(text)
        if all(isinstance(part, str) for part in found) and len(written) > len(found):  # numpy writes no commas
            found = written
    return texts(found)


def _strings(text: str) -> list[str]:
    """The string literals in a text that is Python's."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [ast.literal_eval(token.string) for token in tokens if token.type == tokenize.STRING]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if empty(value):
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, Mapping | list | tuple):
        kind = "an object" if isinstance(value, Mapping) else "a list within a list"
        raise ValueError(f"it holds {kind}, where a text, a number or a list of these belongs")
    return str(value).strip()
