"""The openai client as its users call it. Argument: the server's address."""

import sys
import traceback

import openai

ADDRESS = sys.argv[1]
client = openai.OpenAI(base_url=ADDRESS + "/v1", api_key="none", max_retries=0, timeout=300)
ask = client.completions.create


def models_are_listed_and_read():
    models = client.models.list()
    assert [m.id for m in models] == ["demo"], models
    assert client.models.retrieve("demo").meta["n_experts"] == 6


def a_completion_has_text_and_usage():
    answer = ask(model="demo", prompt="In the beginning", max_tokens=8, temperature=0)
    assert answer.object == "text_completion"
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.system_fingerprint.startswith("fx-")


def the_same_seed_gives_the_same_text():
    texts = {ask(model="demo", prompt="And it came", max_tokens=10, seed=3).choices[0].text for _ in range(3)}
    assert len(texts) == 1, texts


def a_stream_joins_to_the_whole_answer():
    whole = ask(model="demo", prompt="The manual", max_tokens=16, temperature=0).choices[0].text
    stream = ask(model="demo", prompt="The manual", max_tokens=16, temperature=0, stream=True,
                 stream_options={"include_usage": True})
    text, usage, reasons = "", None, []
    for chunk in stream:
        if chunk.choices:
            text += chunk.choices[0].text
            reasons += [chunk.choices[0].finish_reason] if chunk.choices[0].finish_reason else []
        usage = chunk.usage or usage
    assert text == whole and len(reasons) == 1 and usage.completion_tokens == 16, (text, whole, reasons, usage)


def several_prompts_and_choices_keep_their_order():
    answer = ask(model="demo", prompt=["One", "Two"], n=2, max_tokens=2, echo=True)
    assert [c.index for c in answer.choices] == [0, 1, 2, 3]
    assert [c.text[:3] for c in answer.choices] == ["One", "One", "Two", "Two"]


def a_stop_string_ends_the_text_and_is_not_in_it():
    whole = ask(model="demo", prompt="And it came to pass", max_tokens=30, temperature=0).choices[0].text
    stop = whole[10:13]
    answer = ask(model="demo", prompt="And it came to pass", max_tokens=30, temperature=0, stop=stop)
    assert stop not in answer.choices[0].text and whole.startswith(answer.choices[0].text)
    assert answer.choices[0].finish_reason == "stop"


def logprobs_score_an_echoed_prompt():
    answer = ask(model="demo", prompt=[300, 301, 302], max_tokens=1, echo=True, logprobs=3, temperature=0)
    scores = answer.choices[0].logprobs
    assert len(scores.tokens) == len(scores.token_logprobs) == len(scores.top_logprobs) == len(scores.text_offset) == 4
    assert scores.token_logprobs[0] is None
    for token, value, top in list(zip(scores.tokens, scores.token_logprobs, scores.top_logprobs))[1:]:
        assert top[token] == value


def a_trace_rides_in_extra_body_and_is_read_back():
    answer = ask(model="demo", prompt="In the beginning God", max_tokens=24, temperature=0,
                 extra_body={"flextrace": {"trace": True, "without": ["public"]}})
    extra = answer.choices[0].flextrace
    assert extra["experts"][0]["state"] == "opted_out" and extra["experts"][0]["share"] == 0
    trace = client.get("/traces/" + extra["trace_id"] + "?routing=full", cast_to=object)
    assert trace["response"]["text"] == answer.choices[0].text
    assert trace["routing"]["layers"] == 6


def errors_are_exceptions_with_their_code():
    cases = [
        (openai.NotFoundError, "model_not_found", dict(model="other", prompt="a")),
        (openai.BadRequestError, "context_length_exceeded", dict(model="demo", prompt="a", max_tokens=100000)),
        (openai.BadRequestError, None, dict(model="demo", prompt="a", max_tokens=-1)),
        (openai.BadRequestError, "unsupported_parameter", dict(model="demo", prompt="a", presence_penalty=1)),
        (openai.APIStatusError, "request_too_large", dict(model="demo", prompt="a" * (2 << 20))),
    ]
    for kind, code, arguments in cases:
        try:
            ask(**arguments)
        except kind as error:
            assert error.code == code, (error.code, arguments)
        else:
            raise AssertionError(f"no error for {code}")


def an_error_before_a_stream_is_an_exception_too():
    try:
        ask(model="other", prompt="a", stream=True)
    except openai.NotFoundError:
        return
    raise AssertionError("no error")


def a_closed_stream_leaves_the_server_free():
    with ask(model="demo", prompt="On and on", max_tokens=900, stream=True, extra_body={"ignore_eos": True}) as stream:
        next(iter(stream))
    assert ask(model="demo", prompt="a", max_tokens=1).choices


def main():
    tests = [f for name, f in globals().items() if callable(f) and getattr(f, "__module__", "") == "__main__" and name != "main"]
    failed = 0
    for test in tests:
        try:
            test()
            print("ok", test.__name__.replace("_", " "))
        except Exception:
            failed += 1
            print("FAILED", test.__name__.replace("_", " "))
            traceback.print_exc()
    print(f"{len(tests) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


sys.exit(main())
