"""Captions against references: CIDEr, BLEU-1 to 4 and ROUGE-L as coco-caption (pycocoevalcap) computes them.

The n-grams of all captions are counted at once, as numbers: each n-gram gets an id, and clipping, document frequencies
and cosines become sorts and sums over (caption, n-gram, count) triples. BLEU's statistics are the counts of each image,
and CIDEr's are each image's own score given the document frequencies of all references, so both have intervals.
A missing prediction counts as an empty caption.

Shapes in this module:
    n           predictions, one for each image
    r           references of all images together
    n + r       texts: text i is prediction i for i < n, and text n + j is reference j
    image [r]   the prediction that each reference belongs to, in rising order
    k           pairs of a text and an n-gram it has, for n-grams of one length
A pair of numbers (a, b) with b < kinds is held as the one number a * kinds + b, which sorts as the pair does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from harness.errors import UserError
from harness.metrics import Metric, Scored, averaged
from harness.metrics.tokenise import Tokeniser, caption_tokeniser

ORDERS = 4
"""N-grams of 1 to 4 words are counted."""
_SIGMA = 6.0
"""CIDEr-D: the width of its penalty for another length."""
_BETA = 1.2
"""ROUGE-L: how much recall weighs against precision."""
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


class _Grams(NamedTuple):
    """The n-grams of one length: which text has which of them how often, sorted by text and then by n-gram."""

    text: np.ndarray
    """Int64 [k]."""
    gram: np.ndarray
    """Int64 [k]: the n-gram's id, below `kinds`."""
    count: np.ndarray
    """Int64 [k], at least 1."""
    kinds: int
    """How many ids there are."""


