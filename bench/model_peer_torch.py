"""transformers on CPU (PyPI) on the shape of bench/model, in bfloat16, and what its matrix product alone reaches.

    model_peer_torch.py CONFIG [--threads N] LINE…     one JSON object

LINE: decode, batch-N, prefill-N: tokens a second of FlexOlmoForCausalLM with random weights, the best of several turns;
product: GFLOP/s of the bfloat16 products of a prefill of 512 tokens (oneDNN), each expert's share of tokens at once.
"""
import json
import os
import sys
import time

import torch


def best(turns, fn):
    took = []
    for _ in range(turns):
        start = time.perf_counter()
        fn()
        took.append(time.perf_counter() - start)
    return min(took)


def product(config):
    """Products of one layer as a prefill has them: flop a second over all."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    tokens = 512 * config["num_experts_per_tok"] // config["num_experts"]
    flop = seconds = 0
    for rows, cols, n, times in ((hidden, hidden, 512, 4), (inner, hidden, tokens, 2 * config["num_experts"]),
                                 (hidden, inner, tokens, config["num_experts"])):
        x, w = torch.randn(n, cols, dtype=torch.bfloat16), torch.randn(rows, cols, dtype=torch.bfloat16)
        torch.nn.functional.linear(x, w)
        seconds += times * best(25, lambda: torch.nn.functional.linear(x, w))
        flop += times * 2 * n * rows * cols
    return flop / seconds / 1e9


class Peer:
    def __init__(self, config):
        from transformers import FlexOlmoConfig, FlexOlmoForCausalLM
        known = {k: v for k, v in config.items() if k not in ("architectures", "model_type", "torch_dtype", "dtype", "transformers_version")}
        torch.set_default_dtype(torch.bfloat16)
        torch.manual_seed(1)
        self.vocab = config["vocab_size"]
        self.model = FlexOlmoForCausalLM(FlexOlmoConfig(**known)).eval()

    def prefill(self, n):
        ids = torch.randint(0, self.vocab, (1, n))
        return n / best(4, lambda: self.model(ids, use_cache=True, logits_to_keep=1))

    def decode(self, sequences, steps=20):
        ids = torch.randint(0, self.vocab, (sequences, 8))
        cache = self.model(ids, use_cache=True, logits_to_keep=1).past_key_values
        took = []
        for _ in range(steps):
            ids = torch.randint(0, self.vocab, (sequences, 1))
            start = time.perf_counter()
            cache = self.model(ids, past_key_values=cache, use_cache=True).past_key_values
            took.append(time.perf_counter() - start)
        return sequences / sorted(took)[steps // 4]

    def line(self, name):
        kind, _, n = name.partition("-")
        return self.prefill(int(n)) if kind == "prefill" else max(self.decode(int(n or 1)) for _ in range(2))


def main(arguments):
    config, lines = json.load(open(arguments[0])), arguments[1:]
    threads = len(os.sched_getaffinity(0))
    if lines[:1] == ["--threads"]:
        threads, lines = int(lines[1]), lines[2:]
    torch.set_num_threads(threads)
    out, peer = {}, None
    with torch.inference_mode():
        for name in lines:
            if name == "product":
                out[name] = product(config)
                continue
            peer = peer or Peer(config)
            out[name] = peer.line(name)
    print(json.dumps(out))


main(sys.argv[1:])
