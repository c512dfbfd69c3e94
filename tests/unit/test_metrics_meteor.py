"""METEOR: the numbers of its own program, which is started once, whatever it is asked and however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Lock

import numpy as np
import pytest

from harness.config.specs import CaptioningSpec
from harness.errors import UserError
from harness.metrics import java, meteor
from harness.metrics.tokenise import caption_tokeniser
from harness.records import Record
from harness.task import Scoring
from harness.tasks.captioning import Captioning

ORACLES = Path(__file__).parents[2].parent / "shared" / "oracles"
needs_oracle = pytest.mark.skipif(not ORACLES.is_dir(), reason="the COCO oracle captions are not on this machine")
needs_program = pytest.mark.skipif(not meteor.meteor_available(), reason="Java and pycocoevalcap are not installed")

FAKE = """
import os, sys
notes, fault = sys.argv[1:]
with open(notes + "/starts", "a") as file:
    file.write("x")
starts = os.path.getsize(notes + "/starts")
for line in sys.stdin:
    if line.startswith("EVAL"):
        print("0.5\\n0.5", flush=True)
        continue
    if "poison" in line and (fault == "always" or (fault == "once" and starts == 1)):
        print("a great misfortune", file=sys.stderr)
        sys.exit(9)
    if "mute" not in line:
        caption = line.split("|||")[-1].split()
        print(" ".join([str(float(len(caption)))] * 23) + " " * 200, flush=True)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A program in Java's place that counts a caption's words; call it with the fault it is to have. Gives the file
    that has a letter for each time it was started."""
    (tmp_path / "fake.py").write_text(FAKE)

    def use(fault: str = "") -> Path:
        command = [sys.executable, "-S", str(tmp_path / "fake.py"), str(tmp_path), fault]
        monkeypatch.setattr(meteor, "_command", lambda _: command)
        return tmp_path / "starts"

    def too_long(*_):
        raise AssertionError("METEOR and its caller wait for each other")

    monkeypatch.setattr(meteor, "_jar", lambda: Path("meteor.jar"))
    monkeypatch.setattr(meteor, "_running", None)
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(30)
    yield use
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    meteor._close()


def words(captions: list[str | None]) -> list[float]:
    """What METEOR's first count says of captions, each with itself as reference."""
    return meteor.meteor(captions, [[text or "nothing"] for text in captions]).statistics[:, 0].tolist()


def test_it_is_started_once_for_all_cells(program):
    starts = program()
    assert words(["a cat", "a dog runs"]) == [2, 3]
    assert words(["a red cat sits", None, "a dog runs", "a cat"]) == [4, 0, 3, 2]
    assert words([]) == []
    assert starts.read_text() == "x"


def test_captions_of_a_cell_are_not_asked_about_again_for_a_part_of_it(program, monkeypatch):
    program()
    words(["a cat", "a dog runs", "a cat"])
    asked, write = [], meteor._Program._write
    monkeypatch.setattr(meteor._Program, "_write", lambda self, lines: (asked.extend(lines), write(self, lines))[1])
    assert words(["a dog runs", "a bird"]) == [3, 2]
    assert [line.split(" ||| ")[1] for line in asked[:-1]] == ["a bird"]


def test_more_than_the_pipes_hold_goes_through(program):
    program()
    captions: list[str | None] = [f"number {i}" + " and so on" * 50 for i in range(5_000)]
    assert words(captions) == [152] * 5_000


def test_a_program_that_ends_is_started_again_and_no_score_is_lost(program):
    starts = program("once")
    assert words(["a cat", "poison", "a dog runs"]) == [2, 1, 3]
    assert words(["a cow"]) == [2]
    assert starts.read_text() == "xx"


def test_one_that_always_ends_is_told_with_its_own_words_and_the_next_cell_has_a_fresh_one(program):
    starts = program("always")
    with pytest.raises(UserError, match=r"ended with status 9: a great misfortune\."):
        words(["a cat", "poison"])
    assert starts.read_text() == "xx"
    assert words(["a cat"]) == [2]


def test_a_caption_that_it_passes_over_in_silence_keeps_nobody_waiting(program):
    program()
    with pytest.raises(UserError, match="2 answers to 3 captions"):
        words(["a cat", "mute", "a dog"])
    assert words(["a dog"]) == [2]