class _Counts:
    """The n-grams of n predictions and their references: for each length, how often each text has each n-gram.

    One image whose prediction is "the the cat" and whose reference is "the cat sat":

    >>> counts = _Counts([["the", "the", "cat"], ["the", "cat", "sat"]], n=1, image=np.array([0]))
    >>> counts.orders[0].text.tolist(), counts.orders[0].count.tolist()  # the, cat | the, cat, sat
    ([0, 0, 1, 1, 1], [2, 1, 1, 1, 1])
    >>> counts.matches().tolist()  # the (once, as in the reference) and cat; "the cat"; nothing longer
    [[2, 1, 0, 0]]
    """

    def __init__(self, split: Sequence[Sequence[str]], n: int, image: np.ndarray) -> None:
        self.n, self.image = n, image
        self.lengths = np.array([len(tokens) for tokens in split], dtype=np.int64)
        text = np.repeat(np.arange(len(split)), self.lengths)
        vocabulary: dict[str, int] = {}
        flat = [vocabulary.setdefault(token, len(vocabulary)) for tokens in split for token in tokens]
        words = np.array(flat, dtype=np.int64)
        # How many words of its text come from each word on, itself included: an n-gram must not run into the next text.
        left = self.lengths.cumsum()[text] - np.arange(len(text)) if len(text) else np.zeros(0, dtype=np.int64)
        self.orders: list[_Grams] = []
        """One entry for each length from 1 to ORDERS."""
        gram = words
        for order in range(1, ORDERS + 1):
            if order > 1 and len(gram):
                # An n-gram is its first n - 1 words, which have an id, and one more. Ids are made small again, or the
                # product would outgrow an int64.
                gram = gram[:-1] * len(vocabulary) + words[order - 1 :]
                gram = np.unique(gram, return_inverse=True)[1] if len(gram) else gram
            start = np.flatnonzero(left[: len(gram)] >= order)
            kinds = int(gram.max(initial=-1)) + 1
            key, count = np.unique(text[start] * max(1, kinds) + gram[start], return_counts=True)
            self.orders.append(_Grams(key // max(1, kinds), key % max(1, kinds), count, kinds))

    def matches(self) -> np.ndarray:
        """Int64 [n, 4]: n-grams of each prediction that a reference has too, each counted at most as often as there."""
        found = np.zeros((self.n, ORDERS), dtype=np.int64)
        for k, (text, gram, count, kinds) in enumerate(self.orders):
            first = np.searchsorted(text, self.n)  # entries before it are of predictions, the rest of references
            key = self.image[text[first:] - self.n] * kinds + gram[first:]
            order = np.argsort(key, kind="stable")
            key, most = key[order], count[first:][order]
            if not len(key):
                continue
            # The reference of an image that has the n-gram most often sets the limit.
            starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
            key, most = key[starts], np.maximum.reduceat(most, starts)
            own = text[:first] * kinds + gram[:first]
            place = np.minimum(np.searchsorted(key, own), len(key) - 1)
            clipped = np.where(key[place] == own, np.minimum(count[:first], most[place]), 0)
            found[:, k] = np.bincount(text[:first], weights=clipped, minlength=self.n)
        return found

    def cider(self) -> np.ndarray:
        """Float64 [n]: CIDEr-D of each prediction, from 0 to 10 (Vedantam et al. 2015).

        For each length of n-grams, texts are vectors of count * log(n / images whose references have the n-gram). Each
        reference gives the cosine with its prediction, whose entries are cut to the reference's own, times a penalty
        for another length; the score is 10 times the mean over lengths and references.
        """
        n, refs = self.n, len(self.image)
        if n == 0:
            return np.zeros(0)
        # The official script counts a caption's length in bigrams.
        length = np.maximum(self.lengths - 1, 0)
        penalty = np.exp(-((length[self.image] - length[n:]).astype(np.float64) ** 2) / (2 * _SIGMA**2))
        total = np.zeros(refs)
        for text, gram, count, kinds in self.orders:
            first = np.searchsorted(text, n)
            # An n-gram counts once for each image, however many of its references have it.
            in_image = np.unique(self.image[text[first:] - n] * kinds + gram[first:]) % max(1, kinds)
            frequency = np.bincount(in_image, minlength=kinds)
            weight = count * (np.log(n) - np.log(np.maximum(1.0, frequency)))[gram]
            norm = np.sqrt(np.bincount(text, weights=weight**2, minlength=n + refs))
            ref = text[first:] - n
            own = text[:first] * kinds + gram[:first]
            theirs = self.image[ref] * kinds + gram[first:]  # as if the references' n-grams were the prediction's
            if not len(own) or not len(theirs):
                continue
            place = np.minimum(np.searchsorted(own, theirs), len(own) - 1)
            matching = np.where(own[place] == theirs, weight[:first][place], 0.0)
            product = np.bincount(ref, weights=np.minimum(matching, weight[first:]) * weight[first:], minlength=refs)
            scale = norm[self.image] * norm[n:]
            total += np.divide(product, scale, out=product, where=scale > 0) * penalty
        mean = np.bincount(self.image, weights=total, minlength=n) / np.bincount(self.image, minlength=n)
        return 10.0 * mean / ORDERS


# BLEU and ROUGE-L -----------------------------------------------------------------------------------------------------


def _bleu(counts: _Counts, tokeniser: Tokeniser) -> list[Scored]:
    """BLEU-1 to 4. An image's statistics [10] are matches 1-4, n-grams 1-4, length, and closest reference length."""
    n = counts.n
    own, theirs = counts.lengths[:n], counts.lengths[n:]
    guesses = np.maximum(0, own[:, None] - np.arange(ORDERS))
    # Sorted by image, then by distance from the prediction's length, then by length: the first of an image is its
    # closest reference length, and of two that are equally close the shorter.
    order = np.lexsort((theirs, np.abs(theirs - own[counts.image]), counts.image))
    starts = np.searchsorted(counts.image, np.arange(n))
    closest = theirs[order][starts] if n else theirs
    statistics = np.column_stack([counts.matches(), guesses, own, closest]).astype(np.float64)
    found = []
    for k in range(1, ORDERS + 1):
        mean = "" if k == 1 else f", geometric mean of orders 1 to {k}"
        definition = f"corpus BLEU-{k}, coco-caption (closest reference length{mean}); {tokeniser.name}"
        found.append(Scored(Metric(f"bleu{k}", definition, _bleu_finish(k)), statistics))
    return found


def _bleu_finish(k: int) -> Callable[[np.ndarray], np.ndarray]:
    """The `finish` of BLEU-k: summed statistics [..., 10] of `_bleu` -> values [...] (Papineni et al. 2002)."""

    def finish(sums: np.ndarray) -> np.ndarray:
        precision = (sums[..., :k] + _TINY) / (sums[..., ORDERS : ORDERS + k] + _SMALL)
        value = np.prod(precision, axis=-1) ** (1 / k)
        ratio = (sums[..., -2] + _TINY) / (sums[..., -1] + _SMALL)
        with np.errstate(divide="ignore", over="ignore"):
            value = np.where(ratio < 1, value * np.exp(1 - 1 / np.maximum(ratio, _TINY)), value)  # brevity penalty
        return np.where(sums[..., -1] > 0, value, np.nan)

    return finish


def _rouge(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]], image: np.ndarray) -> np.ndarray:
    """Float64 [n]: ROUGE-L of each tokenised prediction, from its best precision and its best recall over its
    references (Lin 2004)."""
    precision, recall = np.zeros(len(predictions)), np.zeros(len(predictions))
    for i, reference in zip(map(int, image), references, strict=True):
        # An empty text counts one token: the official script splits "" into [""].
        common = _common_subsequence(predictions[i], reference)
        precision[i] = max(precision[i], common / max(1, len(predictions[i])))
        recall[i] = max(recall[i], common / max(1, len(reference)))
    below = recall + _BETA**2 * precision
    return np.divide((1 + _BETA**2) * precision * recall, below, out=np.zeros(len(predictions)), where=below > 0)


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence of two token lists.

    A row of the usual table is held as the bits of one number: bit i is 0 where the length grows at b[i]. A token of
    `a` then costs a few operations on whole numbers instead of a loop over `b` (Hyyrö 2004).

    >>> _common_subsequence("a cat on the mat".split(), "the cat sat on a mat".split())  # cat on mat
    3
    """
    where: dict[str, int] = {}  # token -> the bits of its places in b
    for i, token in enumerate(b):
        where[token] = where.get(token, 0) | 1 << i
    full = (1 << len(b)) - 1
    row = full
    for token in a:
        at = where.get(token)
        if at is not None:
            hit = row & at
            # The sum carries a hit up to the next 0 bit and fills it, and the lowest hit below that becomes 0: the
            # length grows at an earlier token now.
            row = ((row + hit) | (row - hit)) & full
    return len(b) - row.bit_count()
