"""Greedy answers and likelihoods of given choices, for any decoder that `generate` of transformers serves.

Checkpoints bring decoding settings of their own (sampling, beams, repetition penalties). A comparison asks all models
alike, so these are replaced by plain greedy decoding and only the special tokens are kept.

Choices are scored by forcing each one through `generate` behind the prompt: the prompt and its images are computed once
and their key-value cache is repeated for the choices, which costs a few decoding steps instead of a prefill a choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

    from harness.clock import Clock

ROWS = 256
"""Choices scored at a time; bounds the memory of repeated caches."""
_KEPT = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "suppress_tokens",
    "bad_words_ids",
)


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
    """A logits processor that changes nothing: its first call ends the phase "prefill" and begins "decode"."""

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
        return scores


def generate_greedily(model: Any, tensors: dict[str, Any], max_new_tokens: int, clock: Clock) -> torch.Tensor:
    """Token ids int64 [n, length] as the model's `generate` returns them (some families repeat the prompt)."""
    import torch

    with torch.no_grad(), _Phases(clock) as phases:
        return model.generate(**tensors, max_new_tokens=max_new_tokens, logits_processor=[phases])


def count_tokens(rows: torch.Tensor, stop: int | Sequence[int] | None, pad: int | None) -> list[int]:
    """Tokens of each generated row [n, length], the one that ended it included, padding behind it not."""
    stops = {stop} if isinstance(stop, int) else set(stop or ())
    counts = []
    for row in rows.tolist():
        end = next((i + 1 for i, token in enumerate(row) if token in stops), None)
        if end is None:
            end = len(row)
            while pad is not None and end > 0 and row[end - 1] == pad:
                end -= 1
        counts.append(end)
    return counts


def choice_likelihoods(
    model: Any, tensors: dict[str, Any], choices: Sequence[Sequence[Sequence[int]]], pad: int, clock: Clock
) -> list[np.ndarray]:
    """For each of n prompts and each of its choices (token ids), the mean log-likelihood of the choice's tokens.

    `tensors` hold the left-padded prompts (`input_ids`, `attention_mask`, pixels). Returns n arrays, float32.
    """
    import numpy as np
    import torch

    with torch.no_grad(), clock.phase("prefill"):
        first = model.generate(**tensors, max_new_tokens=1, return_dict_in_generate=True, output_logits=True)
    with torch.no_grad(), clock.phase("decode"):
        flat = [(row, tokens) for row, tokens_of_row in enumerate(choices) for tokens in tokens_of_row]
        logs = torch.log_softmax(first.logits[0].float(), dim=-1)
        rows = torch.tensor([row for row, _ in flat], device=logs.device)
        heads = torch.tensor([tokens[0] for _, tokens in flat], device=logs.device)
        totals = logs[rows, heads]
        longer = [i for i, (_, tokens) in enumerate(flat) if len(tokens) > 1]
        for start in range(0, len(longer), ROWS):
            part = longer[start : start + ROWS]
            fork = _fork(model, tensors, first.past_key_values, rows[part], last=start + ROWS >= len(longer))
            totals[part] += _forced(model, fork, [flat[i][1] for i in part], pad)
        lengths = torch.tensor([len(tokens) for _, tokens in flat], device=logs.device)
        means = (totals / lengths).cpu().numpy().astype(np.float32)
    return np.split(means, np.cumsum([len(tokens_of_row) for tokens_of_row in choices])[:-1])


def _fork(model: Any, tensors: dict[str, Any], cache: Any, rows: torch.Tensor, last: bool) -> dict[str, Any]:
    """Prompts and cache repeated as `rows` says; the cache is copied unless this is its last use.

    Families with multimodal rotary positions keep an offset for each row beside the cache (`rope_deltas`).
    """
    import copy

    cache = cache if last else copy.deepcopy(cache)
    cache.reorder_cache(rows)
    fork = {name: tensors[name][rows] for name in ("input_ids", "attention_mask")} | {"past_key_values": cache}
    owner = getattr(model, "model", model)
    deltas = getattr(owner, "rope_deltas", None)
    if deltas is not None:
        fork["restore"] = deltas
        owner.rope_deltas = deltas[rows] if deltas.shape[0] > 1 else deltas
    return fork


def _forced(model: Any, fork: dict[str, Any], choices: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    """The summed log-likelihood [n] of every token but the first of each choice."""
    import torch

    device = fork["input_ids"].device
    length = max(map(len, choices))
    wanted = torch.tensor([[*tokens, *[pad] * (length - len(tokens))] for tokens in choices], device=device)
    counted = torch.tensor([[i < len(tokens) for i in range(length)] for tokens in choices], device=device)
    heads = wanted[:, :1]
    deltas = fork.pop("restore", None)
    totals = torch.zeros(len(choices), device=device)
    mask = fork["attention_mask"]
    model.generate(
        input_ids=torch.cat([fork["input_ids"], heads], dim=1),
        attention_mask=torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1),
        past_key_values=fork["past_key_values"],
        max_new_tokens=length - 1,
        logits_processor=[_force(wanted[:, 1:], counted[:, 1:], totals)],
    )
    if deltas is not None:
        getattr(model, "model", model).rope_deltas = deltas
    return totals


def _force(wanted: torch.Tensor, counted: torch.Tensor, totals: torch.Tensor) -> Callable[..., torch.Tensor]:
    """A logits processor that lets each row continue only as `wanted` [n, steps] and adds up `totals`."""
    import torch

    class Force:
        step = 0

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            token = wanted[:, self.step : self.step + 1]
            logs = torch.log_softmax(scores.float(), dim=-1).gather(1, token)[:, 0]
            totals.add_(torch.where(counted[:, self.step], logs, 0.0))
            self.step += 1
            return torch.full_like(scores, float("-inf")).scatter_(1, token, 0.0)

    return Force()
