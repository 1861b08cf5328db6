"""flextrace eval against transformers: bits per byte and multiple choice of one random checkpoint."""
import json
import math
import os
import random

import torch
from transformers import PreTrainedTokenizerFast

from common import ROOT, flextrace
from peer_transformers import random_flexolmo

WINDOW = 64
WORDS = ("the a of in and old new river house bread ships seven doctor where never what opens Müller — naïve 12 3.5 "
         "def return x, y) quickly; night").split()


def text(words):
    return " ".join(random.choice(WORDS) for _ in range(words))


class Plain:
    """The same figures by whole passes in float64."""

    def __init__(self, model):
        self.model = model
        file = os.path.join(ROOT, "demo", "flexmix", "tokenizer.json")
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=file)

    def ids(self, what):
        return self.tokenizer(what, add_special_tokens=False)["input_ids"]

    def logp(self, ids):
        with torch.no_grad():
            return torch.log_softmax(self.model(torch.tensor([ids])).logits[0].double(), -1)

    def bits(self, document):
        ids, total, at, known = self.ids(document) + [0], math.log2(4096), 0, 1
        while known < len(ids):
            part = ids[at:at + WINDOW][:len(ids) - 1 - at]
            logp = self.logp(part)
            total -= sum(logp[k, ids[at + k + 1]].item() for k in range(known - 1 - at, len(part))) / math.log(2)
            known, at = at + len(part) + 1, at + WINDOW // 2
        return total

    def sum(self, context, choice):
        a, b = self.ids(context), self.ids(choice)
        logp = self.logp(a + b)
        return sum(logp[len(a) - 1 + i, b[i]].item() for i in range(len(b)))


def best(values):
    return max(range(len(values)), key=lambda i: values[i])


def plain_choices(plain, items):
    out = dict.fromkeys(("acc", "acc_per_byte", "acc_per_char", "acc_uncond", "bpb"), 0.0)
    for item in items:
        s = [plain.sum(item["context"], c) for c in item["choices"]]
        u = [plain.sum(item["uncond_context"], c) for c in item["choices"]]
        sizes = [len(c.encode()) for c in item["choices"]]
        out["acc"] += best(s) == item["gold"]
        out["acc_per_byte"] += best([x / n for x, n in zip(s, sizes)]) == item["gold"]
        out["acc_per_char"] += best([x / len(c) for x, c in zip(s, item["choices"])]) == item["gold"]
        out["acc_uncond"] += best([x - y for x, y in zip(s, u)]) == item["gold"]
        out["bpb"] -= s[item["gold"]] / math.log(2) / sizes[item["gold"]]
    return {k: v / len(items) for k, v in out.items()}


def test_bits_per_byte_and_choices_are_those_of_transformers(folder, seed):
    model = random_flexolmo(f"{folder}/m", seed, vocab_size=4096, max_position_embeddings=256)
    plain = Plain(model)
    documents = [text(n) for n in (1, 30, 31, 200)]
    items = [{"context": text(8), "uncond_context": "Answer:", "choices": [" " + text(n) for n in (1, 3, 2)],
              "gold": random.randrange(3)} for _ in range(12)]
    with open(f"{folder}/d.jsonl", "w") as f:
        f.writelines(json.dumps({"id": str(i), "text": d}) + "\n" for i, d in enumerate(documents))
    with open(f"{folder}/c.jsonl", "w") as f:
        f.writelines(json.dumps(i) + "\n" for i in items)
    with open(f"{folder}/r.yaml", "w") as f:
        f.write(f"tokenizer: {ROOT}/demo/flexmix\nwindow: {WINDOW}\ndomains:\n  - {{name: d, test: [d.jsonl]}}\n"
                f"systems:\n  - {{name: m, model: m}}\nchoices:\n  - {{name: c, file: c.jsonl}}\n")
    ours = json.loads(flextrace("eval", f"{folder}/r.yaml", "-o", f"{folder}/out", "--json"))["systems"][0]
    want = sum(plain.bits(d) for d in documents) / sum(len(d.encode()) for d in documents)
    assert abs(ours["bits_per_byte"]["d"] - want) < 1e-4 * want, (ours["bits_per_byte"], want)
    for name, value in plain_choices(plain, items).items():
        got = ours["choices"]["c"][name]
        assert abs(got - value) < 1e-4 * max(1, value), (name, got, value)
