"""Prose that cannot go stale: both languages say the same, what is named exists, and examples do what they say.

Commands and examples are run by tests/e2e/test_readme.py and tests/e2e/test_examples.py.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml

import harness
from harness import data
from harness.checkpoint import folder_of
from harness.clock import Clock
from harness.config.compose import compose
from harness.config.specs import DatasetSpec, ModelSpec
from harness.data.columns import FIELDS
from harness.records import Language, Request
from harness.targets import import_from, load_class

ROOT = Path(__file__).parents[2]
PLACES = (
    "README",
    "CONTRIBUTING",
    "examples/README",
    *(f"docs/{name}" for name in ("architecture", "data", "adapters", "python", "served")),
)
PAGES = [ROOT / f"{place}{ending}" for place in PLACES for ending in (".md", ".zh-CN.md")]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLACEHOLDER = re.compile(r"\b(NAME|FAMILY|PROFILE|DIR|RUN|KIND|TASK)\b|[<…]")


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return FENCED.sub("", page.read_text("utf-8"))


def headings(page: Path) -> list[tuple[str, str]]:
    """The level ("##") and the words of each heading."""
    return re.findall(r"^(#+) (.+)$", prose(page), re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The names by which a link reaches the headings, as GitHub makes them."""
    return {re.sub(r"[^\w -]", "", words.lower()).replace(" ", "-") for _, words in headings(page)}


def first_column(text: str, heading: str) -> list[str]:
    """What stands between backticks in the first column of the table below a heading."""
    below = text.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([\w.]+)` \|", below, re.MULTILINE)


# Both languages, links and names -------------------------------------------------------------------------------------


def test_every_page_of_docs_is_looked_at():
    assert set((ROOT / "docs").iterdir()) == {page for page in PAGES if page.parent == ROOT / "docs"}


@pytest.mark.parametrize("place", PLACES)
def test_both_languages_have_the_same_headings_and_the_same_code(place):
    english, chinese = ROOT / f"{place}.md", ROOT / f"{place}.zh-CN.md"
    assert [level for level, _ in headings(english)] == [level for level, _ in headings(chinese)]
    assert FENCED.findall(english.read_text("utf-8")) == FENCED.findall(chinese.read_text("utf-8"))
    assert f"]({chinese.name})" in prose(english)
    assert f"]({english.name})" in prose(chinese)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    assert links
    for link in links:
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_names_in_backticks_exist(page):
    tops = {path.name for path in ROOT.iterdir()}
    quoted = [words for words in re.findall(r"`([^`\n]+)`", prose(page)) if not PLACEHOLDER.search(words)]
    files = [words for words in quoted if re.fullmatch(r"[\w.*-]+(/[\w.*-]*)*", words) and words.split("/")[0] in tops]
    missing = [words for words in files if words != "harness" and not any(ROOT.glob(words.rstrip("/")))]
    names = [words for words in quoted if re.fullmatch(r"harness(\.\w+)+", words)]
    assert missing + [name for name in names if not is_there(name)] == []


@pytest.mark.parametrize(
    "name", ["CONTRIBUTING.md", "CONTRIBUTING.zh-CN.md", "docs/adapters.md", "docs/adapters.zh-CN.md"]
)
def test_names_that_are_said_to_be_in_a_file_are_in_it(name):
    page = ROOT / name
    text = re.sub(r"\s+", " ", prose(page))
    link = r"\[[^\]]+\]\(([^)#\s]+)\)"
    said = re.findall(rf"`(\w+)` (?:in|of) {link}", text)
    said += [(word, file) for file, word in re.findall(rf"{link} ?(?:里|中)?的 ?`(\w+)`", text)]
    assert len(said) > 3
    files = {file: (page.parent / file).read_text("utf-8") for _, file in said}
    assert [(word, file) for word, file in said if not re.search(rf"\b{word}\b", files[file])] == []


def is_there(name: str) -> bool:
    """Whether a dotted name leads to a module, or to something in one."""
    parts = name.split(".")
    for known in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:known]))
        except ModuleNotFoundError:
            continue
        for part in parts[known:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def test_a_file_or_a_name_that_is_gone_would_be_seen():
    assert not any(ROOT.glob("harness/gone.py"))
    assert not is_there("harness.gone")
    assert not is_there("harness.adapters.open_clip.OpenClop")
    assert is_there("harness.adapters.open_clip.OpenClip")


# Architecture --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/architecture.zh-CN.md"])
def test_the_rooms_are_drawn_as_the_test_of_imports_has_them(page):
    tree = ast.parse(text_of("tests/unit/test_imports.py"))
    (storeys,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STOREYS"
    ]
    lines = text_of(page).split("\n    __main__\n", 1)[1].split("\n\n", 1)[0].splitlines()
    drawn = [
        tuple(re.split(r" {2,}", line.strip())[: len(storey)]) for line, storey in zip(lines, storeys[1:], strict=True)
    ]
    assert drawn == list(storeys[1:])


# Data sets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "keys", "columns"), [
    ("docs/data.md", "## Every key", "## Columns"),
    ("docs/data.zh-CN.md", "## 全部键", "## 列"),
])  # fmt: skip
def test_every_key_of_a_data_set_is_documented(page, keys, columns):
    assert sorted(first_column(text_of(page), keys)) == sorted(field.name for field in fields(DatasetSpec))
    assert sorted(first_column(text_of(page), columns)) == sorted(FIELDS)


