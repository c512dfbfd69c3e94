"""Adapters that stream: fed as they take, stored as they come, never asked twice for what has an outcome."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.adapter import Adapter, routes_of
from harness.config.specs import DatasetSpec, LatencySpec, ModelSpec, PromptSpec, TaskSpec
from harness.dataset import Dataset
from harness.errors import OutOfBudget, Refused, SampleError, TransientError
from harness.records import Answer, Sample
from harness.run import streams, worker
from harness.run.messages import Answered, CellEnded, CellJob, Event, Failed, Job, OutOfMoney

WORDING = {"en": "{question}"}
N = 100


class Streamer(Adapter):
    """Streams by `way`, which a test puts in; counts how often each question was asked."""

    concurrency = 4
    way: Callable[..., object]
    asked: Counter[str]
    most = 0
    """The most requests that were under way at one time."""

    def load(self, device, clock):
        self.clock = clock

    def stream(self, requests):
        return type(self).way(self, requests)

    def ask(self, request):
        type(self).asked[request.text] += 1
        self.clock.token()
        return Answer("yes", tokens_out=1)


def one_by_one(self, requests):
    for index, request in requests:
        yield index, self.ask(request)


def all_at_once(self, requests):
    """Takes all it can get before it gives any answer, in the thread of the engine's call."""
    taken = list(requests)
    type(self).most = max(self.most, len(taken))
    yield from ((index, self.ask(request)) for index, request in reversed(taken))


def by_threads(self, requests):
    """A thread takes requests without measure, others answer them slowly and out of order."""
    done, lock = queue.SimpleQueue(), threading.Lock()
    under_way = 0

    def answer(index, request):
        time.sleep(0.001 * (index % 3))
        done.put((index, self.ask(request)))

    def take():
        nonlocal under_way
        with ThreadPoolExecutor(64) as pool:
            for index, request in requests:
                with lock:
                    under_way += 1
                    type(self).most = max(self.most, under_way)
                pool.submit(answer, index, request)
        done.put(None)

    threading.Thread(target=take, daemon=True).start()
    while (given := done.get()) is not None:
        with lock:
            under_way -= 1
        yield given


@pytest.fixture(autouse=True)
def quiz(monkeypatch):
    samples = [Sample(str(i), str(i), "en", question=f"q{i}", references=("yes",)) for i in range(N)]
    monkeypatch.setattr(worker, "open_dataset", lambda *_: Dataset("quiz", "en", samples, modalities=("text",)))
    Streamer.way, Streamer.asked, Streamer.most = one_by_one, Counter(), 0
    return samples


def job(alone: int = 0, latency: LatencySpec | None = None, items=range(N)) -> Job:
    prompt = PromptSpec(WORDING, WORDING, WORDING, WORDING, WORDING, {}, {}, WORDING, WORDING)
    cell = CellJob(
        key="m/vqa.quiz.en",
        task=TaskSpec("harness.tasks.vqa.Vqa"),
        dataset_name="quiz",
        dataset=DatasetSpec("jsonl", ["vqa"]),
        language="en",
        route="generate",
        ablate="none",
        seed=0,
        indices=None,
        batches=tuple((i, i + 1) for i in items),
        batch_size=1,
        stream=True,
        alone=alone,
    )
    model = ModelSpec(f"{__name__}.Streamer", "domestic", checkpoint=".")
    return Job("m", model, prompt, "cpu", (cell,), latency or LatencySpec("off"), 0, None)


def run(**kwargs) -> list[Event]:
    return list(worker.run(job(**kwargs)))


def outcomes(events: list[Event]) -> dict[str, str | None]:
    """By sample: its error, or None."""
    answered = [event for event in events if isinstance(event, Answered)]
    for event in answered:
        assert [record.id for record in event.records] == [str(item) for item in event.items]
    records = [record for event in answered for record in event.records]
    assert len({record.id for record in records}) == len(records)
    return {record.id: record.error for record in records}


def test_an_adapter_that_streams_need_not_generate():
    assert routes_of(Streamer) == ("generate",)


@pytest.mark.parametrize("way", [one_by_one, all_at_once, by_threads])
def test_each_item_is_asked_once_however_an_adapter_takes_its_requests_and_few_are_ahead(way):
    Streamer.way = way
    events = run()
    assert outcomes(events) == dict.fromkeys(map(str, range(N)))
    assert set(Streamer.asked.values()) == {1}
    assert Streamer.most <= 2 * Streamer.concurrency
    assert isinstance(events[-1], CellEnded)


