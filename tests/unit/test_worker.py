"""The worker in this process: what may pass by itself is asked again after a pause, and nothing else is; a sample that
no request can be made of costs itself alone."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from harness.adapter import Adapter
from harness.config.specs import DatasetSpec, LatencySpec, ModelSpec, PromptSpec, TaskSpec
from harness.dataset import Dataset
from harness.errors import MediaError, Refused, SampleError, TransientError
from harness.media import decoded_size, open_image
from harness.records import Answer, Media, Route, Sample
from harness.run import worker
from harness.run.messages import Answered, CellEnded, CellJob, Died, Event, Extent, Failed, Job, Resized
from harness.run.plan import auto_batch_size
from harness.tasks.vqa import Vqa

WORDING = {"en": "{question}"}


class Obliging(Adapter):
    """Answers "yes" unless `fault`, which is told the questions and the number of the call, raises."""

    fault: Callable[[list[str], int], None]
    loading: Callable[[int], None]
    calls: list[list[str]]
    loads: int

    def load(self, device, clock):
        type(self).loads += 1
        type(self).loading(self.loads)

    def generate(self, requests):
        questions = [request.text for request in requests]
        self.calls.append(questions)
        type(self).fault(questions, len(self.calls))
        return [Answer("yes") for _ in requests]


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The seconds that the worker would have waited."""
    found: list[float] = []
    monkeypatch.setattr(worker.time, "sleep", found.append)
    Obliging.fault = Obliging.loading = staticmethod(lambda *_: None)
    Obliging.calls, Obliging.loads = [], 0
    samples = [Sample(str(i), str(i), "en", question=f"q{i}", references=("yes",)) for i in range(8)]
    monkeypatch.setattr(worker, "open_dataset", lambda *_: Dataset("quiz", "en", samples, modalities=("text",)))
    return found


def run(
    task: str = "harness.tasks.vqa.Vqa",
    adapter: str = "Obliging",
    route: Route = "generate",
    batches: tuple[Extent, ...] = ((0, 4), (4, 8)),
    begun: bool = False,
    **more: int,
) -> list[Event]:
    """The events of a job of two batches of four questions, or of others."""
    choice = {"en": "{choice}"}
    prompt = PromptSpec(WORDING, WORDING, WORDING, WORDING, WORDING, {}, {}, choice, choice)
    cell = CellJob(
        key="m/vqa.quiz.en",
        task=TaskSpec(task),
        dataset_name="quiz",
        dataset=DatasetSpec("jsonl", ["vqa"]),
        language="en",
        route=route,
        ablate="none",
        seed=0,
        indices=None,
        batches=batches,
        batch_size=batches[0][1],
        begun=begun,
    )
    model = ModelSpec(f"{__name__}.{adapter}", "domestic", checkpoint=".")
    return list(
        worker.run(
            Job("m", model, prompt, "cpu", (cell,), LatencySpec("off"), data_dir=None, **({"prepare_ahead": 0} | more))
        )
    )


def errors(events: list[Event]) -> dict[str, str]:
    records = [record for event in events if isinstance(event, Answered) for record in event.records]
    assert len(records) >= 8
    return {record.id: record.error for record in records if record.error is not None}


@pytest.mark.parametrize("error", [TransientError("busy"), ConnectionResetError("gone"), TimeoutError("late")])
def test_what_passes_is_asked_again_whole_after_growing_pauses(pauses, error):
    def fault(questions, call):
        if call <= 2:
            raise error

    Obliging.fault = staticmethod(fault)
    assert errors(run()) == {}
    assert pauses == [1.0, 4.0]
    assert [len(call) for call in Obliging.calls] == [4, 4, 4, 4]


