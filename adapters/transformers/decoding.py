"""Greedy answers and likelihoods of given choices, for any decoder that `generate` of transformers serves.

Checkpoints bring decoding settings of their own (sampling, beams, repetition penalties). A comparison asks all models
alike, so these are replaced by plain greedy decoding and only the special tokens are kept.

Choices are scored by forcing each one through `generate` behind the prompt: the prompt and its images are computed once
and their key-value cache is repeated for the choices, which costs a few decoding steps instead of a prefill a choice.

Shapes are written with these letters:

    n        prompts, or rows of the cache where each stands for a choice
    length   tokens of a prompt, or of what was generated
    steps    tokens of the longest choice without its first, which the prefill has scored already
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import SampleError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from harness.clock import Clock
    from harness.records import Finish, Request

ROWS = 256
"""How many choices are scored at a time; it bounds the memory of the repeated caches."""
_KEPT = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "suppress_tokens",
    "bad_words_ids",
)
"""The settings of a checkpoint that say which tokens there are, and not how to choose among them."""


def use_greedy_decoding(model: Any, pad_token_id: int | None) -> None:
    """Replace the generation settings of `model` and of its parts by greedy ones that keep the special tokens alone."""
    from transformers import GenerationConfig

    for module in model.modules():
        old = getattr(module, "generation_config", None)
        if old is None:
            continue
        kept = {name: value for name in _KEPT if (value := getattr(old, name, None)) is not None}
        if kept.get("pad_token_id") is None:
            kept["pad_token_id"] = pad_token_id
        module.generation_config = GenerationConfig(do_sample=False, num_beams=1, **kept)


class _Phases:
    """A logits processor that changes nothing and tells the clock how far generation is.

    `generate` calls it once for each token: the first call ends the phase "prefill" and begins "decode", and every call
    stamps a token. On CUDA it does not wait for the token.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stack = ExitStack()
        self._decoding = False

    def __enter__(self) -> _Phases:
        self._stack.enter_context(self._clock.phase("prefill"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not self._decoding:
            self._decoding = True
            self._stack.close()
            self._stack.enter_context(self._clock.phase("decode"))
        self._clock.token()
        return scores


def generate_greedily(
    generate: Callable[..., Any], tensors: dict[str, Any], lengths: tuple[int, int], clock: Clock
) -> torch.Tensor:
    """Token ids int64 [n, length] as a model's `generate` returns them (some families repeat the prompt).

    `lengths` are the fewest and the most tokens of an answer.
    """
    import torch

    least, most = lengths
    with torch.no_grad(), _Phases(clock) as phases:
        return generate(**tensors, min_new_tokens=least or None, max_new_tokens=most, logits_processor=[phases])


def answer_lengths(requests: Sequence[Request]) -> tuple[int, int]:
    """The fewest and the most tokens that a batch's answers may have."""
    return min(r.min_new_tokens for r in requests), max(r.max_new_tokens for r in requests)


def plain_generate(model: Any) -> Callable[..., Any]:
    """The library's own `generate` for `model`: the wrapper that a family may have drops logits processors (Janus)."""
    from functools import partial

    from transformers import GenerationMixin

    # The library says that its `self` is a whole model, which the mixin alone is not.
    function: Callable[..., Any] = GenerationMixin.generate  # pyright: ignore[reportAttributeAccessIssue]
    return partial(function, model)


def count_tokens(rows: torch.Tensor, stop: int | Sequence[int] | None) -> list[int]:
    """How many tokens each of `rows` [n, length] has up to the `stop` that ended it, which counts; padding does not.

    >>> import torch
    >>> count_tokens(torch.tensor([[5, 6, 2, 0], [5, 6, 7, 8]]), stop=2)
    [3, 4]
    """
    stops = _stops(stop)
    return [next((i + 1 for i, token in enumerate(row) if token in stops), len(row)) for row in rows.tolist()]


def finishes(rows: torch.Tensor, stop: int | Sequence[int] | None) -> list[Finish]:
    """What ended each of `rows` [n, length]: its `stop`, or where it has none the token limit.

    >>> import torch
    >>> finishes(torch.tensor([[5, 6, 2, 0], [5, 6, 7, 8], [5, 6, 7, 2]]), stop=2)
    ['stop', 'length', 'stop']
    """
    stops = _stops(stop)
    return ["length" if stops.isdisjoint(row) else "stop" for row in rows.tolist()]


def _stops(stop: int | Sequence[int] | None) -> set[int]:
    return {stop} if isinstance(stop, int) else set(stop or ())


def choice_tokens(tokenizer: Any, choices: Sequence[str]) -> list[list[int]]:
    """Token ids of each choice, without special tokens; raises SampleError for a choice that has none."""
    tokens = [tokenizer(choice, add_special_tokens=False).input_ids for choice in choices]
    if not all(tokens):
        raise SampleError(f"A choice is empty: {', '.join(map(repr, choices))}.")
    return tokens


def choice_likelihoods(
    model: Any, tensors: dict[str, Any], choices: Sequence[Sequence[Sequence[int]]], clock: Clock
) -> list[np.ndarray]:
    """The mean log-likelihood of each choice's tokens behind its prompt: n arrays, float32, one value for each choice.

    `tensors` hold the n left-padded prompts (`input_ids`, `attention_mask`, pixels), and `choices` the token ids of
    each choice of each prompt.
    """
    import numpy as np
    import torch

    generate = plain_generate(model)
    flat = [(row, tokens) for row, tokens_of_row in enumerate(choices) for tokens in tokens_of_row]
    # The prefill gives the likelihood of every first token, and the cache of the prompts.
    with torch.no_grad(), clock.phase("prefill"):
        first = generate(**tensors, max_new_tokens=1, return_dict_in_generate=True, output_logits=True)
        logs = torch.log_softmax(first.logits[0].float(), dim=-1)
    with torch.no_grad(), clock.phase("decode"):
        rows = torch.tensor([row for row, _ in flat], device=logs.device)
        totals = logs[rows, torch.tensor([tokens[0] for _, tokens in flat], device=logs.device)]
        longer = [i for i, (_, tokens) in enumerate(flat) if len(tokens) > 1]
        for start in range(0, len(longer), ROWS):
            part = longer[start : start + ROWS]
            # Reordering changes the cache in place, so all parts but the last work on a copy.
            cache = first.past_key_values
            cache = cache if start + ROWS >= len(longer) else copy.deepcopy(cache)
            cache.reorder_cache(rows[part])
            mask = tensors["attention_mask"][rows[part]]
            with _rope_deltas(model, rows[part]):
                totals[part] += _continued(generate, mask, cache, [flat[i][1] for i in part])
        lengths = torch.tensor([len(tokens) for _, tokens in flat], device=logs.device)
        means = (totals / lengths).cpu().numpy().astype(np.float32)
    return np.split(means, np.cumsum([len(tokens_of_row) for tokens_of_row in choices])[:-1])


@contextmanager
def _rope_deltas(model: Any, rows: torch.Tensor) -> Iterator[None]:
    """Repeat, as the cache is repeated, the offset of each row that families with multimodal rotary positions keep
    beside it; afterwards the offsets are as before."""
    kept = [(part, part.rope_deltas) for part in model.modules() if getattr(part, "rope_deltas", None) is not None]
    for part, deltas in kept:
        part.rope_deltas = deltas[rows]
    try:
        yield
    finally:
        for part, deltas in kept:
            part.rope_deltas = deltas


def _continued(
    generate: Callable[..., Any], mask: torch.Tensor, cache: Any, choices: Sequence[Sequence[int]]
) -> torch.Tensor:
    """The summed log-likelihood float32 [n] of every token but the first of each choice, behind the cached prompts.

    `mask` [n, length] is that of the prompts, and `choices` has a choice of at least two tokens for each row.
    """
    import torch

    wanted, counted = _tails(choices)
    heads = torch.tensor([tokens[:1] for tokens in choices], device=mask.device)
    force = _Force(torch.tensor(wanted, device=mask.device), torch.tensor(counted, device=mask.device))
    generate(
        input_ids=heads,
        attention_mask=torch.cat([mask, torch.ones_like(heads, dtype=mask.dtype)], dim=1),
        past_key_values=cache,
        max_new_tokens=len(wanted[0]),
        logits_processor=[force],
    )
    return force.totals


def _tails(choices: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[bool]]]:
    """What follows the first token of each choice, and which of it counts, both [n, steps].

    A choice that is shorter than the longest repeats its last token, and the repetitions do not count:

    >>> _tails([[5, 6, 7], [8, 9]])
    ([[6, 7], [9, 9]], [[True, True], [True, False]])
    """
    steps = max(map(len, choices)) - 1
    wanted = [[*tokens[1:], *[tokens[-1]] * (steps - len(tokens) + 1)] for tokens in choices]
    counted = [[i < len(tokens) - 1 for i in range(steps)] for tokens in choices]
    return wanted, counted


class _Force:
    """A logits processor that lets row i continue with `wanted[i]` alone and sums the log-likelihood of what is
    `counted` into `totals` float32 [n]; both are [n, steps]."""

    def __init__(self, wanted: torch.Tensor, counted: torch.Tensor) -> None:
        import torch

        self.wanted, self.counted = wanted, counted
        self.totals = torch.zeros(len(wanted), device=wanted.device)
        self.step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        import torch

        token = self.wanted[:, self.step : self.step + 1]
        logs = torch.log_softmax(scores.float(), dim=-1).gather(1, token)[:, 0]
        self.totals += torch.where(self.counted[:, self.step], logs, 0.0)
        self.step += 1
        return torch.full_like(scores, float("-inf")).scatter_(1, token, 0.0)
