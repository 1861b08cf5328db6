#!/usr/bin/env python3
"""demo/training/golden.py MODEL: MODEL/golden.json, what transformers computes in float32 from MODEL's weights, for
tests/test_model.c and tests/test_generate.c. Needs torch and transformers (tests/peers/run.sh can install them).

Prompts are those of the golden.json that is there, else of demo/model's."""
import json
import os
import sys

import torch
from transformers import AutoTokenizer, FlexOlmoForCausalLM

NOTE = ("float32 computation from the bfloat16 weights; ids begin with <|endoftext|> (0), the document separator; weights are the selected "
        "softmax probabilities, not renormalised; greedy stops after 48 tokens or before <|endoftext|>")


def short(x):
    return float(f"{float(x):.6g}")


def routing(logits, k):
    """Of one layer: experts and weights of each token, the greatest first."""
    # transformers hands out logits or probabilities, depending on the version.
    is_probability = float(logits.min()) >= 0 and abs(float(logits.sum(-1).max()) - 1) < 1e-5
    weights, experts = torch.topk(logits if is_probability else torch.softmax(logits, -1), k, dim=-1)
    return {"experts": experts.tolist(), "weights": [[short(w) for w in row] for row in weights]}


def golden(model, tokenizer, prompt):
    ids = [0] + tokenizer(prompt["prompt"], add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        out = model(torch.tensor([ids]), output_router_logits=True)
        greedy = []
        while len(greedy) < 48:
            best = int(model(torch.tensor([ids + greedy])).logits[0, -1].argmax())
            if best == 0:
                break
            greedy.append(best)
    last = out.logits[0, -1]
    top = torch.topk(last, 5)
    return {"domain": prompt["domain"], "prompt": prompt["prompt"], "ids": ids,
            "top5": [{"id": int(i), "token": tokenizer.decode([int(i)]), "logit": short(x)} for x, i in zip(top.values, top.indices)],
            "logits_first8": [short(x) for x in last[:8]], "logsumexp": short(torch.logsumexp(last, 0)), "greedy_ids": greedy,
            "greedy_text": tokenizer.decode(greedy, clean_up_tokenization_spaces=False),
            "layers": [routing(layer, model.config.num_experts_per_tok) for layer in out.router_logits]}


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    folder = sys.argv[1]
    there = f"{folder}/golden.json"
    if not os.path.exists(there):
        there = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../model/golden.json")
    with open(there, encoding="utf-8") as f:
        prompts = json.load(f)["prompts"]
    model = FlexOlmoForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    made = {"note": NOTE, "prompts": [golden(model, tokenizer, p) for p in prompts]}
    with open(f"{folder}/golden.json.part", "w", encoding="utf-8") as f:
        json.dump(made, f, ensure_ascii=False, indent=1)
    os.rename(f"{folder}/golden.json.part", f"{folder}/golden.json")


if __name__ == "__main__":
    main()