def test_a_server_that_stays_away_fails_the_samples_after_a_few_calls(pauses):
    def fault(questions, call):
        raise TransientError("the server is down")

    Obliging.fault = staticmethod(fault)
    found = errors(run())
    assert set(found.values()) == {"TransientError: the server is down"}
    assert len(found) == 8
    assert pauses == [1.0, 4.0, 15.0] * 2
    assert len(Obliging.calls) == 2 * (3 + 7)  # the last time it is halved down to single questions


def test_one_question_that_a_server_never_answers_costs_itself_alone(pauses):
    def fault(questions, call):
        if "q5" in questions:
            raise TimeoutError("no answer in 60 s")

    Obliging.fault = staticmethod(fault)
    assert errors(run()) == {"5": "TimeoutError: no answer in 60 s"}


def test_what_cannot_pass_is_not_asked_again(pauses):
    def fault(questions, call):
        if "q5" in questions:
            raise SampleError("no such voice")

    Obliging.fault = staticmethod(fault)
    assert errors(run()) == {"5": "no such voice"}
    assert pauses == []
    assert Obliging.calls.count(["q5"]) == 1


class Piecemeal(Obliging):
    """Puts what `fault` raises at single questions in the place of their answers."""

    def generate(self, requests):
        type(self).calls.append([request.text for request in requests])
        return [self._one(request.text) for request in requests]

    def _one(self, question):
        try:
            type(self).fault([question], len(self.calls))
        except Exception as error:
            return error
        return Answer("yes")


def test_an_error_in_an_answers_place_costs_that_sample_alone_and_is_not_asked_again(pauses):
    def fault(questions, call):
        if questions == ["q5"]:
            raise SampleError("no such voice")
        if questions == ["q6"]:
            raise Refused("the filter stopped it")

    Piecemeal.fault = staticmethod(fault)
    events = run(adapter="Piecemeal")
    assert errors(events) == {"5": "no such voice", "6": "the filter stopped it"}
    assert [
        record.id for event in events if isinstance(event, Answered) for record in event.records if record.refused
    ] == ["6"]
    assert Piecemeal.calls == [["q0", "q1", "q2", "q3"], ["q4", "q5", "q6", "q7"]]
    assert pauses == []


def test_what_may_pass_in_an_answers_place_is_asked_again_without_the_others(pauses):
    """Every seventh question is turned away at first: no answered one is paid for again."""
    turned_away = set()

    def fault(questions, call):
        if int(questions[0][1:]) % 7 == 0 and questions[0] not in turned_away:
            turned_away.add(questions[0])
            raise TransientError("429")

    Piecemeal.fault = staticmethod(fault)
    assert errors(run(adapter="Piecemeal")) == {}
    assert Piecemeal.calls == [["q0", "q1", "q2", "q3"], ["q0"], ["q4", "q5", "q6", "q7"], ["q7"]]
    assert pauses == [1.0, 1.0]


def test_what_is_no_answer_among_answers_costs_its_question_alone_without_a_further_call(pauses, monkeypatch):
    monkeypatch.setattr(
        Piecemeal, "_one", lambda self, question: Answer("yes", finish="end") if question == "q2" else Answer("yes")
    )
    assert errors(run(adapter="Piecemeal")) == {
        "2": "ValueError: Piecemeal.generate() gave finish='end': it is stop, length, filter or None"
    }
    assert len(Piecemeal.calls) == 2


def test_a_busy_server_beside_a_bad_question_is_asked_again(pauses):
    def fault(questions, call):
        if "q2" in questions:
            raise SampleError("bad")
        if "q0" in questions and len(pauses) < 2:
            raise TransientError("busy")

    Obliging.fault = staticmethod(fault)
    assert errors(run()) == {"2": "bad"}
    assert pauses == [1.0, 4.0]


