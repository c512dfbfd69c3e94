"""The harness against the loop one would write by hand: CPU seconds of the same work, in turn, on the same machine.

    python tests/benchmarks/loops.py [retrieval | classification | vqa | captioning | overhead | small]
                                     [--rounds N] [--n N]

Each workload is run by `harness run` (latency off, no charts) and by the loop below, written as well as one can:
batches, no gradients, each image decoded and embedded once, questions sorted by length, metrics at the end and nothing
else. Both are processes of their own with one thread. Models have random weights and are built here: an open_clip
ViT-B/32 and a Qwen2.5-VL of 38 M parameters; answers and metrics of both sides are compared: both did the same.

Two ratios harness / loop: of the inner loop (model loaded to last answer, all processes) and of the whole run. Limits:
1.03 and 1.10. `overhead` prints what the harness costs a sample with an adapter that does nothing: limit 0.3 ms.
`small` is a first try, in which start-up counts: 64 samples in batches of 8, in bfloat16 on both sides; of each
workload the median ratio of the whole run, with its interval. Limit 1.05.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from harness.adapter import Adapter
from harness.adapters.open_clip import OpenClip
from harness.adapters.transformers.chat import ChatModel
from harness.records import Answer

ROOT = Path(__file__).parents[2]
PLACE = Path(os.environ.get("HARNESS_BENCHMARKS") or Path(tempfile.gettempdir()) / "harness-benchmarks")
BATCH = int(os.environ.get("BENCHMARK_BATCH", "32"))
DTYPE = os.environ.get("BENCHMARK_DTYPE", "float32")
THINGS = ("cat", "dog", "bird", "car", "tree", "boat", "cup", "chair")
CLASSES = [f"{colour} {thing}" for thing in THINGS for colour in ("red", "blue")]
WORDINGS = ["a photo of a {label}.", "a photo of the {label}.", "a picture of a {label}.", "an image of a {label}."]
ASK = "{question}\nAnswer with a single word or a short phrase."
DESCRIBE = "Describe the picture in one short sentence."
WORKLOADS = ("retrieval", "classification", "vqa", "captioning")
HEADLINE = {
    "retrieval": ["i2t_recall@1", "t2i_recall@1", "i2t_recall@10", "t2i_recall@10"],
    "classification": ["accuracy"],
    "vqa": ["exact_match"],
    "captioning": ["cider", "bleu4", "rouge_l"],
}


# Marks: what all processes of this run have used so far ---------------------------------------------------------------


def mark(name: str) -> None:
    """Append CPU seconds of the session's processes, and the time, to the file that the benchmark named."""
    session, used = os.getsid(0), 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            used += sum(map(int, fields[11:15]))
    with Path(os.environ["HARNESS_MARKS"]).open("a") as file:
        file.write(json.dumps([name, used / os.sysconf("SC_CLK_TCK"), time.time()]) + "\n")


class _Marked(Adapter):
    """Marks when the model is loaded, when the first batch is answered and when the last one is."""

    _first = True

    def load(self, device: str, clock: Any) -> None:
        super().load(device, clock)
        mark("loaded")

    def answered(self, outputs: Any) -> Any:
        if self._first:
            self._first = False
            mark("first")
        return outputs

    def close(self) -> None:
        mark("done")
        super().close()


class MarkedClip(_Marked, OpenClip):
    def embed(self, inputs: Any) -> Any:
        return self.answered(super().embed(inputs))


class MarkedChat(_Marked, ChatModel):
    def generate(self, inputs: Any) -> Any:
        return self.answered(super().generate(inputs))


class _Nothing(Adapter):
    def load(self, device: str, clock: Any) -> None:
        """There is nothing to load."""

    def generate(self, inputs: Any) -> list[Answer]:
        return [Answer("yes", tokens_out=1) for _ in inputs]


class Nothing(_Marked, _Nothing):
    """Answers "yes"."""

    def generate(self, inputs: Any) -> list[Answer]:
        return self.answered(super().generate(inputs))


# Models and data ------------------------------------------------------------------------------------------------------


