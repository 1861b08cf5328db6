"""flextrace forward and generate against transformers, on random checkpoints."""
import json
import os
import random

import numpy
import torch
from transformers import FlexOlmoConfig, FlexOlmoForCausalLM, Olmo2Config, Olmo2ForCausalLM

from common import flextrace

# float32 against float64: three times what the float32 reference itself is off by.
LOGIT_TOLERANCE, ROUTING_TOLERANCE = 2e-4, 2e-5


def save(model, folder, dtype, shard):
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)


def random_flexolmo(folder, seed, **changes):
    """A checkpoint with weights wide enough that routing is decided clearly; returns it in float64 as it was stored."""
    torch.manual_seed(seed)
    heads = random.choice([2, 4, 6])
    settings = dict(vocab_size=random.choice([97, 512]), hidden_size=heads * 2 * random.choice([8, 12]),
                    intermediate_size=random.choice([40, 96]), num_hidden_layers=random.choice([1, 2, 3]),
                    num_attention_heads=heads, num_key_value_heads=random.choice([h for h in (1, 2, heads) if heads % h == 0]),
                    num_experts=random.choice([2, 5, 7]), max_position_embeddings=256, pad_token_id=None, eos_token_id=None,
                    bos_token_id=None, norm_topk_prob=random.random() < 0.5, tie_word_embeddings=random.random() < 0.3)
    settings["num_experts_per_tok"] = random.randrange(1, settings["num_experts"] + 1)
    settings.update(changes)
    model = FlexOlmoForCausalLM(FlexOlmoConfig(**settings))
    return store_and_reload(model, FlexOlmoForCausalLM, folder)


def store_and_reload(model, kind, folder):
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn_like(p) * (0.3 if p.dim() > 1 else 0.2) + (1.0 if p.dim() == 1 else 0.0))
    save(model, folder, random.choice([torch.float32, torch.bfloat16, torch.float16]), random.choice(["10GB", "20KB"]))
    return kind.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager").eval()


def reference(model, ids):
    with torch.no_grad():
        out = model(torch.tensor([ids]), output_router_logits=hasattr(model.config, "num_experts"))
    return out


def compare_forward(model, path, folder, without=()):
    config = model.config
    ids = [random.randrange(config.vocab_size) for _ in range(random.choice([1, 7, 40, 100]))]
    numpy.save(f"{folder}/ids.npy", numpy.array(ids, dtype=numpy.int32))
    arguments = ["forward", path, "--ids", f"{folder}/ids.npy", "--logits", f"{folder}/logits.npy"]
    sparse = hasattr(config, "num_experts")
    if sparse:
        for name in ("routing", "experts", "weights"):
            arguments += [f"--{name}", f"{folder}/{name}.npy"]
    if without:
        arguments += ["--without", ",".join(map(str, without))]
    flextrace(*arguments)
    if without:
        model = reduced(model, without)
    out = reference(model, ids)
    worst = numpy.abs(numpy.load(f"{folder}/logits.npy") - out.logits[0].numpy()).max()
    scale = max(1.0, float(out.logits.abs().max()) / 16)
    assert worst < LOGIT_TOLERANCE * scale, f"logits differ by {worst} ({config})"
    if sparse:
        kept = [e for e in range(config.num_experts) if e not in without]
        k = min(config.num_experts_per_tok, len(kept))
        ours = numpy.load(f"{folder}/routing.npy"), numpy.load(f"{folder}/experts.npy"), numpy.load(f"{folder}/weights.npy")
        for layer, logits in enumerate(out.router_logits):
            probabilities = torch.softmax(logits, -1).numpy()
            # transformers hands out logits or probabilities, depending on the version.
            if abs(float(logits.sum(-1).max()) - 1) < 1e-9 and float(logits.min()) >= 0:
                probabilities = logits.numpy()
            assert numpy.abs(ours[0][layer][:, kept] - probabilities).max() < ROUTING_TOLERANCE
            assert not ours[0][layer][:, list(without)].any() if without else True
            order = numpy.argsort(-probabilities, axis=-1, kind="stable")
            for t in range(len(ids)):
                ranked = probabilities[t][order[t]]
                gaps = ranked[:-1] - ranked[1:]
                if len(gaps) == 0 or gaps[:k].min() > 1e-5:
                    assert ours[1][layer][t].tolist() == [kept[e] for e in order[t][:k]]
            weights = -numpy.sort(-probabilities, axis=-1)[:, :k]
            if config.norm_topk_prob:
                weights = weights / weights.sum(-1, keepdims=True)
            assert numpy.abs(ours[2][layer] - weights).max() < ROUTING_TOLERANCE


