"""All that a command prints goes through here: nothing in it steers the terminal, and no key is told."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

from harness.errors import printable
from harness.store.secrets import masked

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

LONGEST_WORD, LONGEST_MESSAGE = 400, 4000
"""Characters of a word, and of a message, that are shown: a path fits, a text of thousands of characters does not."""
_LONG = re.compile(rf"\S{{{LONGEST_WORD},}}")


def safe(text: Any) -> str:
    """Any text as a terminal may show it."""
    return printable(masked(str(text)))


def out(text: Any, end: str = "\n") -> None:
    """Print what was asked for."""
    print(safe(text), end=end, flush=True)


def as_json(data: Any) -> None:
    """Print data as JSON. What JSON leaves as it is and a terminal obeys is escaped, so that no value changes."""
    text = masked(json.dumps(data, ensure_ascii=False, indent=1))
    print("".join(c if c == "\n" or printable(c, "") == c else json.dumps(c)[1:-1] for c in text), flush=True)


def message(text: Any, end: str = "\n") -> None:
    """Tell the person something, on standard error."""
    text = str(text)[: 10 * LONGEST_MESSAGE]  # before anything is looked for in it
    text = _LONG.sub(lambda found: f"{found[0][: LONGEST_WORD // 2]}…{found[0][-20:]}", text)
    text = text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}…"
    print(safe(text), end=end, file=sys.stderr, flush=True)


def cell(value: Any, style: str = "") -> Text:
    """A value in a table of rich's: a text, and no markup."""
    from rich.text import Text

    return Text(printable(masked(str(value)), keep=""), style)


def console(wide: int) -> Console:
    """Where tables are printed; a pipe has no width, so that there they are `wide` and nothing is cut off."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal else Console(width=wide)
