"""A model behind an endpoint: what is sent, what replies mean, what is asked again, and what ends the asking."""

from __future__ import annotations

import base64
import io
import socket
import threading
import time

import numpy as np
import pytest
from endpoint_app import DROP, HALF, App, answer, error, question
from PIL import Image

from harness.adapters.served import ServedSpec, endpoint
from harness.adapters.served.chat import Served
from harness.clock import Clock, HostTimer
from harness.errors import MediaError, OutOfBudget, Refused, SampleError, UserError
from harness.media import reads
from harness.records import Answer, Media, Request

KEY = "sk-not-a-real-key-0123456789"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_PAUSE", 0.02)


def served(app: App | str, clock: Clock | None = None, **settings) -> Served:
    url = app if isinstance(app, str) else app.url
    adapter = Served(ServedSpec(base_url=url, model=settings.pop("model", "m"), origin="domestic", **settings))
    adapter.load("cpu", clock or Clock())
    return adapter


def ask(adapter: Served, count: int = 30, *parts) -> dict[int, Answer | Exception]:
    given = list(adapter.stream(iter([(i, Request((*parts, f"question {i}"))) for i in range(count)])))
    found = dict(given)
    assert len(found) == len(given)
    return found


def texts(outcomes) -> list[str]:
    assert all(isinstance(outcome, Answer) for outcome in outcomes.values()), outcomes
    return [outcome.text for _, outcome in sorted(outcomes.items())]


def echo(body, number):
    return answer(question(body))


# What is sent and what comes back --------------------------------------------------------------------------------


def test_a_request_says_model_limit_and_temperature_and_the_answer_what_it_took():
    reply = answer(" red ", reasoning_content="It is red.", usage={
        "prompt_tokens": 11, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 5},
    })  # fmt: skip
    with App(lambda *_: reply) as app:
        adapter = served(app, seed=3, system="Be brief.", extra_body={"top_p": 0.5, "temperature": None})
        (outcome,) = ask(adapter, 1).values()
        (body,) = app.calls
    assert body == {
        "model": "m", "max_tokens": 32, "seed": 3, "top_p": 0.5,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "question 0"}],
    }  # fmt: skip
    assert outcome == Answer("red", 11, 7, "stop", "It is red.", 5, None, "the-served-name")


def test_the_limit_has_the_name_that_an_endpoint_wants_and_an_answer_without_usage_is_one():
    with App(lambda *_: answer(usage={}, finish="length")) as app:
        (outcome,) = ask(served(app, limit_name="max_completion_tokens"), 1).values()
        assert app.calls[0]["max_completion_tokens"] == 32
        assert "max_tokens" not in app.calls[0]
        assert app.calls[0]["temperature"] == 0
    assert (outcome.tokens_in, outcome.tokens_out, outcome.finish) == (None, None, "length")


def test_without_a_name_the_first_model_that_is_listed_is_asked():
    with App(echo) as app:
        ask(served(app, model=""), 1)
        assert app.calls[0]["model"] == "first-listed"


def image_file(folder, name="a.png", mode="RGB", size=(40, 30), **save) -> Media:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (size[1], size[0], len(mode)), dtype=np.uint8)
    Image.fromarray(pixels.squeeze(), mode).save(folder / name, **save)
    return Media("image", str(folder / name), folder / name)


def sent_image(part) -> tuple[str, bytes]:
    head, _, body = part["image_url"]["url"].partition(";base64,")
    return head, base64.b64decode(body)


def test_media_stand_where_the_request_has_them_and_files_are_sent_as_they_are(tmp_path):
    first, second = image_file(tmp_path, "a.png"), image_file(tmp_path, "b.jpg")
    with App(echo) as app:
        adapter = served(app, detail="low")
        (outcome,) = dict(adapter.stream(iter([(0, Request((first, "and", second, "?")))]))).values()
        parts = app.calls[0]["messages"][0]["content"]
    assert isinstance(outcome, Answer), outcome
    assert [part["type"] for part in parts] == ["image_url", "text", "image_url", "text"]
    assert sent_image(parts[0]) == ("data:image/png", (tmp_path / "a.png").read_bytes())
    assert sent_image(parts[2]) == ("data:image/jpeg", (tmp_path / "b.jpg").read_bytes())
    assert parts[0]["image_url"]["detail"] == "low"
    assert {read.key for read in reads([first, second])} == {first.key, second.key}


