"""What metrics and statistics cost, each against a yardstick in the same run (CPU seconds of this process).

    python tests/benchmarks/speed.py [answers | retrieval | captions | statistics | large]     "large" takes minutes

Limits: ranking both directions of 5k x 25k (d = 512) at most 1.3 times the bare product, under 0.8 GB; 20k x 100k under
1.3 GB; BLEU + ROUGE + CIDEr at most 0.4 times pycocoevalcap's; two models, 5,000 samples, 2,000 resamples under 1 s;
ANLS of an answer of 100,000 characters under 1 s.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from harness.analysis.statistics import compare, estimates
from harness.metrics import averaged, tokenise
from harness.metrics.captions import caption_scores
from harness.metrics.ranking import ROWS, rank_both
from harness.metrics.vqa import anls

ORACLE = Path(__file__).parents[2].parent / "shared" / "oracles" / "captions_coco5k.json"


def timed(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def peak_gb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def retrieval(images=5_000, texts=25_000, d=512):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((images, d), dtype=np.float32)
    owner = np.arange(texts) // (texts // images)
    b = a[owner] + rng.gamma(4, 1.5, (texts, 1)).astype(np.float32) * rng.standard_normal((texts, d), dtype=np.float32)
    for vectors in (a, b):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = np.stack([owner, np.arange(texts)], axis=1)

    def product():
        for start in range(0, images, ROWS):
            a[start : start + ROWS] @ b.T

    # In turn, the best of three each: a neighbour on the machine slows either.
    rounds = [(timed(product), timed(lambda: rank_both(a, b, pairs))) for _ in range(3 if images <= 5_000 else 1)]
    bare, ranks = map(min, zip(*rounds, strict=True))
    memory = peak_gb()
    first = timed(lambda: rank_both(a, b, pairs, top=10))
    recall = (rank_both(a, b, pairs)[1].rank == 1).mean() if images <= 5_000 else np.nan
    print(f"retrieval {images} x {texts}: product {bare:.2f} s, both rankings {ranks:.2f} s = {ranks / bare:.2f} x,")
    print(f"  peak {memory:.2f} GB; with the first ten items {first:.2f} s, {peak_gb():.2f} GB")
    print(f"  (the data: t2i recall@1 {recall:.2f})")


def captions():
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    data = json.loads(ORACLE.read_text())
    predictions = list(data["predictions"].values())
    references = [data["references"][i] for i in data["predictions"]]
    rules = tokenise.Tokeniser("rules", tokenise._rules)
    cut = [" ".join(t) for t in rules.split(predictions)]
    cut_references = [[" ".join(t) for t in rules.split(texts)] for texts in references]
    words = tokenise.Tokeniser("words", lambda texts: [text.split() for text in texts])
    res, gts = {i: [c] for i, c in enumerate(cut)}, dict(enumerate(cut_references))

    def peer():
        Bleu(4).compute_score(gts, res, verbose=0)
        Cider().compute_score(gts, res)
        Rouge().compute_score(gts, res)

    theirs = timed(peer)
    ours = timed(lambda: caption_scores(cut, cut_references, "en", words))
    whole = timed(lambda: caption_scores(predictions, references, "en", rules))
    print(f"captions, 4,982 images: pycocoevalcap {theirs:.2f} s, ours {ours:.2f} s = {ours / theirs:.2f} x; ")
    print(f"  with tokenising by the Python rules {whole:.2f} s = {whole / theirs:.2f} x")


def statistics():
    rng = np.random.default_rng(0)
    clusters = [str(i // 2) for i in range(5_000)]
    a, b = (averaged("accuracy", "", rng.random(5_000) < p) for p in (0.6, 0.58))
    intervals = timed(lambda: estimates([a, b], clusters))
    test = timed(lambda: compare(a, b, clusters))
    print(f"statistics, two models x 5,000 samples: both intervals {intervals:.2f} s, the paired test {test:.2f} s")


def answers():
    text = "".join(np.random.default_rng(0).choice(list("abcdef "), 100_000))
    distances = timed(lambda: anls([text], [[text[i : i + 40] for i in range(10)]]))
    alike = timed(lambda: anls([text], [[text[1:]]]))
    print(f"ANLS of an answer of 100,000 characters: ten short references {distances:.2f} s, one as long {alike:.2f} s")


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["answers", "statistics", "captions", "retrieval"]
    for name in chosen:
        {
            "answers": answers,
            "retrieval": retrieval,
            "captions": captions,
            "statistics": statistics,
            "large": lambda: retrieval(20_000, 100_000),
        }[name]()