def test_what_comes_within_a_moment_is_one_event_and_nothing_waits_for_what_is_slow():
    release = threading.Event()

    def way(self, requests):
        (index, request), *others = [next(requests) for _ in range(5)]
        yield from ((i, self.ask(r)) for i, r in others)
        assert release.wait(10)
        yield index, self.ask(request)
        yield from one_by_one(self, requests)

    Streamer.way = way
    events = worker.run(job())
    first = next(event for event in events if isinstance(event, Answered))
    assert sorted(first.items) == [1, 2, 3, 4]
    release.set()
    assert len(outcomes([first, *events])) == N


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((3, Answer("yes")), "index 3, twice"),
        ((N, Answer("yes")), f"index {N}, which it was not given"),
        (("3", Answer("yes")), "index 3, which it was not given"),
        (Answer("yes"), "gave a Answer, not an index and an outcome"),
    ],
)
def test_an_index_twice_or_unknown_fails_the_cell_and_keeps_what_was_answered(given, said):
    def way(self, requests):
        for index, request in requests:
            yield index, self.ask(request)
            if index == 5:
                yield given

    Streamer.way = way
    events = run()
    assert set(outcomes(events)) == set(map(str, range(6)))
    assert isinstance(events[-1], Failed)
    assert said in events[-1].reason
    assert "Streamer.stream()" in events[-1].reason


@pytest.mark.parametrize(("misses", "error"), [(1, None), (2, "stream() gave no outcome for it, twice"), (9, ...)])
def test_what_is_not_yielded_is_asked_once_more_and_then_fails_alone(misses, error):
    def way(self, requests):
        for index, request in requests:
            answer = self.ask(request)
            if index != 7 or self.asked["q7"] > misses:
                yield index, answer

    Streamer.way = way
    error = "stream() gave no outcome for it, twice" if error is ... else error
    assert outcomes(run()) == dict.fromkeys(map(str, range(N))) | {"7": error}
    assert Streamer.asked["q7"] == 2
    assert set(Streamer.asked.values()) == {1, 2}


def test_an_adapter_that_takes_nothing_fails_its_samples_and_ends():
    Streamer.way = lambda self, requests: iter(())
    events = run()
    assert set(outcomes(events).values()) == {"stream() gave no outcome for it, twice"}
    assert isinstance(events[-1], Failed)


def test_errors_and_refusals_in_an_answers_place_are_kept_and_never_asked_again():
    found = {"3": SampleError("too large"), "4": Refused("the filter"), "5": TransientError("429"), "6": KeyError("x")}

    def way(self, requests):
        for index, request in requests:
            answer = self.ask(request)
            yield index, found.get(str(index), answer)

    Streamer.way = way
    events = run()
    assert {id_: error for id_, error in outcomes(events).items() if error} == {
        "3": "too large", "4": "the filter", "5": "TransientError: 429", "6": "KeyError: 'x'"
    }  # fmt: skip
    refused = [r.id for event in events if isinstance(event, Answered) for r in event.records if r.refused]
    assert refused == ["4"]
    assert sum(Streamer.asked.values()) == N


def test_what_stream_raises_costs_the_request_at_fault_alone():
    """One by one the request is known; where several were under way, each is asked once more by itself."""

    def ask(self, request):
        answer = Streamer.__dict__["ask"](self, request)
        if request.text == "q7":
            raise RuntimeError("odd")
        return answer

    def one(self, requests):
        for index, request in requests:
            yield index, ask(self, request)

    Streamer.way = one
    assert outcomes(run()) == dict.fromkeys(map(str, range(N))) | {"7": "RuntimeError: odd"}
    assert sum(Streamer.asked.values()) == N

    def several(self, requests):
        taken = list(requests)
        yield from [(index, ask(self, request)) for index, request in taken]

    Streamer.way, Streamer.asked = several, Counter()
    assert outcomes(run()) == dict.fromkeys(map(str, range(N))) | {"7": "RuntimeError: odd"}
    assert sum(Streamer.asked.values()) <= N + 2 * Streamer.concurrency


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "TypeError: Streamer.stream() must give Answers, not NoneType"),
        ("yes", "TypeError: Streamer.stream() must give Answers, not str"),
        (Answer("yes", tokens_out=1.5), "TypeError: Streamer.stream() must count tokens by int or None, not float"),  # pyright: ignore[reportArgumentType]
        (Answer("yes", cost=float("nan")), "The answer cannot be kept: its cost is not one."),
        (Answer("yes", tokens_in=-1), "The answer cannot be kept: the count of its tokens is not one of tokens."),
        (Answer("yes", reasoning="\ud83d"), "The answer cannot be kept: its text holds half a character"),
    ],
)
def test_what_is_no_answer_costs_its_question_alone(given, said):
    def way(self, requests):
        for index, request in requests:
            answer = self.ask(request)
            yield index, given if index == 7 else answer

    Streamer.way = way
    found = outcomes(run())
    assert {id_ for id_, error in found.items() if error} == {"7"}
    assert said in str(found["7"])
    assert sum(Streamer.asked.values()) == N