def test_what_servers_would_read_in_different_ways_is_sent_as_models_here_see_it(tmp_path):
    from harness.media import open_image

    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = [
        image_file(tmp_path, "turned.jpg", exif=turned),
        image_file(tmp_path, "clear.png", "RGBA"),
        image_file(tmp_path, "c.webp", lossless=True),
        Media("image", "array", np.random.default_rng(1).integers(0, 256, (9, 7, 3), dtype=np.uint8)),
    ]
    with App(echo) as app:
        adapter = served(app)
        for media in kinds:
            list(adapter.stream(iter([(0, Request((media, "?")))])))
        for media, body in zip(kinds, app.calls, strict=True):
            _, encoded = sent_image(body["messages"][0]["content"][0])
            seen = Image.open(io.BytesIO(encoded))
            assert np.array_equal(np.asarray(seen.convert("RGB")), np.asarray(open_image(media))), media.key


def test_images_are_made_to_fit_the_limits_of_an_endpoint_which_is_counted(tmp_path):
    large = image_file(tmp_path, "large.png", size=(300, 200))
    with App(echo) as app:
        adapter = served(app, image_limit_px=150, image_limit_mb=0.02)
        ask(adapter, 3, large)
        _, encoded = sent_image(app.calls[-1]["messages"][0]["content"][0])
    image = Image.open(io.BytesIO(encoded))
    assert max(image.size) <= 150
    assert abs(image.width / image.height - 1.5) < 0.05
    assert len(base64.b64encode(encoded)) <= 20_000
    assert adapter.remarks() == ["1 image made smaller for the endpoint's limits"]
    assert adapter.remarks() == []


def test_an_image_that_many_requests_share_is_encoded_once(tmp_path):
    shared = [image_file(tmp_path, f"{i}.png") for i in range(5)]
    with App(echo) as app:
        adapter = served(app, concurrency=16)
        requests = [(i, Request((shared[i % 5], f"question {i}"))) for i in range(50)]
        assert len(dict(adapter.stream(iter(requests)))) == 50
    assert adapter.encoder.encoded == 5


def test_an_image_that_does_not_open_costs_its_request_and_no_call(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n nothing")
    broken = Media("image", "broken", tmp_path / "broken.png", where="row 3")
    with App(echo) as app:
        requests = iter([(0, Request((broken, "?"))), (1, Request(("fine",)))])
        found = dict(served(app).stream(requests))
        assert len(app.calls) == 1
    assert isinstance(found[0], MediaError)
    assert found[1].text == "fine"


def test_sound_is_sent_as_wav(tmp_path):
    import soundfile

    tone = np.sin(np.arange(8_000) / 10).astype(np.float32) / 2
    soundfile.write(tmp_path / "a.flac", tone, 8_000)
    sound = Media("audio", "a", tmp_path / "a.flac")
    with App(echo) as app:
        list(served(app).stream(iter([(0, Request((sound, "?")))])))
        part = app.calls[0]["messages"][0]["content"][0]
    assert (part["type"], part["input_audio"]["format"]) == ("input_audio", "wav")
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(part["input_audio"]["data"])))
    assert (len(heard), rate) == (16_000, 16_000)


def test_in_a_latency_pass_answers_are_streamed_and_each_piece_is_stamped():
    clock = Clock()
    with App(lambda *_: answer("blue", reasoning_content="hm")) as app:
        adapter = served(app, clock)
        clock.timer = HostTimer(time.perf_counter)
        (outcome,) = ask(adapter, 1).values()
        assert app.calls[0]["stream_options"] == {"include_usage": True}
    assert (outcome.text, outcome.reasoning, outcome.tokens_out) == ("blue", "hm", 2)
    assert len(clock.drain()[1]) == 6


# What is asked again ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}])
def test_every_seventh_call_throttled_costs_seven_calls_at_most_and_no_answer(headers):
    def script(body, number):
        return error(429, "slow down", headers=headers) if number % 7 == 6 else echo(body, number)

    with App(script) as app:
        assert texts(ask(served(app, concurrency=8))) == [f"question {i}" for i in range(30)]
        assert len(app.calls) <= 37