@pytest.mark.parametrize(("page", "heading"), [("docs/data.md", "## Every key"), ("docs/data.zh-CN.md", "## 全部键")])
def test_the_examples_of_all_keys_are_one_data_set_that_is_composed(page, heading, tmp_path):
    rows = re.findall(r"^\| `(\w+)` \|.* `(\w+: [^`]+)` \|$", text_of(page).split(f"\n{heading}\n")[1], re.MULTILINE)
    assert [key for key, _ in rows] == [field.name for field in fields(DatasetSpec)]
    assert all(example.startswith(f"{key}: ") for key, example in rows)
    (tmp_path / "dataset").mkdir()
    head = ["# @package datasets.kitchen", "defaults: [/spec/dataset@_here_, _self_]"]
    text = "\n".join([*head, *(example for _, example in rows)])
    (tmp_path / "dataset" / "kitchen.yaml").write_text(text, "utf-8")
    spec = compose(["model=pocket-clip", "dataset=kitchen"], [tmp_path])[0].datasets["kitchen"]
    assert spec == DatasetSpec(**yaml.safe_load(text.replace("defaults", "# defaults")))


def examples_of_data() -> list[tuple[str, str]]:
    """Each YAML block of docs/data.md with the rows that stand before it, or for the first one those after it."""
    blocks = FENCED.findall(text_of("docs/data.md"))
    rows = next(code for kind, code in blocks if kind == "json")
    found = []
    for kind, code in blocks:
        rows = code if kind == "json" else rows
        if kind == "yaml":
            found.append((code, rows))
    return found


def test_the_first_data_set_is_composed_and_read(tmp_path, monkeypatch):
    code, rows = examples_of_data()[0]
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "kitchen.yaml").write_text(code, "utf-8")
    spec = compose(["model=pocket-clip", "dataset=kitchen"], [tmp_path])[0].datasets["kitchen"]
    (tmp_path / "kitchen").mkdir()
    (tmp_path / "kitchen" / "questions.jsonl").write_text(rows, "utf-8")
    samples = list(data.load("kitchen", spec, "vqa", "en", data_dir=tmp_path))
    assert [sample.id for sample in samples] == ["k1", "k2"]
    assert {sample.cluster for sample in samples} == {"photos/1.jpg"}
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    assert len(data.load("kitchen", spec, "vqa", "en")) == 2
    monkeypatch.delenv("HARNESS_DATA")
    monkeypatch.chdir(tmp_path)
    assert len(data.load("kitchen", spec, "vqa", "en")) == 2