def test_loading_is_tried_again_when_a_connection_breaks_and_not_when_the_weights_are_wrong(pauses):
    def loading(number):
        if number <= 2:
            raise ConnectionError("no route")

    Obliging.loading = staticmethod(loading)
    assert errors(run()) == {}
    assert (Obliging.loads, pauses) == (3, [1.0, 4.0])

    def wrong(number):
        raise OSError("config.json is not there")

    Obliging.loading = staticmethod(wrong)
    (event,) = run()
    assert event == Failed(None, "m did not load: OSError: config.json is not there")
    assert Obliging.loads == 4


def test_an_automatic_batch_begins_large_where_memory_can_run_out_without_harm():
    assert [auto_batch_size("cuda:1", route) for route in ("embed", "rank", "generate")] == [256, 64, 64]
    assert [auto_batch_size(device, "embed") for device in ("cpu", "mps")] == [32, 32]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    ],
)
def test_every_way_of_running_out_of_memory_halves_the_batch_and_tries_the_next_one_whole(pauses, error):
    def fault(questions, call):
        if len(questions) > 2:
            raise error

    Obliging.fault = staticmethod(fault)
    events = run()
    assert errors(events) == {}
    assert [len(call) for call in Obliging.calls] == [4, 2, 2, 4, 2, 2]
    (ended,) = [event for event in events if isinstance(event, CellEnded)]
    assert ended.note == "memory ran out in 2 batches, asked in smaller parts"


FOURS = tuple((start, start + 4) for start in range(0, 400, 4))


@pytest.fixture
def many(pauses, monkeypatch):
    samples = [Sample(str(i), str(i), "en", question=f"q{i}", references=("yes",)) for i in range(400)]
    monkeypatch.setattr(worker, "open_dataset", lambda *_: Dataset("quiz", "en", samples, modalities=("text",)))


def test_one_batch_without_memory_costs_no_other_one_its_size(many):
    def fault(questions, call):
        if call == 3:
            raise MemoryError

    Obliging.fault = staticmethod(fault)
    assert errors(events := run(batches=FOURS[:6])) == {}
    assert [len(call) for call in Obliging.calls] == [4, 4, 4, 2, 2, 4, 4, 4]
    assert [event for event in events if isinstance(event, Resized)] == []


def test_a_sample_that_is_too_large_alone_fails_alone_and_the_next_batches_are_whole(many):
    def fault(questions, call):
        if "q5" in questions:
            raise MemoryError

    Obliging.fault = staticmethod(fault)
    assert list(errors(run(batches=FOURS[:4]))) == ["5"]
    assert [len(call) for call in Obliging.calls] == [4, 4, 2, 1, 1, 1, 1, 4, 4]


def test_the_size_that_fits_is_kept_after_two_batches_and_doubled_after_sixteen_good_ones(many):
    def fault(questions, call):
        if len(questions) > 1 and call < 12:
            raise MemoryError

    Obliging.fault = staticmethod(fault)
    assert errors(events := run(batches=FOURS[:40])) == {}
    sizes = [len(call) for call in Obliging.calls]
    halved = [4, 2, 1, 1, 1, 1]
    assert sizes == [*halved, *halved, *[1] * 4 * 16, *[2] * 2 * 16, *[4] * 6]
    assert [event.batch_size for event in events if isinstance(event, Resized)] == [1, 2, 4]


def test_a_size_that_never_fits_is_tried_again_three_times_in_a_cell(many):
    def fault(questions, call):
        if len(questions) > 2:
            raise MemoryError

    Obliging.fault = staticmethod(fault)
    assert errors(events := run(batches=FOURS)) == {}
    assert [event.batch_size for event in events if isinstance(event, Resized)] == [2, 4, 2, 4, 2, 4, 2]
    assert [len(call) for call in Obliging.calls].count(4) == 2 * 4


def test_what_a_failed_call_held_is_free_before_the_next_one(pauses):
    class Tensor:
        pass

    held = []

    def fault(questions, call):
        assert [reference for reference in held if reference() is not None] == []
        activations = Tensor()
        held.append(weakref.ref(activations))
        try:
            raise MemoryError
        except MemoryError as error:
            raise RuntimeError("out of memory, said a library") from error

    Obliging.fault = staticmethod(fault)
    assert set(errors(run()).values()) == {"RuntimeError: out of memory, said a library"}