def build(n: int) -> None:
    """Weights, pictures, rows and configs below PLACE, kept between runs."""
    done = PLACE / f"built-{n}"
    if done.exists():
        return
    shutil.rmtree(PLACE, ignore_errors=True)
    (PLACE / "data").mkdir(parents=True)
    _clip(PLACE / "clip")
    _qwen(PLACE / "qwen")
    _pictures(n)
    config("model", "clip", "open_clip", f"_target_: loops.MarkedClip\ncheckpoint: {PLACE}/clip\nprompt: clip")
    config("model", "qwen", "transformers", f"_target_: loops.MarkedChat\ncheckpoint: {PLACE}/qwen")
    for task in WORKLOADS:
        write_rows(task, n)
    for task in ("vqa", "captioning"):  # references that the model sometimes gives, so that metrics can differ
        said = run_loop(task, n)["answers"]
        write_rows(task, n, said)
    done.touch()


def config(group: str, name: str, spec: str, text: str) -> None:
    """A member file of a config group."""
    (PLACE / "conf" / group).mkdir(parents=True, exist_ok=True)
    origin = "origin: international\n" if group == "model" else ""
    head = f"# @package {group}s.{name}\ndefaults: [/spec/{spec}@_here_, _self_]\n"
    (PLACE / "conf" / group / f"{name}.yaml").write_text(f"{head}{origin}{text}\n")


def write_rows(task: str, n: int, said: list[str] | None = None) -> None:
    """The rows of a workload and their config: 64 pictures with four questions each, else a picture a row."""
    rows = [{"id": i, "image": f"{i if task != 'vqa' else i // 4}.jpg"} for i in range(n)]
    for i, row in enumerate(rows):
        match task:
            case "retrieval":
                row["references"] = f"picture {i} shows a {CLASSES[i % len(CLASSES)]} beside number {i * i}"
            case "classification":
                row["references"] = CLASSES[i % len(CLASSES)]
            case "vqa":
                row["question"] = f"What is number {i} doing{' in the picture' * (i % 5)}?"
                row["references"] = said[i] if said and i % 2 else "nothing"
            case _:
                words = said[i].split() if said else []
                row["references"] = [" ".join(words[i % 3 :]) or "a cat", "a red cat sits on a chair"]
    (PLACE / f"data/{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = ["id", "image", "references", *(["question"] if task == "vqa" else [])]
    columns = json.dumps({field: field for field in fields})
    labels = f"\nlabels: {{en: {json.dumps(CLASSES)}}}" if task == "classification" else ""
    text = f"source: jsonl\ntasks: [{task}]\npath: {task}.jsonl\ncolumns: {columns}{labels}"
    config("dataset", f"bench-{task}", "dataset", text)


def _pictures(n: int) -> None:
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for i in range(n):
        coarse = Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        size = [(480, 360), (360, 480), (512, 384), (400, 400)][i % 4]
        coarse.resize(size, Image.Resampling.BICUBIC).save(PLACE / f"data/{i}.jpg", quality=90)


def _clip(folder: Path) -> None:
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    settings = open_clip.get_model_config("ViT-B-32")
    model = open_clip.create_model("ViT-B-32")
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()},
              str(folder / "open_clip_model.safetensors"))  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": {}}))


def _qwen(folder: Path) -> None:
    """A Qwen2.5-VL of 38 M parameters; one character a token."""
    sys.path.insert(0, str(ROOT / "tests" / "conformance"))
    import transformers as t
    from tiny_chat import template  # pyright: ignore[reportMissingImports]
    from tiny_parts import save, tokenizer  # pyright: ignore[reportMissingImports]

    tok = tokenizer("<|image_pad|>", video_token="<|video_pad|>", start="<|vision_start|>", end="<|vision_end|>")
    ids = {
        "image_token_id": tok.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": tok.convert_tokens_to_ids("<|video_pad|>"),
        "vision_start_token_id": tok.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": tok.convert_tokens_to_ids("<|vision_end|>"),
    }
    text = {
        "vocab_size": len(tok),
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "max_position_embeddings": 2048,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 10000.0},
    }
    vision = {
        "depth": 6,
        "hidden_size": 320,
        "out_hidden_size": 512,
        "intermediate_size": 1280,
        "num_heads": 5,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [2, 5],
    }
    model = t.Qwen2_5_VLForConditionalGeneration(t.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids))
    print(f"built a Qwen2.5-VL of {sum(p.numel() for p in model.parameters()) / 1e6:.0f} M parameters")
    pixels = {"patch_size": 14, "size": {"shortest_edge": 56**2, "longest_edge": 224**2}}
    chat = template("<|vision_start|><|image_pad|><|vision_end|>")
    images, videos = t.Qwen2VLImageProcessor(**pixels), t.Qwen2VLVideoProcessor(**pixels)
    save(folder, model, t.Qwen2_5_VLProcessor(images, tok, videos, chat_template=chat), spread=0.04)


