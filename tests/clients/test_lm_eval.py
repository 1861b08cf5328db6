"""lm-evaluation-harness against the server, as its users run it: local-completions with the
server's own tokenizer. Arguments: the server's address, the flextrace binary, the model."""

import json
import pathlib
import sys
import tempfile

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.tasks import TaskManager

from common import run_tests
from lm_eval_requests import REQUESTS, TEXT, forward_of, likelihoods, pairs, scores_of

ADDRESS, BINARY, MODEL = sys.argv[1:4]
flextrace_forward = forward_of(BINARY, MODEL)


def lm(**more):
    return LocalCompletionsAPI(base_url=ADDRESS + "/v1/completions", model="demo", tokenizer_backend="auto", max_length=1024,
                               **more)


def its_loglikelihoods_are_those_of_flextrace_forward():
    model = lm()
    assert model.tokenizer_backend == "remote"
    requests = pairs()
    expected = scores_of(model, requests, flextrace_forward)
    for options in ({}, {"batch_size": 8}, {"num_concurrent": 4}):
        scores = likelihoods(lm(**options), requests)
        assert len(scores) == REQUESTS
        for (got, greedy), (want, first), pair in zip(scores, expected, requests):
            assert abs(got - want) < 1e-3, (options, pair, got, want)
            assert greedy == first, (options, pair, got, greedy, first)


def a_local_task_is_evaluated():
    """Multiple choice and generation, from files beside the task."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        rows = [{"question": f"{a} and {b}:", "choices": [" " + a, " " + b, " nothing"], "answer": i % 3}
                for i, (a, b) in enumerate([("heaven", "earth"), ("form", "void"), ("light", "day"), ("page", "option")])]
        (path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        common = f"dataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {path}/rows.jsonl\ntest_split: test\n"
        (path / "choice.yaml").write_text(
            "task: flextrace_choice\n" + common + "output_type: multiple_choice\ndoc_to_text: '{{question}}'\n"
            "doc_to_choice: choices\ndoc_to_target: answer\nmetric_list:\n  - metric: acc\n  - metric: acc_norm\n")
        (path / "write.yaml").write_text(
            "task: flextrace_write\n" + common + "output_type: generate_until\ndoc_to_text: '{{question}}'\n"
            "doc_to_target: '{{choices[0]}}'\ngeneration_kwargs:\n  until: [\"\\n\", '.']\n  max_gen_toks: 12\n"
            "  temperature: 0\nmetric_list:\n  - metric: exact_match\n")
        result = simple_evaluate(model=lm(), tasks=["flextrace_choice", "flextrace_write"],
                                 task_manager=TaskManager(include_path=folder), log_samples=True, bootstrap_iters=0)
    assert len(result["samples"]["flextrace_choice"]) == 4
    for sample in result["samples"]["flextrace_choice"]:
        values = [float(r[0]) for r in sample["filtered_resps"]]
        assert len(set(values)) == 3 and all(v < 0 for v in values), sample  # three 0 would be a server that cannot score
    for sample in result["samples"]["flextrace_write"]:
        text = sample["filtered_resps"][0]
        assert "\n" not in text and "." not in text, sample


def rolling_loglikelihood_counts_every_token_once():
    model = lm()
    (value,) = model.loglikelihood_rolling(
        [Instance(request_type="loglikelihood_rolling", doc={}, arguments=(TEXT,), idx=0)], disable_tqdm=True)
    ((want, _),) = scores_of(model, [("", TEXT)], flextrace_forward)
    assert abs(value - want) < 1e-2, (value, want)


run_tests("lm-eval", [its_loglikelihoods_are_those_of_flextrace_forward,
                      a_local_task_is_evaluated, rolling_loglikelihood_counts_every_token_once])
