"""Keys and passwords: they stand in environment variables that settings name, and nowhere in a file or a log.

A run folder, a report and a log are passed on, so a setting that holds a key is refused, and the value of a variable
that settings name (`api_key_env`) is replaced by *** in all that is written or said.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

_NAMED = {"HF_TOKEN"}
"""The environment variables whose values are kept secret by this process."""
SHORTEST = 12
"""A value of fewer characters is no key, and would be found in innocent words."""
_NAME = re.compile(r"(key|secret|password|token|authorization)$", re.IGNORECASE)
_BEGINNING = re.compile(r"(sk-|hf_|ghp_)")
_SPECIAL_TOKEN = re.compile(r"<.*>|\[\w+\]")
"""A tokeniser's own, such as <|end_of_text|>, which is nobody's secret."""

ADVICE = (
    "a key has no place in settings, which are kept with the run. Put it in an environment variable and say the "
    "variable's name with api_key_env."
)


def name_variables(options: Any) -> None:
    """Keep the values of the environment variables secret that `api_key_env` names, at any depth of `options`."""
    for key, value in _texts(options):
        if key.rpartition(".")[2] == "api_key_env" and value:
            _NAMED.add(value)


def masked(text: str) -> str:
    """The text with *** in the place of every value of a named variable, also as it is written in JSON."""
    for name in _NAMED:
        value = os.environ.get(name, "").strip()
        if len(value) >= SHORTEST:
            for form in (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):
                if form in text:
                    text = text.replace(form, "***")
    return text


def secret_in(options: Any) -> str:
    """The name, such as "headers.authorization", of a setting that holds a key; empty where none does."""
    return next((key for key, value in _texts(options) if is_secret(key, value)), "")


def is_secret(name: str, value: str) -> bool:
    """Whether a setting of this name with this text holds a key."""
    if _BEGINNING.match(value):
        return True
    last = name.rpartition(".")[2]
    return len(value) >= 16 and bool(_NAME.search(last)) and not _SPECIAL_TOKEN.fullmatch(value)


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """All texts in nested settings, with their dotted names; those in a list have the name of the list."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, name)
    elif isinstance(value, str):
        yield name, value.strip()