def test_a_call_that_is_interrupted_leaves_no_answers_for_the_next_one(program, monkeypatch):
    program()
    read = meteor._Program._read

    def interrupted(self):
        read(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(meteor._Program, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        words(["a cat", "a dog runs"])
    monkeypatch.setattr(meteor._Program, "_read", read)
    assert words(["a bird sings too"]) == [4]


def test_it_ends_with_the_process_that_started_it(program):
    program()
    script = (
        "from harness.metrics import meteor\n"
        f"meteor._jar, meteor._command = str, lambda _: {meteor._command(Path())}\n"
        "meteor.meteor(['a'], [['a']]); print(meteor._running.process.pid)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
    assert done.stderr == ""


def captioned(meteor_wanted: bool = True, language: str = "en") -> list[str]:
    """The metrics of two captions."""
    task = Captioning(CaptioningSpec("harness.tasks.captioning.Captioning", meteor=meteor_wanted))
    records = [Record(text, text, references=(text,), answer=text) for text in ("a cat", "poison")]
    return [scored.metric.name for scored in task.score(records, Scoring(language))]  # pyright: ignore


def test_english_captions_have_it_and_chinese_ones_and_who_does_without_have_not(program):
    starts = program()
    assert "meteor" in captioned()
    assert starts.read_text() == "x"
    assert "meteor" not in captioned(language="zh")
    assert "meteor" not in captioned(meteor_wanted=False)
    assert starts.read_text() == "x"


def test_captions_are_scored_without_it_where_it_fails_and_a_warning_says_why(program, caplog):
    program("always")
    assert captioned()[0] == "cider"
    assert "meteor" not in captioned()
    assert "a great misfortune" in caplog.text
    assert "go without METEOR" in caplog.text


def test_metrics_are_listed_without_starting_it(program):
    from harness.cli.listing import rows

    starts = program()
    (row,) = [row for row in rows("metrics", (), Path()) if row["metric"] == "meteor"]
    assert row["task"] == "captioning"
    assert row["definition"] == meteor.definition()
    assert not starts.exists()


def test_a_java_that_only_offers_to_be_installed_is_none(tmp_path, monkeypatch):
    (tmp_path / "java").write_text("#!/bin/sh\necho Unable to locate a Java Runtime >&2; exit 1\n")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    java.works.cache_clear()
    try:
        assert not meteor.meteor_available()
        assert caption_tokeniser("en").name == "PTB (Python rules)"
    finally:
        java.works.cache_clear()


def test_without_its_program_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(meteor, "_jar", lambda: None)
    assert not meteor.meteor_available()
    with pytest.raises(UserError, match=r"install a JRE and pip install 'multimodal-harness\[coco\]'"):
        meteor.meteor(["a cat"], [["a cat"]])


def test_alignments_are_summed_as_its_program_does():
    lines = np.array([
        [5, 8, 2, 4, 1, 1, 2, 2, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 5, 5],
        [6, 2, 3, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1],
    ])  # fmt: skip
    # What METEOR 1.5 printed for "EVAL" of these two lines: each, then both.
    assert meteor._finish(lines) == pytest.approx([0.3186975039621699, 0.07692307692307693], abs=1e-12)
    assert meteor._finish(lines.sum(axis=0)) == pytest.approx(0.243335384071446, abs=1e-12)
    assert meteor._finish(np.array([9.0, 9, 4, 4] + [0] * 19)) == 0


# The program itself ---------------------------------------------------------------------------------------------------


def made_up(seed: int) -> tuple[list[str | None], list[list[str]]]:
    draw = np.random.default_rng(seed)
    kinds = ["a", "cat", "cats", "kitten", "sits", "seated", "on", "the", "big", "large", "café", "running", "3"]

    def text() -> str:
        return " ".join(draw.choice(kinds, draw.integers(1, 9)))

    return [None, "", *(text() for _ in range(40))], [[text() for _ in range(draw.integers(1, 5))] for _ in range(42)]


@needs_program
def test_scores_are_those_of_pycocoevalcap_corpus_and_caption(monkeypatch):
    from pycocoevalcap.meteor.meteor import Meteor

    monkeypatch.setattr(Meteor, "__init__", lambda self: None)  # which starts the same program once more
    monkeypatch.setattr(Meteor, "__del__", lambda self: None)
    peer = Meteor()
    peer.lock = Lock()
    split = caption_tokeniser("en").split
    for seed in range(2):
        predictions, references = made_up(seed)
        ours = meteor.meteor(predictions, references)
        assert meteor._running is not None
        peer.meteor_p = meteor._running.process
        flat = iter(split([text for texts in references for text in texts]))
        truth = {i: [" ".join(next(flat)) for _ in texts] for i, texts in enumerate(references)}
        theirs, each = peer.compute_score(truth, {i: [text or ""] for i, text in enumerate(predictions)})
        assert ours.value == pytest.approx(theirs, abs=1e-12)
        assert ours.metric.finish(ours.statistics) == pytest.approx(each, abs=1e-12)


@needs_program
@needs_oracle
def test_the_published_score_of_coco_captions_is_met():
    data = json.loads((ORACLES / "captions_coco5k.json").read_text())
    expected = json.loads((ORACLES / "captions_coco5k.expected.json").read_text())
    predictions = list(data["predictions"].values())
    scored = meteor.meteor(predictions, [data["references"][name] for name in data["predictions"]])
    assert scored.value == pytest.approx(expected["corpus"]["METEOR"], abs=1e-12)
    assert round(scored.value, 3) == expected["published"]["METEOR"]
