"""METEOR 1.5, from its own Java program: aligning words by stem, synonym and paraphrase needs its tables.

Only where Java and pycocoevalcap's jar are installed, and only when asked for: starting it costs ten CPU-seconds. The
program gives each caption's alignment counts; the score is computed from their sum here, so it has an interval.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.metrics import Metric, Scored
from harness.metrics.tokenise import caption_tokeniser

if TYPE_CHECKING:
    import numpy as np

_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_STAGES = (1.0, 0.6, 0.8, 0.6)
"""Weights of exact, stem, synonym and paraphrase matches (the program's English defaults)."""
_COUNTS = 23


def _jar() -> Path | None:
    package = importlib.util.find_spec("pycocoevalcap")
    if package is None or not package.submodule_search_locations or shutil.which("java") is None:
        return None
    jar = Path(package.submodule_search_locations[0]) / "meteor" / "meteor-1.5.jar"
    return jar if jar.is_file() else None


def meteor_available() -> bool:
    """Whether Java and the METEOR program are installed."""
    return _jar() is not None


def meteor(predictions: Sequence[str | None], references: Sequence[Sequence[str]]) -> Scored:
    """METEOR of English captions as coco-caption runs it (-l en -norm, on Penn Treebank tokens).

    Raises UserError where the program is not installed.
    """
    import numpy as np

    jar = _jar()
    if jar is None:
        raise UserError("METEOR needs Java and pycocoevalcap: install a JRE and pip install pycocoevalcap.")
    tokeniser = caption_tokeniser("en")
    texts = [p or "" for p in predictions] + [text for some in references for text in some]
    split = iter([" ".join(tokens).replace("|||", "") for tokens in tokeniser.split(texts)])
    said = [next(split) for _ in predictions]
    lines = [
        " ||| ".join(["SCORE", *(next(split) for _ in some), text]) for text, some in zip(said, references, strict=True)
    ]
    command = ["java", "-Xmx2G", "-XX:+UseSerialGC", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    done = subprocess.run(
        command, input="\n".join(lines) + "\n", capture_output=True, text=True, encoding="utf-8", check=False
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    if len(rows) != len(lines) or any(len(row) != _COUNTS for row in rows):
        raise RuntimeError(f"METEOR failed: {done.stderr[-500:]}")
    counts = np.array(rows, dtype=np.float64).reshape(-1, _COUNTS)
    # A caption matched as one whole counts as unbroken: no chunk, as the program has it when it sums up.
    counts[(counts[:, 20] == 1) & (counts[:, 21:] == counts[:, :2]).all(axis=1), 20] = 0
    definition = f"METEOR 1.5, coco-caption (-l en -norm); {tokeniser.name}"
    return Scored(Metric("meteor", definition, _finish), counts)


def _finish(sums: np.ndarray) -> np.ndarray:
    """Denkowski and Lavie 2014: a weighted harmonic mean of precision and recall, less a penalty for broken order.

    Counts: length, reference length, function words of both; for each stage matched content words of both and function
    words of both; chunks, matched words of both.
    """
    import numpy as np

    stages = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 4)
    matched = np.einsum("...sc,s->...c", stages, np.array(_STAGES))
    said = _DELTA * (sums[..., 0] - sums[..., 2]) + (1 - _DELTA) * sums[..., 2]
    wanted = _DELTA * (sums[..., 1] - sums[..., 3]) + (1 - _DELTA) * sums[..., 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = (_DELTA * matched[..., 0] + (1 - _DELTA) * matched[..., 2]) / said
        recall = (_DELTA * matched[..., 1] + (1 - _DELTA) * matched[..., 3]) / wanted
        mean = precision * recall / (_ALPHA * precision + (1 - _ALPHA) * recall)
        fragments = sums[..., 20] / ((sums[..., 21] + sums[..., 22]) / 2)
        score = mean * (1 - _GAMMA * fragments**_BETA)
    return np.where(wanted > 0, np.nan_to_num(score), np.nan)
