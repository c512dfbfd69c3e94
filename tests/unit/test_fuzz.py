"""Command lines and files of settings out of a seeded generator: whatever is said, a person gets an answer."""

import random
import re

import pytest

from harness.cli.main import main

WORDS = [
    *(
        "task=vqa",
        "task=[vqa",
        "task=",
        "task=all,",
        "model=pocket-clip",
        "model=[pocket-clip,pocket-siglip]",
        "model=x",
    ),
    *(
        "dataset=pocket",
        "dataset={a: 1}",
        "limit=3",
        "limit=-1",
        "limit=nan",
        "limit=${seed}",
        "limit=1e400",
        "seed=true",
    ),
    *(
        "latency=quick",
        "latency.samples=0",
        "latency.seconds=inf",
        "latency.mode=[]",
        "engine=local",
        "engine.gpus=two",
    ),
    *(
        "batch_size=auto",
        "batch_size={",
        "run=../x",
        "run=a b",
        "run=猫",
        "run=\x1b[31m",
        "data_dir=${",
        "data_dir=/数据 (1)",
    ),
    *(
        "results_dir=",
        "ablate=[none,audio]",
        "ablate=nothing",
        "~models.pocket-clip",
        "~limit",
        "~",
        "=",
        "",
        "a",
        "猫=3",
    ),
    *(
        "models.pocket-clip.batch_size=0",
        "models.pocket-clip.options.a.b=[1,{c: d}]",
        "models.pocket-clip=5",
        "models=5",
    ),
    *("models.pocket-clip.checkpoint.x=3", "models..x=1", "models.=1", "+limit=2", "++limit=2", "report.language=fr"),
    *("datasets.pocket.labels={en: [yes, 1]}", "prompts.chat.vqa=5", "tasks.vqa.max_new_tokens=-3", "hydra.run.dir=x"),
    *("--cfg", "--config-dir", "--config-dir=.", "--", "--lang", "-x", "--json", "'", '"', "limit='3", "x" * 6000),
    *("models.pocket-clip.revision=${oc.env:HOME}", "servers=3", "budget=-1", "dtype=float", "device=7", "limit@x=1"),
]
COMMANDS = ["run", "train", "fetch", "list", "report", "resume", "compare", "score", "rnu", "--cfg", ""]
BITS = [
    *(
        "batch_size",
        "options",
        "labels",
        "license",
        "origin",
        "in-house",
        "_target_",
        "columns",
        "a",
        ": ",
        ": ",
        ": ",
        "\n",
    ),
    *(
        "\n",
        "\n  ",
        "\n\t",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "'",
        '"',
        "&a",
        "*a",
        "<<",
        "!!binary",
        "!x",
        "---",
        "...",
        "%",
    ),
    *(
        "#",
        "|",
        ">",
        "true",
        "null",
        ".nan",
        "1e999",
        "0x1f",
        "2020-01-01",
        "\0",
        "\ufeff",
        "猫",
        "\x85",
        "${a}",
        "${",
        "???",
    ),
]
LIBRARY = re.compile(
    r"Traceback|\w+Exception\b|HFValidationError|\$VALUE|\$KEY|\$FULL|OmegaConf|DictConfig|ListConfig|ConfigAttribute|"
    r"<EOF>|object_type|full_key|NoneType|\bhydra\.(?!run)"
)


def command_line(draw: random.Random) -> list[str]:
    """Mostly `run --cfg`, of words that may be mangled; nothing that would ask a model or a hub."""
    command = draw.choice(COMMANDS) if draw.random() < 0.3 else "run"
    words = [draw.choice(WORDS) for _ in range(draw.randint(0, 5))]
    for i, word in enumerate(words):
        if word and draw.random() < 0.2:
            at = draw.randrange(len(word))
            words[i] = word[:at] + draw.choice("[]{}'\"$,=.~@\\ \t\n猫\x9b0") + word[at + draw.randint(0, 1) :]
    stop = ["--cfg"] if command in ("run", "train") else []
    stop = ["model=nobody"] if command == "fetch" else stop
    few = ["model=pocket-clip"] if command == "run" else []  # to compose all takes a second
    return [
        command,
        *few,
        *words,
        *stop,
        *(["results_dir=."] if command in ("report", "resume", "compare", "list") else []),
    ]


def check(words: list[str], capsys) -> None:
    try:
        status = main(words)
    except SystemExit as end:  # --help
        status = end.code
    said = capsys.readouterr().err
    assert status in (0, 1, 2, 130), words
    assert len(said) < 4000, words
    assert not LIBRARY.search(said), (words, said)
    assert not set(said) & set("\x1b\x9b\x00\u202e"), (words, said)
    assert said or status == 0, words


def settings_file(draw: random.Random) -> str:
    head = "# @package models.bad\ndefaults: [/spec/model@_here_, _self_]\n_target_: mine.Model\norigin: in-house\n"
    body = "".join(draw.choice(BITS) for _ in range(draw.randint(1, 14)))
    return (head if draw.random() < 0.9 else "") + body


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    (tmp_path / "own" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


def fuzz_lines(count: int, seed: int, capsys) -> None:
    draw = random.Random(seed)
    for _ in range(count):
        check(command_line(draw), capsys)


def fuzz_files(count: int, seed: int, folder, capsys) -> None:
    draw = random.Random(seed)
    for _ in range(count):
        (folder / "own" / "model" / "bad.yaml").write_text(settings_file(draw), "utf-8", errors="replace")
        check(["run", "--cfg", "model=bad", "--config-dir", "own"], capsys)


def test_a_command_line_of_any_words_gets_an_answer(capsys):
    fuzz_lines(50, 1, capsys)


def test_a_file_of_any_text_gets_an_answer(tmp_path, capsys):
    fuzz_files(150, 1, tmp_path, capsys)


@pytest.mark.slow
def test_three_thousand_command_lines_get_an_answer(capsys):
    fuzz_lines(3000, 2, capsys)


@pytest.mark.slow
def test_three_hundred_files_get_an_answer(tmp_path, capsys):
    fuzz_files(300, 2, tmp_path, capsys)
