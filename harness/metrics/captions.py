"""Captions against references: CIDEr, BLEU-1 to 4 and ROUGE-L as coco-caption (pycocoevalcap) computes them.

Counting n-grams is done once for all captions as numbers: a caption's n-grams get ids, and clipping, document
frequencies and cosines become sorts and sums over (caption, n-gram, count) triples. BLEU's statistics are the counts of
each image and CIDEr's its own score given the document frequencies of all references, so both have intervals.
A missing prediction is an empty caption.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.metrics import Metric, Scored, averaged
from harness.metrics.tokenise import Tokeniser, caption_tokeniser

if TYPE_CHECKING:
    import numpy as np

ORDERS = 4
_SIGMA = 6.0
_BETA = 1.2
_SMALL, _TINY = 1e-9, 1e-15
"""The official script's guards against division by zero; they show in the last digits of a short corpus' BLEU."""


def caption_scores(
    predictions: Sequence[str | None],
    references: Sequence[Sequence[str]],
    language: str,
    tokeniser: Tokeniser | None = None,
) -> list[Scored]:
    """`cider`, `bleu1` ... `bleu4`, `rouge_l` of one caption an image against its references, CIDEr first.

    Raises UserError where an image has no reference.
    """
    import numpy as np

    for number, texts in enumerate(references, 1):
        if not texts:
            raise UserError(f"Caption {number} has no reference to be compared with.")
    tokeniser = tokeniser or caption_tokeniser(language)
    n = len(predictions)
    split = tokeniser.split([p or "" for p in predictions] + [text for texts in references for text in texts])
    image = np.repeat(np.arange(n), [len(texts) for texts in references])
    missing = np.array([p is None for p in predictions], dtype=bool)
    counts = _Counts(split, n, image)
    return [
        averaged("cider", _cider_definition(tokeniser), counts.cider(), high=10.0),
        *_bleu(counts, tokeniser),
        averaged(
            "rouge_l",
            f"ROUGE-L, coco-caption (beta 1.2, best precision and best recall of the references); {tokeniser.name}",
            np.where(missing, 0.0, _rouge(split[:n], split[n:], image)),
        ),
    ]


def _cider_definition(tokeniser: Tokeniser) -> str:
    return (
        "CIDEr-D, coco-caption (sigma 6, document frequencies of these references, on which the interval is "
        f"conditional); a paper prints it times 100; {tokeniser.name}"
    )


# n-grams as numbers ---------------------------------------------------------------------------------------------------


class _Counts:
    """The n-grams of n predictions and their references: for each order, how often each text has each n-gram.

    Texts are numbered predictions first; `image` [r] is the prediction that each reference belongs to.
    """

    def __init__(self, split: Sequence[Sequence[str]], n: int, image: np.ndarray) -> None:
        import numpy as np

        self.n, self.image = n, image
        self.lengths = np.array([len(tokens) for tokens in split], dtype=np.int64)
        text = np.repeat(np.arange(len(split)), self.lengths)
        vocabulary: dict[str, int] = {}
        flat = [vocabulary.setdefault(token, len(vocabulary)) for tokens in split for token in tokens]
        words = np.array(flat, dtype=np.int64)
        after = self.lengths.cumsum()[text] - np.arange(len(text)) if len(text) else np.zeros(0, dtype=np.int64)
        self.orders: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]] = []
        """For each order: text, n-gram, count (sorted by text, then n-gram), and one more than the largest n-gram."""
        gram = words
        for order in range(1, ORDERS + 1):
            if order > 1:
                # An n-gram is its first n - 1 words, which have an id, and one more.
                gram = gram[:-1] * len(vocabulary) + words[order - 1 :] if len(gram) else gram
                gram = np.unique(gram, return_inverse=True)[1] if len(gram) else gram
            at = np.flatnonzero(after[: len(gram)] >= order)
            kinds = int(gram.max(initial=-1)) + 1
            key, count = np.unique(text[at] * max(1, kinds) + gram[at], return_counts=True)
            self.orders.append((key // max(1, kinds), key % max(1, kinds), count, kinds))

    def matches(self) -> np.ndarray:
        """Int64 [n, 4]: n-grams of the prediction that a reference has too, each counted at most as often as there."""
        import numpy as np

        found = np.zeros((self.n, ORDERS), dtype=np.int64)
        for k, (text, gram, count, kinds) in enumerate(self.orders):
            first = np.searchsorted(text, self.n)
            key = self.image[text[first:] - self.n] * kinds + gram[first:]
            order = np.argsort(key, kind="stable")
            key, most = key[order], count[first:][order]
            if not len(key):
                continue
            starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
            key, most = key[starts], np.maximum.reduceat(most, starts)
            own = text[:first] * kinds + gram[:first]
            place = np.minimum(np.searchsorted(key, own), len(key) - 1)
            clipped = np.where(key[place] == own, np.minimum(count[:first], most[place]), 0)
            found[:, k] = np.bincount(text[:first], weights=clipped, minlength=self.n)
        return found

    def cider(self) -> np.ndarray:
        """Float64 [n]: CIDEr-D of each prediction, from 0 to 10."""
        import numpy as np

        n, refs = self.n, len(self.image)
        if n == 0:
            return np.zeros(0)
        # The official script counts a caption's length in bigrams.
        length = np.maximum(self.lengths - 1, 0)
        penalty = np.exp(-((length[self.image] - length[n:]).astype(np.float64) ** 2) / (2 * _SIGMA**2))
        total = np.zeros(refs)
        for text, gram, count, kinds in self.orders:
            first = np.searchsorted(text, n)
            in_image = np.unique(self.image[text[first:] - n] * kinds + gram[first:]) % max(1, kinds)
            frequency = np.bincount(in_image, minlength=kinds)
            weight = count * (np.log(n) - np.log(np.maximum(1.0, frequency)))[gram]
            norm = np.sqrt(np.bincount(text, weights=weight**2, minlength=n + refs))
            ref = text[first:] - n
            wanted = self.image[ref] * kinds + gram[first:]
            own = text[:first] * kinds + gram[:first]
            if not len(own) or not len(wanted):
                continue
            place = np.minimum(np.searchsorted(own, wanted), len(own) - 1)
            said = np.where(own[place] == wanted, weight[:first][place], 0.0)
            product = np.bincount(ref, weights=np.minimum(said, weight[first:]) * weight[first:], minlength=refs)
            scale = norm[self.image] * norm[n:]
            total += np.divide(product, scale, out=product, where=scale > 0) * penalty
        mean = np.bincount(self.image, weights=total, minlength=n) / np.bincount(self.image, minlength=n)
        return 10.0 * mean / ORDERS


# BLEU and ROUGE-L -----------------------------------------------------------------------------------------------------


def _bleu(counts: _Counts, tokeniser: Tokeniser) -> list[Scored]:
    """BLEU of each order; statistics of an image are [matches 1-4, n-grams 1-4, length, closest reference length]."""
    import numpy as np

    n = counts.n
    said, lengths = counts.lengths[:n], counts.lengths[n:]
    guesses = np.maximum(0, said[:, None] - np.arange(ORDERS))
    # The closest reference length, of two equally close the shorter.
    order = np.lexsort((lengths, np.abs(lengths - said[counts.image]), counts.image))
    starts = np.searchsorted(counts.image, np.arange(n))
    closest = lengths[order][starts] if n else lengths
    statistics = np.column_stack([counts.matches(), guesses, said, closest]).astype(np.float64)
    found = []
    for k in range(1, ORDERS + 1):
        words = "" if k == 1 else f", geometric mean of orders 1 to {k}"
        definition = f"corpus BLEU-{k}, coco-caption (closest reference length{words}); {tokeniser.name}"
        found.append(Scored(Metric(f"bleu{k}", definition, _bleu_finish(k)), statistics))
    return found


def _bleu_finish(k: int) -> Callable[[np.ndarray], np.ndarray]:
    def finish(sums: np.ndarray) -> np.ndarray:
        import numpy as np

        precision = (sums[..., :k] + _TINY) / (sums[..., ORDERS : ORDERS + k] + _SMALL)
        value = np.prod(precision, axis=-1) ** (1 / k)
        ratio = (sums[..., -2] + _TINY) / (sums[..., -1] + _SMALL)
        with np.errstate(divide="ignore", over="ignore"):
            value = np.where(ratio < 1, value * np.exp(1 - 1 / np.maximum(ratio, _TINY)), value)
        return np.where(sums[..., -1] > 0, value, np.nan)

    return finish


def _rouge(said: Sequence[Sequence[str]], refs: Sequence[Sequence[str]], image: np.ndarray) -> np.ndarray:
    """Float64 [n]: ROUGE-L of each prediction from its best precision and best recall over the references."""
    import numpy as np

    precision, recall = np.zeros(len(said)), np.zeros(len(said))
    for i, ref in zip(map(int, image), refs, strict=True):
        # An empty text counts one token: the official script splits "" into [""].
        tokens = said[i]
        common = _common_subsequence(tokens, ref)
        precision[i] = max(precision[i], common / max(1, len(tokens)))
        recall[i] = max(recall[i], common / max(1, len(ref)))
    below = recall + _BETA**2 * precision
    return np.divide((1 + _BETA**2) * precision * recall, below, out=np.zeros(len(said)), where=below > 0)


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table held as the bits of one number (Hyyrö 2004)."""
    where: dict[str, int] = {}
    for i, token in enumerate(b):
        where[token] = where.get(token, 0) | 1 << i
    full = (1 << len(b)) - 1
    row = full
    for token in a:
        at = where.get(token)
        if at is not None:
            hit = row & at
            row = ((row + hit) | (row - hit)) & full
    return len(b) - row.bit_count()