# The loops by hand ----------------------------------------------------------------------------------------------------


@cache
def picture(name: str) -> Any:
    from PIL import Image

    return Image.open(PLACE / "data" / name).convert("RGB")


def by_hand(task: str) -> dict[str, Any]:
    """One workload from rows to metrics, as one would write it for this model and these data alone."""
    rows = [json.loads(line) for line in (PLACE / f"data/{task}.jsonl").open()]
    return _by_hand_clip(task, rows) if task in ("retrieval", "classification") else _by_hand_chat(task, rows)


def _by_hand_clip(task: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    import open_clip
    import torch

    model: Any
    preprocess: Any
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{PLACE}/clip")
    tokenizer: Any = open_clip.get_tokenizer(f"local-dir:{PLACE}/clip")
    model.eval().to(getattr(torch, DTYPE))
    mark("loaded")

    def images(start: int) -> Any:
        pixels = [preprocess(picture(row["image"])) for row in rows[start : start + BATCH]]
        pixels = torch.stack(pixels).to(getattr(torch, DTYPE))
        found = torch.nn.functional.normalize(model.encode_image(pixels).float(), dim=-1)
        if not start:
            mark("first")
        return found

    def texts(said: list[str]) -> Any:
        parts = [model.encode_text(tokenizer(said[i : i + BATCH])) for i in range(0, len(said), BATCH)]
        return torch.nn.functional.normalize(torch.cat(parts).float(), dim=-1)

    with torch.no_grad():
        if task == "classification":
            labels = texts([wording.format(label=label) for label in CLASSES for wording in WORDINGS])
            labels = torch.nn.functional.normalize(labels.view(len(CLASSES), len(WORDINGS), -1).mean(dim=1), dim=-1)
            shown = torch.cat([images(i) for i in range(0, len(rows), BATCH)])
            best = (shown @ labels.T).argmax(dim=1).tolist()
            mark("done")
            said = [CLASSES[i] for i in best]
            right = [a == row["references"] for a, row in zip(said, rows, strict=True)]
            return {"accuracy": sum(right) / len(right), "answers": said}
        shown = torch.cat([images(i) for i in range(0, len(rows), BATCH)])
        written = texts([row["references"] for row in rows])
        mark("done")
        found = {}
        for name, scores in (("i2t", shown @ written.T), ("t2i", written @ shown.T)):
            rank = (scores >= scores.diagonal()[:, None]).sum(dim=1)
            found |= {f"{name}_recall@{k}": (rank <= k).float().mean().item() for k in (1, 5, 10)}
        return found | {"answers": []}


def _by_hand_chat(task: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor: Any = AutoProcessor.from_pretrained(PLACE / "qwen")
    model: Any = AutoModelForImageTextToText.from_pretrained(PLACE / "qwen", dtype=getattr(torch, DTYPE)).eval()
    processor.tokenizer.padding_side = "left"
    mark("loaded")
    prompts = [ASK.format(question=row["question"]) if task == "vqa" else DESCRIBE for row in rows]
    order = sorted(range(len(rows)), key=lambda i: len(prompts[i]))
    said = [""] * len(rows)
    with torch.no_grad():
        for start in range(0, len(rows), BATCH):
            batch = order[start : start + BATCH]
            asked = [
                [{"role": "user", "content": [{"type": "image", "image": picture(rows[i]["image"])},
                                              {"type": "text", "text": prompts[i]}]}]
                for i in batch
            ]  # fmt: skip
            inputs = processor.apply_chat_template(
                asked, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True,
                processor_kwargs={"padding": True},
            ).to(getattr(torch, DTYPE))  # fmt: skip
            tokens = model.generate(**inputs, max_new_tokens=32 if task == "vqa" else 64, do_sample=False)
            tokens = tokens[:, inputs["input_ids"].shape[1] :]
            texts = processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
            for i, text in zip(batch, texts, strict=True):
                said[i] = text.strip()
            if not start:
                mark("first")
    mark("done")
    if task == "vqa":
        from harness.metrics.text import normalise

        right = [normalise(a, "en") == normalise(r["references"], "en") for a, r in zip(said, rows, strict=True)]
        return {"exact_match": sum(right) / len(right), "answers": said}
    from harness.metrics.captions import caption_scores

    scored = caption_scores(said, [row["references"] for row in rows], "en")
    return {s.metric.name: s.value for s in scored} | {"answers": said}


# Both, measured -------------------------------------------------------------------------------------------------------


def measured(command: list[str]) -> tuple[str, dict[str, float]]:
    """Run a command; what it printed, and CPU seconds: `whole`, `inner`, `start` (until the model is loaded), with the
    wall clock's `first_s` (until the first batch is answered)."""
    marks = PLACE / "marks"
    marks.unlink(missing_ok=True)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "benchmarks")])
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = (
        os.environ
        | one
        | {"TOKENIZERS_PARALLELISM": "false"}
        | {"PYTHONPATH": path, "HARNESS_MARKS": str(marks), "NO_COLOR": "1"}
    )
    before, began = _used(), time.time()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=PLACE, start_new_session=True)
    while True:  # the fork server ends after the driver; this process adopts it, so its time counts as well
        try:
            os.wait()
        except ChildProcessError:
            break
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    found = {name: (cpu, wall) for name, cpu, wall in map(json.loads, marks.open())} if marks.exists() else {}
    times = {"whole": _used() - before}
    if found:
        times["inner"] = found["done"][0] - found["loaded"][0]
        times["start"] = found["loaded"][0]
        times["first_s"] = found["first"][1] - began
    return done.stdout, times


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_loop(task: str, n: int) -> dict[str, Any]:
    """The loop by hand in a process of its own: metrics, answers, times."""
    said, times = measured([sys.executable, __file__, "--loop", task])
    return json.loads(said.splitlines()[-1]) | {"times": times}