def test_an_adapter_that_cannot_close_loses_no_answer(pauses, monkeypatch):
    monkeypatch.setattr(Obliging, "close", lambda self: 1 / 0)
    *before, last = run()
    assert errors(before) == {}
    assert last == Died("closing failed: ZeroDivisionError: division by zero")


def test_a_lost_device_ends_the_process_at_once(pauses):
    def fault(questions, call):
        if "q5" in questions:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    Obliging.fault = staticmethod(fault)
    *before, last = run()
    assert last == Died("RuntimeError: CUDA error: an illegal memory access was encountered")
    assert len([event for event in before if isinstance(event, Answered)]) == 1


class Picky(Vqa):
    """Stumbles over question 5, wherever `stumbles` says."""

    stumbles = "request"

    def _check(self, sample, method):
        if sample.id == "5" and method == self.stumbles:
            raise KeyError("caption")

    def request(self, sample, *rest):
        self._check(sample, "request")
        return super().request(sample, *rest)

    def candidates(self, sample, *rest):
        self._check(sample, "candidates")
        return super().candidates(sample, *rest)

    def record(self, sample, *rest):
        self._check(sample, "record")
        return super().record(sample, *rest)


class Encoding(Obliging):
    """Embeds everything alike."""

    def embed(self, requests):
        self.calls.append([request.text for request in requests])
        return np.full((len(requests), 4), 0.5, np.float32)


def change(monkeypatch, **changes) -> None:
    """Change the eight samples, each by what `changes` has for its id."""
    dataset = worker.open_dataset(None, "", None)  # pyright: ignore[reportArgumentType]
    made = [replace(sample, **changes.get(f"q{sample.id}", changes["rest"])) for sample in dataset]
    monkeypatch.setattr(worker, "open_dataset", lambda *_: replace(dataset, samples=made))


@pytest.mark.parametrize(
    ("stumbles", "said"),
    [("request", "The request cannot be made: KeyError: 'caption'"), ("record", "KeyError: 'caption'")],
)
def test_a_sample_that_its_task_cannot_handle_costs_itself_alone(pauses, monkeypatch, stumbles, said):
    monkeypatch.setattr(Picky, "stumbles", stumbles)
    assert errors(run(f"{__name__}.Picky")) == {"5": said}
    asked = [question for call in Obliging.calls for question in call]
    assert asked == [f"q{i}" for i in range(8) if stumbles == "record" or i != 5]


def test_a_sample_whose_row_is_broken_is_not_asked_and_its_record_says_why(pauses, monkeypatch):
    change(monkeypatch, q3={"fault": "rows.parquet, row 3 cannot be read"}, rest={})
    assert errors(run()) == {"3": "rows.parquet, row 3 cannot be read"}
    assert Obliging.calls == [["q0", "q1", "q2"], ["q4", "q5", "q6", "q7"]]


def test_a_batch_of_which_nothing_can_be_asked_is_answered_by_its_errors(pauses, monkeypatch):
    change(monkeypatch, rest={"fault": "gone"}, **{f"q{i}": {} for i in range(4)})
    assert errors(run()) == dict.fromkeys("4567", "gone")
    assert Obliging.calls == [["q0", "q1", "q2", "q3"]]


@pytest.mark.parametrize("stumbles", ["candidates", ""])
def test_a_sample_without_choices_to_embed_costs_itself_alone(pauses, monkeypatch, stumbles):
    monkeypatch.setattr(Picky, "stumbles", stumbles)
    change(monkeypatch, rest={"choices": ("yes", "no")}, q5={"choices": ("yes", "no") if stumbles else ()})
    said = "The choices cannot be worded: KeyError: 'caption'" if stumbles else "There is no choice to choose from."
    assert errors(run(f"{__name__}.Picky", "Encoding", "embed")) == {"5": said}