def reduced(model, without):
    """The checkpoint with experts and router rows deleted."""
    kept = [e for e in range(model.config.num_experts) if e not in without]
    config = FlexOlmoConfig(**{**model.config.to_dict(), "num_experts": len(kept),
                               "num_experts_per_tok": min(model.config.num_experts_per_tok, len(kept))})
    small = FlexOlmoForCausalLM._from_config(config, attn_implementation="eager", experts_implementation="eager", dtype=torch.float64).eval()
    state = {}
    for name, value in model.state_dict().items():
        if "mlp.gate." in name or "mlp.experts." in name:
            assert value.shape[0] == model.config.num_experts, f"unknown expert layout: {name} {tuple(value.shape)}"
            value = value[kept]
        state[name] = value
    small.load_state_dict(state)
    return small


def compare_greedy(model, path, folder):
    ids = [random.randrange(model.config.vocab_size) for _ in range(random.choice([1, 9, 33]))]
    numpy.save(f"{folder}/ids.npy", numpy.array(ids, dtype=numpy.int32))
    ours = json.loads(flextrace("generate", path, "--ids", f"{folder}/ids.npy", "-n", 24, "--temperature", 0, "--json"))["ids"]
    sequence = list(ids)
    for step in range(24):
        logits = reference(model, sequence).logits[0, -1]
        best = torch.topk(logits, 2).values
        if float(best[0] - best[1]) < 1e-3:  # a near-tie: either may come
            return
        assert ours[step] == int(logits.argmax()), f"token {step} of the continuation"
        sequence.append(int(logits.argmax()))


def test_random_flexolmo_checkpoints_agree_in_logits_routing_and_greedy_tokens(folder, seed):
    for i in range(12):
        path = f"{folder}/{i}"
        model = random_flexolmo(path, seed + i)
        compare_forward(model, path, folder)
        compare_greedy(model, path, folder)


def test_opted_out_experts_are_as_if_deleted(folder, seed):
    for i in range(6):
        path = f"{folder}/{i}"
        model = random_flexolmo(path, seed + i, num_experts=5, num_experts_per_tok=random.randrange(1, 6))
        compare_forward(model, path, folder, without=random.sample(range(5), random.randrange(1, 5)))


def test_every_rope_type_agrees(folder, seed):
    ropes = [{"rope_type": "default", "rope_theta": 10000.0},
             {"rope_type": "linear", "factor": 2.5, "rope_theta": 500000.0},
             {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10000.0},
             {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32, "beta_fast": 16.0, "beta_slow": 2.0,
              "attention_factor": 1.3, "rope_theta": 500000.0},
             {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 64, "rope_theta": 500000.0}]
    for i, rope in enumerate(ropes):
        path = f"{folder}/{i}"
        model = random_flexolmo(path, seed + i, rope_parameters=rope)
        compare_forward(model, path, folder)


def test_random_dense_olmo2_checkpoints_agree(folder, seed):
    for i in range(4):
        torch.manual_seed(seed + i)
        model = Olmo2ForCausalLM(Olmo2Config(vocab_size=300, hidden_size=48, intermediate_size=80, num_hidden_layers=2,
                                             num_attention_heads=4, num_key_value_heads=random.choice([1, 2, 4]),
                                             max_position_embeddings=256, pad_token_id=None, eos_token_id=None, bos_token_id=None))
        path = f"{folder}/{i}"
        model = store_and_reload(model, Olmo2ForCausalLM, path)
        compare_forward(model, path, folder)
        compare_greedy(model, path, folder)
