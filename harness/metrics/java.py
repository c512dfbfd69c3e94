"""pycocoevalcap's Java programs: where they are, if this machine can run them.

Its wheel brings METEOR and Stanford's tokeniser as jars; nothing of its Python code is used. That a command named
`java` is there says little (macOS has one that only offers to install Java), so it is asked once.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from functools import cache
from pathlib import Path


def jar(name: str) -> Path | None:
    """The program at this path within pycocoevalcap; None where it is not installed, or no Java that works."""
    package = importlib.util.find_spec("pycocoevalcap")
    if package is None or not package.submodule_search_locations or not works():
        return None
    file = Path(package.submodule_search_locations[0]) / name
    return file if file.is_file() else None


@cache
def works() -> bool:
    """Whether there is a Java that runs."""
    if shutil.which("java") is None:
        return False
    return subprocess.run(["java", "-version"], capture_output=True, check=False).returncode == 0
