"""What the value of a setting may be: said beside the setting (harness/config/specs.py), checked here for all of them.

Types alone let a negative time, a number that is none (nan) and a misspelt word pass.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, field, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from harness.errors import nearest

LARGEST = 2**63 - 1
"""No setting is a larger whole number: what lies beyond is a slip, and libraries do not take it."""
_DIGITS = 300
"""Numbers among the free values of a mapping have at most so many digits."""


def setting(
    default: Any, *, least: float = 0, above: float | None = None, most: float | None = None, of: Sequence[str] = ()
) -> Any:
    """A field of a settings class that says which values it takes: numbers from `least` (or above `above`) to `most`,
    or the words `of`. A number of a field that says nothing is at least 0."""
    says = {"least": least, "above": above, "most": most, "of": tuple(of)}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=says)
    return field(default=default, metadata=says)


def faults(spec: Any, within: str = "") -> Iterator[tuple[str, Any, str]]:
    """Of each setting that has a value which it cannot have: its name, the value, and what to give instead."""
    kinds = get_type_hints(type(spec))
    for setting_ in fields(spec):
        name, value = f"{within}{setting_.name}", getattr(spec, setting_.name)
        if is_dataclass(value):
            yield from faults(value, f"{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if kinds[setting_.name] is not Any and not _in_range(value, setting_):
                yield name, value, allowed(type(spec), setting_.name)
        elif words := setting_.metadata.get("of"):
            for word in value if isinstance(value, list) else [value]:
                if word is not None and word not in words:
                    yield name, word, f"this is unknown. {nearest(str(word), filter(None, words))}"
        else:
            yield from _free(name, value)


def allowed(cls: type, name: str) -> str:
    """What a setting takes, as advice: "give a whole number of at least 1, or null"."""
    kind, says = get_type_hints(cls)[name], {f.name: f for f in fields(cls)}[name].metadata
    parts = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    kind = next(part for part in parts if part is not type(None))
    if words := tuple(filter(None, says.get("of", ()))):
        said = f"one of {', '.join(words)}"
        said = f"a list of {', '.join(words)}" if get_origin(kind) is list else said
    elif kind in (int, float):
        said = f"a {'whole ' if kind is int else ''}number {_range(says)}"
    elif kind is bool:
        said = "true or false"
    elif get_origin(kind) is list:
        said = "a list, such as [a, b]"
    elif get_origin(kind) is dict or is_dataclass(kind):
        said = "a mapping, such as {key: value}"
    else:
        said = "a text"
    return f"give {said}{', or null' if type(None) in parts else ''}."


def _range(says: Mapping[str, Any]) -> str:
    above, least, most = says.get("above"), says.get("least", 0), says.get("most")
    begin = f"above {above:g}" if above is not None else f"of at least {least:g}"
    return begin if most is None else f"{begin} and at most {most:,.0f}"


def _in_range(value: float, setting_: Field[Any]) -> bool:
    says = setting_.metadata
    above, most = says.get("above"), says.get("most")
    low = value > above if above is not None else value >= says.get("least", 0)
    return low and value <= (LARGEST if most is None else most) and math.isfinite(value)


def _free(name: str, value: Any) -> Iterator[tuple[str, Any, str]]:
    """Faults among values that a setting takes as they are: none could be kept with the run."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _free(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _free(name, inner)
    elif isinstance(value, float) and not math.isfinite(value):
        yield name, value, "give a finite number."
    elif isinstance(value, int) and abs(value) >= 10**_DIGITS:
        yield name, f"{str(value)[:9]}…" if abs(value) < 10**4000 else "…", f"give at most {_DIGITS} digits."
    elif isinstance(value, str) and "\0" in value:
        yield name, value.replace("\0", "\\0"), "a text holds no null character."
    elif isinstance(value, bytes):
        yield name, "binary", "give a text or a number."