class Encoder(Obliging):
    """Embeds; `calls` are the texts and pictures of each call."""

    def embed(self, requests):
        self.calls.append([getattr(request.parts[0], "key", request.text) for request in requests])
        return np.eye(len(requests), 8, dtype=np.float32)


def test_a_picture_that_questions_of_a_batch_share_is_embedded_once(pauses, monkeypatch):
    pictures = [Media("image", f"{i // 3}.png", b"") for i in range(8)]
    samples = [
        Sample(str(i), str(i), "en", (picture,), "q", ("yes",), ("yes", "no")) for i, picture in enumerate(pictures)
    ]
    monkeypatch.setattr(worker, "open_dataset", lambda *_: Dataset("quiz", "en", samples))
    found = [
        record
        for event in run(adapter="Encoder", route="embed")
        if isinstance(event, Answered)
        for record in event.records
    ]
    assert [call for call in Encoder.calls if call[0].endswith(".png")] == [["0.png", "1.png"], ["1.png", "2.png"]]
    assert [record.id for record in found] == [str(i) for i in range(8)]
    assert [record.scores for record in found[:4]] == [found[0].scores] * 3 + [found[3].scores]
    assert found[0].scores != found[3].scores


# A cell that is given up ----------------------------------------------------------------------------------------------


@pytest.fixture
def hundred(pauses, monkeypatch) -> list[str]:
    """A hundred questions in the place of eight; what the adapter was asked one by one."""
    samples = [Sample(str(i), str(i), "en", question=f"q{i}", references=("yes",)) for i in range(100)]
    monkeypatch.setattr(worker, "open_dataset", lambda *_: Dataset("quiz", "en", samples, modalities=("text",)))
    return pauses


def failing(make: Callable[[str], Exception | None]) -> None:
    """Has the adapter raise what `make` makes of a question, if anything."""

    def fault(questions, _):
        for question in questions:
            if (error := make(question)) is not None:
                raise error

    Obliging.fault = staticmethod(fault)


def given_up(events: list[Event]) -> Failed | None:
    return next((event for event in events if isinstance(event, Failed)), None)


def answered(events: list[Event]) -> int:
    return sum(len(event.records) for event in events if isinstance(event, Answered))


@pytest.mark.parametrize("size", [1, 4, 64, 100])
def test_a_cell_whose_first_twenty_items_fail_alike_is_given_up_after_few_calls(hundred, size):
    failing(lambda question: OSError(f"weights/{question}.bin has no tensor {question[1:]}"))
    events = run(batches=tuple((i, min(i + size, 100)) for i in range(0, 100, size)))
    end = given_up(events)
    assert end is not None
    assert (end.cell, end.again) == ("m/vqa.quiz.en", True)
    assert end.reason == "20 of 20 failed: OSError: weights/q0.bin has no tensor 0; the rest was not asked"
    assert answered(events) == 20
    assert len(Obliging.calls) < 60


def test_one_answer_among_the_first_lets_a_cell_go_on(hundred):
    failing(lambda question: None if question == "q19" else OSError("torn"))
    events = run(batches=((0, 100),))
    assert given_up(events) is None
    assert answered(events) == 100


def test_a_model_for_which_the_first_and_longest_questions_are_too_long_is_asked_all(hundred):
    failing(lambda question: IndexError(f"{question[1:]} is out of range") if int(question[1:]) < 30 else None)
    events = run(batches=tuple((i, i + 10) for i in range(0, 100, 10)))
    assert given_up(events) is None
    assert answered(events) == 100


def test_errors_of_several_kinds_let_a_cell_go_on(hundred):
    failing(lambda question: KeyError("image") if question == "q7" else OSError("torn"))
    assert given_up(run(batches=((0, 100),))) is None


