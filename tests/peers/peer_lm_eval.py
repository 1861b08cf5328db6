"""lm-evaluation-harness's log-likelihoods, asked of the server, against flextrace forward and transformers on the same
checkpoint."""
import os
import re
import signal
import subprocess
import sys

import torch
from transformers import FlexOlmoForCausalLM

from common import BINARY, ROOT

os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1")
sys.path.insert(0, os.path.join(ROOT, "tests", "clients"))
from lm_eval.models.openai_completions import LocalCompletionsAPI  # noqa: E402
from lm_eval_requests import REQUESTS, forward_of, likelihoods, pairs, scores_of  # noqa: E402

MODEL = os.path.join(ROOT, "demo", "model")
TOLERANCE = 1e-3


def transformers_forward():
    model = FlexOlmoForCausalLM.from_pretrained(MODEL, dtype=torch.float64, attn_implementation="eager",
                                                experts_implementation="eager").eval()

    def forward(ids):
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0].numpy()
    return forward


def asked_of_a_server(folder, requests):
    """The harness's model and what it was told."""
    path = os.path.join(folder, "federation.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"name: demo\nmodel: {MODEL}\n")
    server = subprocess.Popen([BINARY, "serve", path, "--listen", "127.0.0.1:0", "--quiet"], stdout=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://\S+", server.stdout.readline()).group()
        model = LocalCompletionsAPI(base_url=address + "/v1/completions", model="demo", tokenizer_backend="auto",
                                    max_length=1024, num_concurrent=4)
        told = likelihoods(model, requests)
        return told, [scores_of(model, requests, forward) for forward in (forward_of(BINARY, MODEL), transformers_forward())]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def test_two_hundred_loglikelihoods_of_lm_eval_are_those_of_forward_and_transformers(folder, seed):
    requests = pairs(seed)
    told, expected = asked_of_a_server(folder, requests)
    assert len(told) == REQUESTS
    worst = [max(abs(got[0] - want[0]) for got, want in zip(told, one)) for one in expected]
    assert max(worst) < TOLERANCE, f"off by {worst[0]} (forward) and {worst[1]} (transformers)"
    assert [greedy for _, greedy in told] == [greedy for _, greedy in expected[0]]
    assert len({round(value, 6) for value, _ in told}) > REQUESTS // 2  # they are of different texts