def test_the_part_about_the_hub_reads_a_repository_of_that_form(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    code = next(code for code, _ in examples_of_data() if "source: hub" in code)
    said = yaml.safe_load(code)
    spec = DatasetSpec(tasks=["vqa"], **said | {"path": str(tmp_path)})  # as `harness fetch` would have brought it
    files = [{"split": said["split"], "path": "rows.jsonl"}]
    card = yaml.safe_dump({"configs": [{"config_name": said["subset"], "data_files": files}]})
    (tmp_path / "README.md").write_text(f"---\n{card}---\n", "utf-8")
    row = {"index": 7, "image": "1.jpg", "question": "What?", "A": "a", "B": "b", "C": "c", "D": "d", "answer": "B"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    (sample,) = data.load("part", spec, "vqa", "en")
    assert (sample.id, sample.references, sample.fault) == ("7", ("b",), "")
    assert sample.media[0].source == tmp_path / "1.jpg"


@pytest.mark.parametrize(
    ("code", "rows"),
    [(code, rows) for code, rows in examples_of_data()[1:] if "source: hub" not in code],
    ids=lambda text: text.split("\n")[0][:40],
)
def test_a_part_of_a_data_set_reads_the_rows_before_it(tmp_path, code, rows):
    base = {"source": "jsonl", "path": "rows.jsonl", "tasks": ["vqa"]}
    spec = DatasetSpec(**base | yaml.safe_load(code))
    (tmp_path / "rows.jsonl").write_text(rows, "utf-8")
    counts = []
    for language in spec.languages:
        samples = list(data.load("part", spec, spec.tasks[0], language, data_dir=tmp_path))
        counts.append(len(samples))
        assert [sample.fault for sample in samples] == [""] * len(samples)
        assert all(sample.references and (sample.media or spec.image_optional) for sample in samples)
        assert all(medium.source != b"" for sample in samples for medium in sample.media)
        assert all(sample.question or spec.tasks in (["classification"], ["retrieval"]) for sample in samples)
    assert counts[0] > 0


def loaded(language: Language, contains: str, folder: Path) -> list:
    """The samples in a language of the first part that has a text in it."""
    code, rows = next((code, rows) for code, rows in examples_of_data()[1:] if contains in code)
    (folder / "rows.jsonl").write_text(rows, "utf-8")
    spec = DatasetSpec(**{"source": "jsonl", "path": "rows.jsonl", "tasks": ["vqa"]} | yaml.safe_load(code))
    return list(data.load("part", spec, "vqa", language, data_dir=folder))


def test_what_the_page_says_of_its_parts_is_so(tmp_path):
    assert len(loaded("en", "ask_{language}", tmp_path)) == 2
    assert len(loaded("zh", "ask_{language}", tmp_path)) == 1, "a row without a reference is left out"
    assert [sample.references for sample in loaded("en", "splits:", tmp_path)] == [("a bowl",)]
    (joined,) = loaded("en", "[before, after]", tmp_path)
    assert (joined.question, len(joined.media)) == ("Look at the table. What is gone?", 2)
    assert joined.references == ("the bowl", "bowl")
    (filled,) = loaded("en", "{set}-{number}", tmp_path)
    assert (filled.id, filled.question) == ("a-7", "Look closely. What is this?")
    (reached,) = loaded("en", "people.answer", tmp_path)
    assert reached.references == ("a bowl", "bowl")
    (claim,) = loaded("zh", "values: {holds", tmp_path)
    assert (claim.question, claim.references) == ("这句话与图片相符吗？There is a bowl.", ("是",))
    (lettered,) = loaded("en", "values: {C:", tmp_path)
    assert (set(lettered.choices), lettered.references) == ({"a bowl", "a cup"}, ("a cup",))
    (numbered,) = loaded("en", "choices: options", tmp_path)
    assert (len(numbered.choices), numbered.references) == (3, ("a pan",))


# Adapters and Python -------------------------------------------------------------------------------------------------


def test_the_adapter_of_the_page_loads_its_weights_and_embeds(tmp_path, monkeypatch):
    from PIL import Image
    from safetensors.numpy import save_file

    blocks = FENCED.findall(text_of("docs/adapters.md"))
    module, config, profile = (code for kind, code in blocks if kind in ("python", "yaml"))
    weights = tmp_path / "weights" / "linear"
    (tmp_path / "my-conf" / "model").mkdir(parents=True)
    weights.mkdir(parents=True)
    (tmp_path / "my-conf" / "prompt").mkdir()
    (tmp_path / "my-conf" / "linear.py").write_text(module, "utf-8")
    (tmp_path / "my-conf" / "model" / "linear.yaml").write_text(config, "utf-8")
    (tmp_path / "my-conf" / "prompt" / "terse.yaml").write_text(profile, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    run = compose(["model=linear", "models.linear.prompt=terse"], [tmp_path / "my-conf"])[0]
    assert run.prompts["terse"].captioning["zh"] == "用不超过二十个字描述："
    assert run.prompts["terse"].vqa == run.prompts["chat"].vqa
    spec = run.models["linear"]
    assert isinstance(spec, ModelSpec)
    assert folder_of(spec.checkpoint).is_dir()
    import_from(tmp_path / "my-conf")
    adapter = load_class(spec._target_, harness.Adapter)(spec, **spec.options)
    with pytest.raises(harness.UserError, match="is no checkpoint of Linear"):
        adapter.load("cpu", Clock())
    random = np.random.default_rng(0)
    shapes = {"image": 8 * 8 * 3, "text": 256}
    save_file(
        {kind: random.normal(size=(n, 32)).astype(np.float32) for kind, n in shapes.items()},
        weights / "model.safetensors",
    )
    assert sum(32 * n for n in shapes.values()) / 1e6 == pytest.approx(spec.parameters, abs=0.001)
    adapter.load("cpu", Clock())
    Image.new("RGB", (20, 10), "red").save(tmp_path / "red.png")
    picture = harness.Media("image", "red", tmp_path / "red.png")
    vectors = adapter.embed(adapter.prepare([Request(("a dog",)), Request((picture,))], "embed"))  # pyright: ignore
    assert (vectors.shape, vectors.dtype) == ((2, 32), np.float32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1])
    with pytest.raises(harness.SampleError, match="one text or one picture"):
        adapter.prepare([Request(("a dog", picture))], "embed")
    del sys.modules["linear"]


@pytest.mark.parametrize(("page", "heading"), [("docs/python.md", "## Names"), ("docs/python.zh-CN.md", "## 名字")])
def test_every_public_name_is_documented(page, heading):
    documented = [name.removeprefix("harness.") for name in first_column(text_of(page), heading)]
    assert sorted(documented) == sorted([*harness.__all__, "__version__"])


def test_rows_in_the_pages_are_json_lines():
    blocks = [code for kind, code in FENCED.findall(text_of("docs/data.md")) if kind == "json"]
    assert len(blocks) > 5
    assert all(isinstance(json.loads(line), dict) for code in blocks for line in code.splitlines())
