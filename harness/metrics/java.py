"""The Java programs of pycocoevalcap: where they are, if this machine can run them.

The package brings METEOR and Stanford's tokeniser as jars; its Python code is not used. A command named `java` proves
little (macOS has one that only offers to install Java), so it is called once to see whether it works.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from functools import cache
from pathlib import Path


def jar(name: str) -> Path | None:
    """The program at this path within pycocoevalcap; None where that is not installed, or where Java does not work."""
    package = importlib.util.find_spec("pycocoevalcap")
    if package is None or not package.submodule_search_locations or not works():
        return None
    file = Path(package.submodule_search_locations[0]) / name
    return file if file.is_file() else None


@cache
def works() -> bool:
    """Whether Java is installed and starts."""
    if shutil.which("java") is None:
        return False
    return subprocess.run(["java", "-version"], capture_output=True, check=False).returncode == 0