def test_media_that_do_not_open_never_give_a_cell_up_whatever_an_adapter_makes_of_them(hundred):
    def broken(question):
        error = RuntimeError("cannot preprocess")
        error.__cause__ = MediaError("The image a.png does not open: it is empty.")
        return error

    failing(broken)
    events = run(batches=((0, 100),))
    assert given_up(events) is None
    assert answered(events) == 100


def test_broken_media_among_the_first_items_do_not_hide_an_adapter_that_never_answers(hundred):
    failing(lambda question: MediaError("it is empty") if int(question[1:]) < 10 else OSError("torn"))
    events = run(batches=((0, 100),))
    assert given_up(events) is not None
    assert answered(events) == 30


def test_a_cell_that_was_begun_before_is_not_given_up(hundred):
    failing(lambda question: OSError("torn"))
    assert given_up(run(batches=((0, 100),), begun=True)) is None


class Looking(Adapter):
    """Decodes pictures in `prepare` and holds them until they are answered for; `most` is the most that it held."""

    held = most = 0
    prepared: list[int]

    def load(self, device, clock):
        pass

    def prepare(self, requests, route):
        images = [open_image(medium) for request in requests for medium in request.media("image")]
        size = sum(4 * image.width * image.height for image in images)
        Looking.held += size
        Looking.most = max(Looking.most, Looking.held)
        Looking.prepared.append(len(requests))
        return images, size

    def generate(self, inputs):
        images, size = inputs
        Looking.held -= size
        return [Answer("yes") for _ in images]


@pytest.fixture
def pictures(monkeypatch, tmp_path):
    """Eight pictures of 40 kB each when they are decoded, the sixth of 160 kB; as files of a few hundred bytes."""
    samples = []
    for i in range(8):
        side = 200 if i == 5 else 100
        Image.new("RGB", (side, side)).save(path := tmp_path / f"{i}.png")
        samples.append(Sample(str(i), str(i), "en", (Media("image", str(path), path),), "q", ("yes",)))
    monkeypatch.setattr(worker, "open_dataset", lambda *_: Dataset("quiz", "en", samples, modalities=("image",)))
    Looking.held, Looking.most, Looking.prepared = 0, 0, []


PICTURE = 4 * 100 * 100


def test_decoded_pictures_of_all_prepared_batches_stay_within_their_room(pauses, pictures):
    batches = tuple((i, i + 2) for i in range(0, 8, 2))
    assert errors(run(adapter="Looking", batches=batches, prepare_ahead=3, media_bytes=11 * PICTURE)) == {}
    assert Looking.held == 0
    assert 5 * PICTURE <= Looking.most <= 11 * PICTURE  # without a bound there could be all eight batches in hand


def test_a_batch_that_has_no_room_is_prepared_in_parts(pauses, pictures):
    assert errors(run(adapter="Looking", batches=((0, 4), (4, 8)), media_bytes=8 * PICTURE)) == {}
    assert Looking.prepared == [4, 1, 1, 2]  # the sixth picture fills half of the room by itself


def test_a_picture_that_is_above_the_room_fails_and_is_not_decoded(pauses, pictures):
    found = errors(run(adapter="Looking", batches=((0, 4), (4, 8)), media_bytes=7 * PICTURE))
    assert list(found) == ["5"]
    assert "engine.media_gib" in found["5"]
    assert Looking.prepared == [3, 1, 3]


def test_sounds_count_as_they_decode(tmp_path):
    import soundfile

    soundfile.write(path := tmp_path / "silence.flac", np.zeros((100_000, 2)), 8_000)
    assert path.stat().st_size < 20_000
    assert decoded_size(Media("audio", "s", path)) == 100_000 * 2 * 4
    assert decoded_size(Media("audio", "s", path.read_bytes())) == 100_000 * 2 * 4
    assert decoded_size(Media("image", "s", tmp_path / "absent.png")) == 0