def command(task: str, model: str, dataset: str) -> list[str]:
    """A run named r, and nothing beside its summary."""
    shutil.rmtree(PLACE / "results", ignore_errors=True)
    words = [f"task={task}", f"model={model}", f"dataset={dataset}", f"data_dir={PLACE}/data", "device=cpu"]
    words += [f"results_dir={PLACE}/results", "run=r", "latency=off", "report.charts=false", f"batch_size={BATCH}"]
    words += [f"dtype={DTYPE}"]
    words += ["tasks.captioning.meteor=false"] if task == "captioning" else []  # the loop by hand has none either
    return [sys.executable, "-m", "harness", "run", *words, "--config-dir", str(PLACE / "conf")]


def run_harness(task: str, model: str) -> dict[str, Any]:
    """`harness run` on the same: metrics, answers in the rows' order, times."""
    _, times = measured(command(task, model, f"bench-{task}"))
    summary = json.loads((PLACE / "results/r/summary.json").read_text())
    (cell,) = [cell for cell in summary["cells"] if cell["origin"] != "reference"]
    (records,) = (PLACE / f"results/r/cells/{model}").glob("*/records.jsonl")
    answers = {row["id"]: row.get("answer") for row in map(json.loads, records.open())}
    ids = [str(json.loads(line)["id"]) for line in (PLACE / f"data/{task}.jsonl").open()]
    metrics = {name: entry["value"] for name, entry in cell["metrics"].items()}
    return metrics | {"answers": [answers.get(name) for name in ids], "times": times}