def test_an_adapter_that_exits_in_its_stream_ends_nothing_else():
    def way(self, requests):
        for index, request in requests:
            answer = self.ask(request)
            if index == 7:
                sys.exit(3)
            yield index, answer

    Streamer.way = way
    assert outcomes(run())["7"] == "RuntimeError: the adapter called sys.exit(3)"
    assert sum(Streamer.asked.values()) == N


def test_what_stream_raises_with_nothing_under_way_fails_the_cell():
    def way(self, requests):
        raise OSError("no route")
        yield

    Streamer.way = way
    assert run()[-1] == Failed("m/vqa.quiz.en", "OSError: no route")


def test_twenty_failures_alike_give_the_cell_up():
    def way(self, requests):
        for index, request in requests:
            self.ask(request)
            yield index, SampleError("no such model")

    Streamer.way = way
    events = run()
    assert isinstance(events[-1], Failed)
    assert events[-1].again
    assert events[-1].reason == "20 of 20 failed: no such model; the rest was not asked"
    assert sum(Streamer.asked.values()) == 21  # the last one, too: it might have failed for another reason


@pytest.mark.parametrize("raised", [True, False])
def test_out_of_budget_keeps_what_was_answered_and_interrupts(raised):
    def way(self, requests):
        for index, request in requests:
            if index == 30:
                if raised:
                    raise OutOfBudget("the quota is used up")
                yield index, OutOfBudget("the quota is used up")
            else:
                yield index, self.ask(request)

    Streamer.way = way
    events = run()
    assert events[-1] == OutOfMoney("the quota is used up")
    assert outcomes(events) == dict.fromkeys(map(str, range(30)))


def test_a_stop_is_noticed_while_the_adapter_waits(monkeypatch):
    monkeypatch.setattr(streams, "GRACE", 0.2)
    stop = threading.Event()

    def way(self, requests):
        for index, request in requests:
            if index == 10:
                stop.set()
                time.sleep(60)
            yield index, self.ask(request)

    Streamer.way = way
    start = time.monotonic()
    assert len(outcomes(list(worker.run(job(), stop.is_set)))) == 10
    assert time.monotonic() - start < 5


def test_nothing_is_asked_during_a_pause_and_all_after_it():
    pause = threading.Event()

    def way(self, requests):
        for index, request in requests:
            yield index, self.ask(request)
            if index == 10:
                pause.set()
                time.sleep(2 * streams.CHECK)

    Streamer.way = way
    threading.Timer(1.0, pause.clear).start()
    seen = []

    def paused():
        seen.append(sum(Streamer.asked.values()))
        return pause.is_set()

    assert len(outcomes(list(worker.run(job(), paused=paused)))) == N
    assert set(Streamer.asked.values()) == {1}
    assert Counter(seen).most_common(1)[0][1] > 3  # it stood still


def test_after_a_death_the_first_items_are_asked_one_by_one():
    sizes = []

    def way(self, requests):
        taken = list(requests)
        sizes.append(len(taken))
        yield from ((index, self.ask(request)) for index, request in taken)

    Streamer.way = way
    assert len(outcomes(run(alone=3))) == N
    assert sizes[:4] == [1, 1, 1, 8]


def test_the_quick_latency_pass_times_one_request_at_a_time_by_stream():
    sizes = []

    def way(self, requests):
        taken = list(requests)
        sizes.append(len(taken))
        for index, request in taken:
            with self.clock.phase("prefill"):
                time.sleep(0.001)
            yield index, self.ask(request)

    Streamer.way = way
    ended = run(latency=LatencySpec("quick", samples=5), items=range(8))[-1]
    assert isinstance(ended, CellEnded)
    assert ended.latency["n"] == 5
    assert ended.latency["first_token_ms"] >= 1
    assert ended.latency["phases_ms"]["prefill"] >= 1
    assert sizes == [8] + [1] * 8  # three warm-ups and five timings
