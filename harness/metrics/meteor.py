"""METEOR 1.5, from its own Java program: aligning words by stem, synonym and paraphrase needs its tables.

English captions get it wherever Java and pycocoevalcap's jars are installed. Starting the program takes 8 CPU-seconds
and 600 MB, most of it for the paraphrases; 4,982 COCO captions with five references each then take 9 seconds, and 4
once it is warm. So one program is started when it is first needed, and serves every cell that this process scores. It
gives the alignment counts of each caption; the score is computed from their sum here, so it has an interval.

A caption's counts [23], as the program prints them:
    0, 1        words of the caption, and of the reference that fits it best
    2, 3        how many of these are function words
    4 ... 19    for each of the four stages of matching: content words matched in the caption and in the reference, then
                function words matched in both
    20          chunks: stretches of matched words that stand in the same order on both sides
    21, 22      words matched in the caption and in the reference, over all stages
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

import numpy as np

from harness.errors import UserError, counted
from harness.metrics import Metric, Scored, java
from harness.metrics.tokenise import caption_tokeniser

_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
"""The program's English defaults: how much recall weighs against precision, the penalty's exponent and weight, and how
much content words weigh against function words."""
_STAGES = (1.0, 0.6, 0.8, 0.6)
"""Weights of exact, stem, synonym and paraphrase matches (the program's English defaults)."""
_COUNTS = 23
_LENGTHS, _CHUNKS, _MATCHED = slice(0, 2), 20, slice(21, 23)
"""Where these stand among a caption's counts."""


def _jar() -> Path | None:
    return java.jar("meteor/meteor-1.5.jar")


def meteor_available() -> bool:
    """Whether Java and the METEOR program are installed."""
    return _jar() is not None


def definition() -> str:
    """Which version of METEOR this is, and on which tokens it works."""
    return f"METEOR 1.5, coco-caption (-l en -norm); {caption_tokeniser('en').name}"


def meteor(predictions: Sequence[str | None], references: Sequence[Sequence[str]]) -> Scored:
    """METEOR of English captions as coco-caption runs it (-l en -norm, on Penn Treebank tokens).

    Raises UserError where the program is not installed, or ends each time it is asked.
    """
    jar = _jar()
    if jar is None:
        todo = "install a JRE and pip install 'multimodal-harness[coco]'"
        raise UserError(f"METEOR needs Java and pycocoevalcap: {todo}.")
    texts = [p or "" for p in predictions] + [text for some in references for text in some]
    split = iter([" ".join(tokens).replace("|||", "") for tokens in caption_tokeniser("en").split(texts)])
    captions = [next(split) for _ in predictions]
    lines = [
        " ||| ".join(["SCORE", *(next(split) for _ in some), caption])
        for caption, some in zip(captions, references, strict=True)
    ]
    counts = _answers(jar, lines)
    # Where a whole caption matches a whole reference in order, the program counts no chunk, and so gives no penalty.
    whole = (counts[:, _CHUNKS] == 1) & (counts[:, _MATCHED] == counts[:, _LENGTHS]).all(axis=1)
    counts[whole, _CHUNKS] = 0
    return Scored(Metric("meteor", definition(), _finish), counts)


def meteor_if_possible(predictions: Sequence[str | None], references: Sequence[Sequence[str]]) -> list[Scored]:
    """METEOR where it is installed, else nothing. Where its program fails, a warning says so and the other metrics go
    on without it."""
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
    """A running METEOR, asked line by line through its standard input and output."""

    def __init__(self, jar: Path) -> None:
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe would fill up, as nobody reads it
        self.process = subprocess.Popen(
            _command(jar), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.complaints, bufsize=2**16
        )
        self.known: dict[str, np.ndarray] = {}
        """The program's answers to the lines of the last call: a cell is scored again without its failed samples."""

    def ask(self, lines: Sequence[str]) -> np.ndarray:
        """The counts of each line, float64 [n, 23]. Raises EOFError where it ends, or answers with anything else."""
        unknown = [line for line in dict.fromkeys(lines) if line not in self.known]
        # The answer to the last line is short and marks the end, even where the program passes over a line in silence.
        end = "EVAL ||| " + " ".join(["1.0"] * _COUNTS)
        writer = Thread(target=self._write, args=([*unknown, end],), daemon=True)  # or both wait with full pipes
        writer.start()
        found: list[np.ndarray] = []
        while len(row := self._read()) == _COUNTS:
            found.append(row)
        if len(found) != len(unknown) or len(row) != 1 or len(self._read()) != 1:
            answers, captions = counted(len(found), "answer"), counted(len(unknown), "caption")
            raise EOFError(f"it gave {answers} to {captions}{self._complaint()}")
        writer.join()
        new = dict(zip(unknown, found, strict=True))
        self.known = {line: new[line] if line in new else self.known[line] for line in lines}
        return np.array([self.known[line] for line in lines]).reshape(-1, _COUNTS)

    def _write(self, lines: Sequence[str]) -> None:
        assert self.process.stdin is not None
        with suppress(OSError, ValueError):  # it has ended, and whoever reads its answers finds that out
            for line in lines:
                self.process.stdin.write(line.encode(errors="replace") + b"\n")
            self.process.stdin.flush()

    def _read(self) -> np.ndarray:
        """The numbers in its next line; an empty array where that holds anything else."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise EOFError(f"it ended with status {self.process.wait()}{self._complaint()}")
        try:
            return np.array(line.split(), dtype=np.float64)
        except ValueError:
            return np.zeros(0)

    def _complaint(self) -> str:
        """The end of what it wrote to its standard error, to be appended to a message."""
        self.complaints.seek(0)
        text = " ".join(self.complaints.read().decode(errors="replace").split())
        return f": {text[-300:]}" if text else ""

    def close(self) -> None:
        """End the program; it is not asked to finish."""
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.complaints):
            with suppress(OSError):
                file.close()  # pyright: ignore[reportOptionalMemberAccess]


_turn = Lock()
_running: _Program | None = None


def _answers(jar: Path, lines: Sequence[str]) -> np.ndarray:
    """The program's counts for each line. It is started where it is not running, and once more where it ends."""
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
            except BaseException:  # an interrupted call leaves answers that the next one would take for its own
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
    """Summed counts [..., 23] -> values [...]: a weighted harmonic mean of precision and recall, less a penalty for
    words in another order (Denkowski and Lavie 2014).

    A caption of 5 words that all match, in one chunk, 5 of a reference's 8:

    >>> stages = [1, 1, 2, 2, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0]  # 1 and 2 exactly, 1 by stem, 1 by paraphrase
    >>> round(float(_finish(np.array([5.0, 8, 2, 4, *stages, 1, 5, 5]))), 4)
    0.3187
    """
    stages = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 4)
    matched = np.einsum("...sc,s->...c", stages, np.array(_STAGES))
    own = _DELTA * (sums[..., 0] - sums[..., 2]) + (1 - _DELTA) * sums[..., 2]
    reference = _DELTA * (sums[..., 1] - sums[..., 3]) + (1 - _DELTA) * sums[..., 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = (_DELTA * matched[..., 0] + (1 - _DELTA) * matched[..., 2]) / own
        recall = (_DELTA * matched[..., 1] + (1 - _DELTA) * matched[..., 3]) / reference
        mean = precision * recall / (_ALPHA * precision + (1 - _ALPHA) * recall)
        fragments = sums[..., _CHUNKS] / (sums[..., _MATCHED].sum(axis=-1) / 2)
        score = mean * (1 - _GAMMA * fragments**_BETA)
    return np.where(reference > 0, np.nan_to_num(score), np.nan)
