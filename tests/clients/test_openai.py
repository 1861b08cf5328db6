"""The openai client as its users call it. Argument: the server's address."""

import asyncio
import sys
import urllib.request

import openai
from prometheus_client.parser import text_string_to_metric_families

from common import run_tests

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
        (openai.BadRequestError, None, dict(model="demo", prompt="a", presence_penalty=3)),
        (openai.BadRequestError, "unsupported_parameter", dict(model="demo", prompt="a", suffix="b")),
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


# --- Chat ---------------------------------------------------------------------------------

TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "In the beginning"}]


def talk(**more):
    return client.chat.completions.create(model="demo", messages=TALK, temperature=0, **more)


def chat_answers_with_a_message_and_usage():
    answer = talk(max_completion_tokens=12)
    assert answer.object == "chat.completion" and answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content and answer.choices[0].message.refusal is None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0
    assert talk(max_completion_tokens=12).choices[0].message.content == answer.choices[0].message.content


def a_chat_stream_joins_to_the_whole_answer():
    whole = talk(max_tokens=16).choices[0].message.content
    text, roles, usage, reason = "", [], None, None
    for chunk in talk(max_tokens=16, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            roles += [choice.delta.role] if choice.delta.role else []
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    assert text == whole and roles == ["assistant"] and reason and usage.completion_tokens > 0, (text, whole, roles)


def the_stream_helper_accumulates_a_chat():
    stop = talk(max_tokens=20).choices[0].message.content[6:8]  # the helper takes an answer cut by length for a fault
    with client.chat.completions.stream(model="demo", messages=TALK, temperature=0, max_tokens=20, stop=stop) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.content == talk(max_tokens=20, stop=stop).choices[0].message.content


def chat_log_probabilities_have_their_own_shape():
    answer = talk(max_tokens=5, logprobs=True, top_logprobs=4, extra_body={"ignore_eos": True})
    entries = answer.choices[0].logprobs.content
    assert len(entries) == 5
    for entry in entries:
        assert len(entry.top_logprobs) == 4
        assert entry.top_logprobs[0].logprob == entry.logprob and entry.top_logprobs[0].token == entry.token
        assert bytes(entry.bytes).decode(errors="replace") == entry.token
    streamed = [e for chunk in talk(max_tokens=5, logprobs=True, stream=True, extra_body={"ignore_eos": True})
                for choice in chunk.choices if choice.logprobs for e in choice.logprobs.content]
    assert [e.logprob for e in streamed] == [e.logprob for e in entries]


def penalties_and_biases_reach_the_sampler():
    ids = ask(model="demo", prompt="And it came", max_tokens=4, temperature=0,
              extra_body={"return_token_ids": True, "ignore_eos": True}).choices[0].token_ids
    biased = ask(model="demo", prompt="And it came", max_tokens=4, temperature=0, logit_bias={str(ids[0]): -100},
                 extra_body={"return_token_ids": True, "ignore_eos": True}).choices[0].token_ids
    assert ids[0] not in biased
    forced = ask(model="demo", prompt="And it came", max_tokens=8, temperature=0, logit_bias={"300": 100},
                 frequency_penalty=2, presence_penalty=2, extra_body={"return_token_ids": True}).choices[0].token_ids
    assert 300 in forced


def what_chat_does_not_do_is_an_exception_that_names_it():
    for field, value in (("tools", [{"type": "function", "function": {"name": "f", "parameters": {}}}]),
                         ("response_format", {"type": "json_object"})):
        try:
            talk(**{field: value})
        except openai.BadRequestError as error:
            assert error.code == "unsupported_parameter" and error.param == field, error
        else:
            raise AssertionError(field)


def many_async_requests_agree_with_one_after_another():
    async def run():
        other = openai.AsyncOpenAI(base_url=ADDRESS + "/v1", api_key="none", max_retries=0, timeout=300)

        async def one(k):
            if k % 2:
                answer = await other.chat.completions.create(model="demo", messages=TALK, seed=k, max_tokens=10)
                return answer.choices[0].message.content
            text = ""
            async for chunk in await other.completions.create(model="demo", prompt="And it came", seed=k, max_tokens=10,
                                                              stream=True):
                text += chunk.choices[0].text if chunk.choices else ""
            return text

        together = await asyncio.gather(*[one(k) for k in range(24)])
        alone = [await one(k) for k in range(24)]
        await other.close()
        return together, alone

    together, alone = asyncio.run(run())
    assert together == alone, [(a, b) for a, b in zip(together, alone) if a != b]


# --- Metrics --------------------------------------------------------------------------------


def metrics_pass_the_reference_parser():
    with urllib.request.urlopen(ADDRESS + "/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {f.name: f for f in text_string_to_metric_families(answer.read().decode())}
    for name in ("flextrace_http_requests", "flextrace_prompt_tokens", "flextrace_generation_tokens",
                 "flextrace_requests_running", "flextrace_time_to_first_token_seconds", "flextrace_expert_weight",
                 "flextrace_build_info", "process_resident_memory_bytes"):
        assert name in families, name
    for family in families.values():
        assert family.documentation and family.type in ("counter", "gauge", "histogram"), family
        if family.type != "histogram":
            continue
        last, bound = None, None
        for sample in family.samples:
            if not sample.name.endswith("_bucket"):
                continue
            now = float(sample.labels["le"])
            if last is not None and now > bound:
                assert sample.value >= last, sample
            last, bound = sample.value, now
    tokens = {s.labels.get("owner") for s in families["flextrace_expert_tokens"].samples}
    assert {"public", "scripture"} <= tokens


run_tests("openai", [f for name, f in list(globals().items())
                     if callable(f) and getattr(f, "__module__", "") == "__main__" and name != "talk"])