PASSING = {
    "a broken connection": DROP,
    "half a stream": HALF,
    "an overloaded server": error(503, "overloaded"),
    "a limit passed on as 500": error(500, "upstream said: rate limit reached for tokens per minute"),
    "a defect": error(500, "oops"),
    "an error with status 200": {"error": {"code": 429, "message": "busy"}},
    "half an answer": (200, {}, {"Content-Type": "application/json"}),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_may_pass_is_asked_again_and_no_answer_is_lost(fault):
    with App(lambda body, number: fault if number % 5 == 1 else echo(body, number)) as app:
        assert texts(ask(served(app, concurrency=4), 20)) == [f"question {i}" for i in range(20)]
        assert len(app.calls) <= 26


def test_while_one_is_throttled_the_others_wait_too():
    def script(body, number):
        return error(429, "slow down", headers={"Retry-After": "0.4"}) if number == 9 else echo(body, number)

    with App(script, delay=0.02) as app:
        assert len(texts(ask(served(app, concurrency=4)))) == 30
        gaps = np.diff(sorted(app.times))
    assert gaps.max() > 0.3  # those under way at the time are answered


def test_a_free_place_is_told_to_who_would_send_and_not_to_who_waits_for_their_own_sake():
    pace, entered = endpoint.Pace(3, None, None), threading.Event()
    pace.allowed = 1.0  # after the endpoint was too busy
    pace.enter(0)
    waiting = [threading.Thread(target=pace.sleep, args=(30,), daemon=True) for _ in range(2)]
    waiting += [threading.Thread(target=lambda: (pace.enter(0), entered.set()), daemon=True)]
    for thread in waiting:
        thread.start()
        time.sleep(0.05)
    pace.leave(True)
    assert entered.wait(5)


def test_what_never_passes_is_given_up_after_the_retries_that_are_set():
    def script(body, number):
        return error(500, "oops") if question(body) == "question 3" else echo(body, number)

    with App(script) as app:
        found = ask(served(app, retries=2, concurrency=4), 8)
        assert sum(question(body) == "question 3" for body in app.calls) == 3
    assert str(found.pop(3)) == "no answer after 3 tries: the endpoint said 500: oops"
    assert len(texts(found)) == 7


def test_a_call_that_takes_too_long_is_asked_again():
    def script(body, number):
        time.sleep(1.0 if number == 1 else 0)
        return echo(body, number)

    with App(script) as app:
        assert len(texts(ask(served(app, timeout_s=0.3), 4))) == 4
        assert len(app.calls) == 5


def test_requests_and_tokens_per_minute_space_the_calls():
    with App(echo) as app:
        ask(served(app, requests_per_minute=1200), 10)  # every 50 ms
        by_requests = app.times[-1] - app.times[0]
        ask(served(app, tokens_per_minute=60_000), 8)  # 12 tokens each, as the replies say, are 12 ms
        by_tokens = app.times[-1] - app.times[10]
    assert 0.4 < by_requests < 1.0
    assert by_tokens > 0.05


@pytest.mark.parametrize("usage", [[1], {"prompt_tokens": "5"}, {"completion_tokens": -1, "prompt_tokens": 2.0}])
def test_counts_that_are_none_cost_no_answer(usage):
    with App(lambda body, number: answer("red", usage=usage)) as app:
        (outcome,) = ask(served(app), 1).values()
    assert (outcome.text, outcome.tokens_in, outcome.tokens_out) == ("red", None, None)


@pytest.mark.parametrize("choices", [[None], "red", [{}], [{"message": "red"}], {"message": {}}])
def test_a_reply_of_another_form_is_told_in_words(choices):
    with App(lambda body, number: {"choices": choices}) as app:
        (outcome,) = ask(served(app), 1).values()
    assert type(outcome) is SampleError
    assert "no reply of such an endpoint" in str(outcome)


# What is not asked again -----------------------------------------------------------------------------------------


REFUSALS = {
    "DashScope": error(400, "Input data may contain inappropriate content.", "data_inspection_failed"),
    "Azure": error(400, "The response was filtered due to the prompt", "content_filter"),
    "GLM": error(400, "系统检测到输入或生成内容可能包含不安全或敏感内容", "1301"),
    "an ended answer": answer("", finish="content_filter"),
    "the model": answer(None, refusal="I cannot help with that."),
    "MiniMax": {"choices": None, "base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}},
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_an_outcome_and_never_asked_again_even_as_the_first(refusal):
    with App(lambda body, number: refusal if "question 0" in question(body) else echo(body, number)) as app:
        found = ask(served(app), 5)
        assert len(app.calls) == 5
    assert isinstance(found.pop(0), Refused)
    assert len(texts(found)) == 4


EMPTY = {
    "402": error(402, "Payment Required"),
    "OpenAI": error(429, "You exceeded your current quota", "insufficient_quota"),
    "DeepSeek": error(402, "Insufficient Balance"),
    "GLM": error(429, "您的账户已欠费，请充值后重试", "1113"),
    "DashScope": error(400, "Access denied, please make sure your account is in good standing.", "Arrearage"),
    "a wait of a day": error(429, "come back", headers={"Retry-After": "86400"}),
}


@pytest.mark.parametrize("said", EMPTY.values(), ids=EMPTY)
def test_an_empty_account_stops_the_asking_and_is_no_answer(said):
    with App(lambda body, number: said if number >= 5 else echo(body, number)) as app:
        found = dict(served(app, concurrency=1).stream(iter([(i, Request((f"q {i}",))) for i in range(6)])))
        assert len(app.calls) == 6
    assert isinstance(found.pop(5), OutOfBudget)
    assert len(texts(found)) == 5


def test_a_wrong_key_or_name_fails_the_model_in_one_line_at_once():
    for status, message, hint in ((401, "Incorrect API key", "Is the key right?"), (404, "no such model", "'m'")):
        reply = error(status, message)
        with App(lambda *_, reply=reply: reply) as app:
            with pytest.raises(UserError, match=f"{app.url}: the endpoint said {status}: .*{message}") as raised:
                ask(served(app, concurrency=4))
            assert hint in str(raised.value)
            assert len(app.calls) <= 4


def test_what_is_denied_to_all_before_any_is_answered_is_denied_to_the_model():
    with App(lambda *_: error(400, "this model takes no pictures"), delay=0.02) as app:
        with pytest.raises(UserError, match="this model takes no pictures"):
            ask(served(app, concurrency=4))
        assert len(app.calls) <= 4


def test_what_is_denied_to_some_at_the_beginning_is_theirs():
    def script(body, number):
        if number < 3:
            return error(413, "too large")
        time.sleep(0.5)
        return echo(body, number)

    with App(script) as app:
        found = ask(served(app, concurrency=4), 8)
        assert len(app.calls) == 8
    assert [str(o) for o in found.values() if isinstance(o, SampleError)] == 3 * ["the endpoint said 413: too large"]
    assert sum(isinstance(outcome, Answer) for outcome in found.values()) == 5


def test_later_a_denial_costs_its_sample_until_twenty_in_a_row_are_alike():
    with App(lambda body, n: error(422, "no") if n % 3 == 2 else echo(body, n)) as app:
        found = ask(served(app, concurrency=1), 40)
    assert sum(isinstance(outcome, SampleError) for outcome in found.values()) == 13
    with App(lambda body, n: error(422, "no") if n > 2 else echo(body, n)) as app:
        with pytest.raises(UserError, match="20 in a row failed alike: the endpoint said 422: no"):
            ask(served(app, concurrency=1), 60)
        assert 23 <= len(app.calls) <= 25  # one more may be asked meanwhile


def test_a_request_that_is_too_large_for_its_limit_is_not_asked_again():
    large = error(429, "Request too large for gpt on tokens per min. Limit 30000, Requested 45000")
    with App(lambda body, n: large if n == 2 else echo(body, n)) as app:
        found = ask(served(app, concurrency=1), 5)
        assert len(app.calls) == 5
    assert isinstance(found[2], SampleError)


def test_where_no_server_listens_it_is_said_at_once_and_one_that_goes_away_ends_the_asking():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    start = time.monotonic()
    with pytest.raises(UserError, match=f"{url} cannot be reached: Connection refused. Is the server up"):
        ask(served(url))
    assert time.monotonic() - start < 1

    app = App(echo)
    adapter = served(app, concurrency=4, retries=2)
    given = adapter.stream(iter([(i, Request((f"question {i}",))) for i in range(200)]))
    found = [next(given) for _ in range(20)]
    app.__exit__()
    with pytest.raises(UserError, match="is not there any more, after 3 tries: Connection refused"):
        found.extend(given)
    assert [outcome for _, outcome in found if not isinstance(outcome, Answer)] == []


def test_connections_that_the_server_has_closed_are_replaced_without_a_pause(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_PAUSE", 60.0)
    with App(echo) as app:
        adapter = served(app)
        ask(adapter, 1)
        for connection in adapter.endpoint._idle:
            connection.sock.shutdown(socket.SHUT_RDWR)
        ask(adapter, 1)


# The rest --------------------------------------------------------------------------------------------------------


def test_so_many_are_asked_at_once_and_no_more_are_taken_than_are_asked():
    taken = []

    def requests():
        for i in range(60):
            taken.append(i)
            yield i, Request((f"question {i}",))

    with App(echo, delay=0.03) as app:
        for done, (_, outcome) in enumerate(served(app, concurrency=8).stream(requests())):
            assert isinstance(outcome, Answer)
            assert len(taken) - done <= 18
        assert 6 <= app.most_at_once <= 8


def test_a_proxy_is_used_for_other_machines_alone_and_is_told_its_password(monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with App(echo) as here, App(echo) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://me:p%40ss@").removesuffix("/v1"))
        assert texts(ask(served(here), 1)) == ["question 0"]
        assert not proxy.calls
        assert texts(ask(served("http://models.example/v1"), 1)) == ["question 0"]
        (headers,) = proxy.headers
    assert headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()


def test_who_stops_listening_ends_the_threads():
    with App(echo, delay=0.01) as app:
        before = threading.active_count()
        given = served(app, concurrency=8).stream(iter([(i, Request((f"q {i}",))) for i in range(10_000)]))
        for _ in range(20):
            next(given)
        given.close()
        end = time.monotonic() + 5
        while threading.active_count() > before + 9 and time.monotonic() < end:  # those of the server's connections
            time.sleep(0.01)
        asked = len(app.calls)
        time.sleep(0.1)
        assert len(app.calls) == asked < 100


def test_the_key_comes_from_the_environment_and_goes_into_its_header_alone(monkeypatch):
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    with App(lambda *_: error(401, "wrong")) as app:
        adapter = served(app, api_key_env="MY_KEY")
        with pytest.raises(UserError) as raised:
            ask(adapter, 1)
        assert app.headers[0]["Authorization"] == f"Bearer {KEY}"
        assert KEY not in str(app.calls)
    assert KEY not in str(raised.value)
    assert KEY not in repr(adapter.spec)
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(UserError, match="MY_KEY"):
        served("http://127.0.0.1:1/v1", api_key_env="MY_KEY")


@pytest.mark.parametrize("url", ["", "example.com/v1", "ftp://example.com", "https://me:secret@example.com/v1"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(UserError, match="base_url"):
        served(url)


def test_every_bundled_model_behind_an_endpoint_says_where_it_is_who_made_it_and_that_it_is_untried(monkeypatch):
    from harness.config.compose import compose
    from harness.config.files import ConfigFiles

    run = compose(["model=served", "task=vqa"]).run
    assert {"served-local", "qwen-vl-max", "glm", "ernie", "hunyuan", "doubao", "kimi", "step", "minimax"} < set(
        run.models
    )
    assert {"gpt", "gemini", "claude", "mistral", "openrouter"} < set(run.models)
    for name, spec in run.models.items():
        if name == "served-local":
            continue
        assert "could not be tried here" in ConfigFiles().members("model")[name].read_text().replace("\n# ", " ")
        monkeypatch.setenv(spec.api_key_env, KEY)
        Served(spec).load("cpu", Clock())  # an address and a key: nothing is asked yet
        assert spec.developer
        assert spec.model


def test_embeddings_come_in_the_order_of_the_requests_and_have_length_one(tmp_path):
    from harness.adapters.served.embeddings import ServedEmbeddings

    image = image_file(tmp_path)

    def script(body, number):
        texts = body.get("input") or ["an image"]
        rows = [{"index": i, "embedding": [3.0, 4.0 * len(text)]} for i, text in enumerate(texts)]
        return {"data": rows[::-1], "usage": {"prompt_tokens": 3}}

    with App(script) as app:
        adapter = ServedEmbeddings(ServedSpec(base_url=app.url, model="e"))
        adapter.load("cpu", Clock())
        texts = [f"{'x' * i}" for i in range(1, 40)]
        found = adapter.embed([Request((text,)) for text in texts[:20]] + [Request((image,))] + [Request(("xx",))])
        assert len(app.calls) == 3
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    lengths = [*range(1, 21), len("an image"), 2]
    assert np.allclose(found[:, 1] / found[:, 0], [4 * length / 3 for length in lengths])


def test_choices_are_ranked_by_the_mean_log_probability_of_their_tokens():
    """By hand: a prompt of three tokens, and choices of as many tokens as they have words."""
    from harness.adapters.served.chat import ServedRanks

    logs = {"red": [-1.0], "light blue": [-0.5, -0.9], "green": [-3.0]}

    def script(body, number):
        last = body["messages"][-1]
        own = logs[last["content"]] if last["role"] == "assistant" else []
        assert body["continue_final_message"] is bool(own)
        assert body["add_generation_prompt"] is not bool(own)
        places = [None, *({"7": {"logprob": value, "rank": 1}} for value in [-9.0, -9.0, *own])]
        return answer() | {"prompt_logprobs": places}

    with App(script) as app:
        adapter = ServedRanks(ServedSpec(base_url=app.url, model="m"))
        adapter.load("cpu", Clock())
        (scores,) = adapter.rank([Request(("Which?",), choices=tuple(logs))])
    assert np.allclose(scores, [-1.0, -0.7, -3.0])
