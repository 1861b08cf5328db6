"""What flextrace trains and merges, loaded by transformers: the loss of one batch, ours and theirs."""
import json
import os
import random
import shutil

import numpy
import torch
from transformers import FlexOlmoForCausalLM, Olmo2ForCausalLM

from common import flextrace, tokenizer_folders

# The tolerance; float32 against float64.
RELATIVE = 1e-4
WORDS = "court law river count sum field music data night proof road stone price letter garden winter engine".split()


def corpus(path, words, documents=24):
    with open(path, "w") as f:
        for i in range(documents):
            text = " ".join(random.choice(words) for _ in range(random.randrange(20, 90)))
            f.write(json.dumps({"id": str(i), "text": text}) + "\n")


def start(folder):
    """A config and a tokenizer; returns the vocabulary."""
    source = tokenizer_folders()[-1]
    os.makedirs(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if os.path.exists(os.path.join(source, name)):
            shutil.copy(os.path.join(source, name), folder)
    with open(os.path.join(source, "tokenizer.json")) as f:
        tokenizer = json.load(f)
    ids = list(tokenizer["model"]["vocab"].values()) + [t["id"] for t in tokenizer["added_tokens"]]
    config = {"architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", "hidden_size": 32, "intermediate_size": 48,
              "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": max(ids) + 1,
              "max_position_embeddings": 128, "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
              "eos_token_id": 0, "pad_token_id": None, "bos_token_id": None}
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    return max(ids) + 1


def compare(path, folder, vocab):
    ids = numpy.random.default_rng(random.randrange(1 << 30)).integers(0, vocab, (3, 40)).astype(numpy.int32)
    labels = numpy.concatenate([ids[:, 1:], numpy.full((3, 1), -100, numpy.int32)], axis=1)
    numpy.save(f"{folder}/ids.npy", ids)
    numpy.save(f"{folder}/labels.npy", labels)
    ours = json.loads(flextrace("train", "step", path, "--ids", f"{folder}/ids.npy", "--labels", f"{folder}/labels.npy",
                                "--grads", f"{folder}/grads.safetensors", "--json"))["ce"]
    with open(os.path.join(path, "config.json")) as f:
        sparse = json.load(f)["architectures"] == ["FlexOlmoForCausalLM"]
    eager = {"experts_implementation": "eager"} if sparse else {}
    model = (FlexOlmoForCausalLM if sparse else Olmo2ForCausalLM).from_pretrained(path, dtype=torch.float64, **eager).eval()
    with torch.no_grad():
        logits = model(torch.tensor(ids.astype(numpy.int64))).logits
    theirs = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), torch.tensor(ids[:, 1:].astype(numpy.int64)).flatten())
    assert abs(ours - float(theirs)) < RELATIVE * float(theirs), f"{path}: loss {ours}, transformers {float(theirs)}"


def test_trained_and_merged_models_have_the_same_loss_in_transformers(folder, seed):
    vocab = start(f"{folder}/start")
    corpus(f"{folder}/public.jsonl", WORDS)
    options = ["--steps", 12, "--batch", 4, "--length", 32, "--rate", "1e-2", "--warmup", 2]
    flextrace("train", "public", f"{folder}/start", "--corpus", f"{folder}/public.jsonl", "-o", f"{folder}/public", *options)
    compare(f"{folder}/public/model", folder, vocab)
    experts = []
    for owner, words in (("law", WORDS[:6]), ("music", WORDS[6:12])):
        corpus(f"{folder}/{owner}.jsonl", words)
        flextrace("train", "expert", "--public", f"{folder}/public/model", "--corpus", f"{folder}/{owner}.jsonl", "--owner", owner,
                  "--public-corpus", f"{folder}/public.jsonl", "-o", f"{folder}/{owner}", *options)
        compare(f"{folder}/{owner}/model", folder, vocab)
        experts.append(f"{folder}/{owner}/expert")
    for number in ([], ["--bfloat16"]):
        out = f"{folder}/merged{len(number)}"
        flextrace("merge", "--public", f"{folder}/public/model", *experts, "-o", out, *number)
        compare(out, folder, vocab)