def pairs(task: str, n: int, rounds: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Runs of the harness and of the loop, in turn."""
    model = "clip" if task in ("retrieval", "classification") else "qwen"
    ours, loops = [], []
    for _ in range(rounds):
        loops.append(run_loop(task, n))
        ours.append(run_harness(task, model))
    return ours, loops


def small(n: int = 64, rounds: int = 5) -> None:
    """The whole run over the loop by hand where start-up counts: the median of the pairs, and the interval that holds
    the true median in 94 % of cases (of five pairs, from the least to the largest)."""
    print(f"\nsmall: {n} samples in batches of {BATCH}, {DTYPE}; whole run / by hand, {rounds} pairs (limit 1.05)")
    for task in WORKLOADS:
        ours, loops = pairs(task, n, rounds)
        for name in HEADLINE[task]:
            if abs(ours[0][name] - loops[0][name]) > 0.1:
                raise SystemExit(
                    f"{task}: {name} is {ours[0][name]:.4f} by the harness and {loops[0][name]:.4f} by hand"
                )
        ratios = sorted(p["times"]["whole"] / q["times"]["whole"] for p, q in zip(ours, loops, strict=True))
        seconds = [sorted(run["times"]["whole"] for run in runs)[rounds // 2] for runs in (ours, loops)]
        print(f"  {task:14} {ratios[rounds // 2]:.3f} [{ratios[0]:.3f}, {ratios[-1]:.3f}]; CPU s {seconds[0]:.2f} / "
              f"{seconds[1]:.2f}")  # fmt: skip


def compare(task: str, n: int, rounds: int) -> None:
    """Both in turn, `rounds` times; the ratio of the least CPU seconds of each side, which a neighbour slows least."""
    ours, loops = pairs(task, n, rounds)
    a, b = ours[0], loops[0]
    for name in HEADLINE[task]:
        if abs(a[name] - b[name]) > 0.02:
            raise SystemExit(f"{task}: {name} is {a[name]:.4f} by the harness and {b[name]:.4f} by hand")
    same = sum(x == y for x, y in zip(a["answers"], b["answers"], strict=False))
    agree = f"{same} of {len(b['answers'])} answers alike" if b["answers"] else "recalls alike"
    metrics = ", ".join(f"{name} {a[name]:.3f} / {b[name]:.3f}" for name in HEADLINE[task])

    def least(runs: list[dict[str, Any]], key: str) -> float:
        return min(run["times"][key] for run in runs)

    print(f"\n{task}, n = {n}, {rounds} rounds; {metrics}; {agree}")
    for key, limit in (("inner", "1.03"), ("whole", "1.10"), ("start", ""), ("first_s", "")):
        x, y = least(ours, key), least(loops, key)
        each = " ".join(f"{p['times'][key] / q['times'][key]:.3f}" for p, q in zip(ours, loops, strict=True))
        ratio = f" = {x / y:.3f} x (limit {limit}; by round {each})" if limit else ""
        print(f"  {key:8} harness {x:7.2f} s, by hand {y:7.2f} s{ratio}")


def nothing(n: int) -> list[str]:
    """The command that asks an adapter which does nothing n questions."""
    (PLACE / "data").mkdir(parents=True, exist_ok=True)
    config("model", "nothing", "model", f"_target_: loops.Nothing\ncheckpoint: {PLACE}/conf\nmodalities: [text]")
    with (PLACE / "data/nothing.jsonl").open("w") as file:
        for i in range(n):
            row = {"id": i, "q": f"Is it red, number {i}?", "a": "yes" if i % 2 else "no"}
            file.write(json.dumps(row) + "\n")
    columns = "{id: id, question: q, references: a}"
    text = f"source: jsonl\ntasks: [vqa]\nmodalities: [text]\npath: nothing.jsonl\ncolumns: {columns}"
    config("dataset", "bench-nothing", "dataset", text)
    return command("vqa", "nothing", "bench-nothing")


def overhead(n: int = 20_000) -> None:
    """What the harness itself costs: a run of an adapter that does nothing, and a report made again."""
    _, times = measured(nothing(n))
    _, again = measured([sys.executable, "-m", "harness", "report", str(PLACE / "results/r"), "--out", "report"])
    _, help_ = measured([sys.executable, "-m", "harness", "--help"])
    print(f"\noverhead, an adapter that does nothing, {n} samples at batch {BATCH}")
    print(
        f"  a sample {1000 * times['inner'] / n:.3f} ms (limit 0.3), both processes; whole {times['whole']:.2f} CPU s"
    )
    print(
        f"  start-up until loaded {times['start']:.2f} CPU s, to the first batch {times['first_s']:.2f} s on the clock"
    )
    print(f"  report with charts over these {again['whole']:.2f} CPU s; harness --help {help_['whole']:.2f} CPU s")


def main(words: list[str]) -> None:
    if words[:1] == ["--loop"]:
        import torch

        torch.set_num_threads(1)
        print(json.dumps(by_hand(words[1])))
        return
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphaned grandchildren become ours
    options = {name: int(words.pop(words.index(name) + 1)) for name in ("--rounds", "--n") if name in words}
    chosen = [word for word in words if not word.startswith("--")] or ["overhead", *WORKLOADS]
    if chosen == ["small"]:
        if BATCH != 8 or DTYPE != "bfloat16":  # read when this module is imported, by each of its processes
            os.execve(
                sys.executable,
                [sys.executable, *sys.argv],
                os.environ | {"BENCHMARK_BATCH": "8", "BENCHMARK_DTYPE": "bfloat16"},
            )
        build(64)
        small(rounds=options.get("--rounds", 5))
        return
    n = options.get("--n", 256)
    if set(chosen) & set(WORKLOADS):
        build(n)
    for name in chosen:
        overhead() if name == "overhead" else compare(name, n, options.get("--rounds", 3))


if __name__ == "__main__":
    main(sys.argv[1:])
