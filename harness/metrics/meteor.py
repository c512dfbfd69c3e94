"""METEOR 1.5, from its own Java program: aligning words by stem, synonym and paraphrase needs its tables.

English captions get it wherever Java and pycocoevalcap's jars are installed. Starting the program takes 8 CPU-seconds
and 600 MB, most of it for the paraphrases; 4,982 COCO captions with five references each then take 9, and 4 once it is
warm. So one is started when it is first needed, and serves every cell that this process scores. It gives each caption's
alignment counts; the score is computed from their sum here, so it has an interval.
"""

from __future__ import annotations

import atexit
import logging
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.metrics import Metric, Scored, java
from harness.metrics.tokenise import caption_tokeniser

if TYPE_CHECKING:
    import numpy as np

_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_STAGES = (1.0, 0.6, 0.8, 0.6)
"""Weights of exact, stem, synonym and paraphrase matches (the program's English defaults)."""
_COUNTS = 23


def _jar() -> Path | None:
    return java.jar("meteor/meteor-1.5.jar")


def meteor_available() -> bool:
    """Whether Java and the METEOR program are installed."""
    return _jar() is not None


def definition() -> str:
    """Which METEOR this is, of which tokens."""
    return f"METEOR 1.5, coco-caption (-l en -norm); {caption_tokeniser('en').name}"


def meteor(predictions: Sequence[str | None], references: Sequence[Sequence[str]]) -> Scored:
    """METEOR of English captions as coco-caption runs it (-l en -norm, on Penn Treebank tokens).

    Raises UserError where the program is not installed, or ends whenever it is asked.
    """
    jar = _jar()
    if jar is None:
        todo = "install a JRE and pip install 'multimodal-harness[coco]'"
        raise UserError(f"METEOR needs Java and pycocoevalcap: {todo}.")
    texts = [p or "" for p in predictions] + [text for some in references for text in some]
    split = iter([" ".join(tokens).replace("|||", "") for tokens in caption_tokeniser("en").split(texts)])
    said = [next(split) for _ in predictions]
    lines = [
        " ||| ".join(["SCORE", *(next(split) for _ in some), text]) for text, some in zip(said, references, strict=True)
    ]
    counts = _answers(jar, lines)
    # A caption matched as one whole counts as unbroken: no chunk, as the program has it when it sums up.
    counts[(counts[:, 20] == 1) & (counts[:, 21:] == counts[:, :2]).all(axis=1), 20] = 0
    return Scored(Metric("meteor", definition(), _finish), counts)


def meteor_if_possible(predictions: Sequence[str | None], references: Sequence[Sequence[str]]) -> list[Scored]:
    """METEOR where it is installed. Where its program fails it is left out with a warning: the other metrics stand."""
    if not meteor_available():
        return []
    try:
        return [meteor(predictions, references)]
    except UserError as error:
        logging.getLogger(__name__).warning("harness: %s These captions go without METEOR.", error)
        return []


# The program ----------------------------------------------------------------------------------------------------------


def _command(jar: Path) -> list[str]:
    return ["java", "-Xmx2G", "-XX:+UseSerialGC", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]


class _Program:
    """METEOR at work, asked line by line through its standard input and output."""

    def __init__(self, jar: Path) -> None:
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe would fill up, as nobody reads it
        self.process = subprocess.Popen(
            _command(jar), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.complaints, bufsize=2**16
        )
        self.known: dict[str, np.ndarray] = {}
        """What it said to the lines of the last call: a cell is scored again without its failed samples."""

    def ask(self, lines: Sequence[str]) -> np.ndarray:
        """Float64 [n, 23], the counts of each line; raises EOFError where it ended or said anything else."""
        import numpy as np

        unknown = [line for line in dict.fromkeys(lines) if line not in self.known]
        # Its answer to a known line comes last: should it pass over a line in silence, nobody waits for it.
        end = "EVAL ||| " + " ".join(["1.0"] * _COUNTS)
        writer = Thread(target=self._write, args=([*unknown, end],), daemon=True)  # or both wait with full pipes
        writer.start()
        found: list[np.ndarray] = []
        while len(row := self._read()) == _COUNTS:
            found.append(row)
        if len(found) != len(unknown) or len(row) != 1 or len(self._read()) != 1:
            raise EOFError(f"it gave {len(found)} answers to {len(unknown)} captions{self._complaint()}")
        writer.join()
        new = dict(zip(unknown, found, strict=True))
        self.known = {line: new[line] if line in new else self.known[line] for line in lines}
        return np.array([self.known[line] for line in lines]).reshape(-1, _COUNTS)

    def _write(self, lines: Sequence[str]) -> None:
        assert self.process.stdin is not None
        with suppress(OSError, ValueError):  # it has ended: who reads its answers finds out
            for line in lines:
                self.process.stdin.write(line.encode(errors="replace") + b"\n")
            self.process.stdin.flush()

    def _read(self) -> np.ndarray:
        """The numbers in its next line; none where it says anything else."""
        import numpy as np

        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise EOFError(f"it ended with status {self.process.wait()}{self._complaint()}")
        try:
            return np.array(line.split(), dtype=np.float64)
        except ValueError:
            return np.zeros(0)

    def _complaint(self) -> str:
        self.complaints.seek(0)
        text = " ".join(self.complaints.read().decode(errors="replace").split())
        return f": {text[-300:]}" if text else ""

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.complaints):
            with suppress(OSError):
                file.close()  # pyright: ignore[reportOptionalMemberAccess]


_turn = Lock()
_running: _Program | None = None


def _answers(jar: Path, lines: Sequence[str]) -> np.ndarray:
    """The program's counts for each line. It is started when it is not running, and once more when it ends."""
    global _running
    with _turn:
        for tries_left in (1, 0):
            try:
                _running = _running or _Program(jar)
                return _running.ask(lines)
            except (OSError, EOFError) as error:
                _close()
                if not tries_left:
                    raise UserError(f"METEOR's Java program does not do its work: {error}.") from error
            except BaseException:  # interrupted: answers that nobody took would be taken for the next ones
                _close()
                raise
    raise AssertionError("unreachable: the last try returns or raises")


@atexit.register
def _close() -> None:
    global _running
    if _running is not None:
        _running.close()
        _running = None


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
