"""PyTorch on CPU (PyPI) training the model of bench/train: the plain way, its own fused operations.

    train_peer_torch.py FOLDER IDS SEQUENCES LENGTH MICRO THREADS MODE[,bfloat16][,compile][,recompute]

As ft_bench_train step: reads numbers, does as many steps, answers with a line of JSON each. bfloat16 is autocast.
"""
import json
import resource
import struct
import sys
import time

import numpy
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


def tensors(path):
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        data = f.read()
    header.pop("__metadata__", None)
    return {name: torch.from_numpy(numpy.frombuffer(data[slice(*h["data_offsets"])], numpy.float32).reshape(h["shape"]).copy()) for name, h in header.items()}


class Layer(nn.Module):
    def __init__(self, c, w, n):
        super().__init__()
        take = lambda name: nn.Parameter(w[f"model.layers.{n}.{name}.weight"])
        self.q, self.k, self.v, self.o = (take(f"self_attn.{x}_proj") for x in "qkvo")
        self.q_norm, self.k_norm = take("self_attn.q_norm"), take("self_attn.k_norm")
        self.after_attention, self.after = take("post_attention_layernorm"), take("post_feedforward_layernorm")
        self.experts = c.get("num_experts", 0)
        self.top_k = c.get("num_experts_per_tok", 1)
        self.normalize = c.get("norm_topk_prob", False)
        places = [f"mlp.experts.{e}." for e in range(self.experts)] or ["mlp."]
        self.gate, self.up, self.down = (nn.ParameterList(take(f"{p}{x}_proj") for p in places) for x in ("gate", "up", "down"))
        self.router = take("mlp.gate") if self.experts else None
        self.heads, self.kv_heads, self.eps = c["num_attention_heads"], c["num_key_value_heads"], c["rms_norm_eps"]

    def norm(self, x, w):
        return F.rms_norm(x, w.shape, w, self.eps)

    def attention(self, x, cos, sin):
        B, T, _ = x.shape
        heads = lambda y, n: y.view(B, T, n, -1).transpose(1, 2)
        turn = lambda y: y * cos + torch.cat((-y[..., y.shape[-1] // 2:], y[..., :y.shape[-1] // 2]), -1) * sin
        q = turn(heads(self.norm(F.linear(x, self.q), self.q_norm), self.heads))
        k = turn(heads(self.norm(F.linear(x, self.k), self.k_norm), self.kv_heads))
        v = heads(F.linear(x, self.v), self.kv_heads)
        q, k = q.to(v.dtype), k.to(v.dtype)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.heads != self.kv_heads)
        return F.linear(y.transpose(1, 2).reshape(B, T, -1), self.o)

    def expert(self, x, e):
        return F.linear(F.silu(F.linear(x, self.gate[e])) * F.linear(x, self.up[e]), self.down[e])

    def ffn(self, x):
        if self.router is None:
            return self.expert(x, 0), None
        shape, x = x.shape, x.reshape(-1, x.shape[-1])
        with torch.autocast("cpu", enabled=False):
            logits = F.linear(x.float(), self.router)
        weights, chosen = logits.softmax(-1).topk(self.top_k, -1)
        if self.normalize:
            weights = weights / weights.sum(-1, keepdim=True)
        if self.top_k == self.experts:  # all of them: no rows to pick
            by_expert = torch.zeros_like(logits).scatter(1, chosen, weights)
            y = sum(self.expert(x, e) * by_expert[:, e:e + 1] for e in range(self.experts))
        else:
            y = torch.zeros_like(x, dtype=torch.float32)
            for e in range(self.experts):
                token, place = (chosen == e).nonzero(as_tuple=True)
                y = y.index_add(0, token, (self.expert(x[token], e) * weights[token, place, None]).float())
        return y.reshape(shape), logits.logsumexp(-1).square().mean()

    def forward(self, x, cos, sin):
        x = x + self.norm(self.attention(x, cos, sin), self.after_attention)
        y, z = self.ffn(x)
        return x + self.norm(y, self.after), z if z is not None else x.new_zeros(())


class Model(nn.Module):
    def __init__(self, c, w, recompute):
        super().__init__()
        self.embed, self.final, self.head = (nn.Parameter(w[x]) for x in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"))
        self.layers = nn.ModuleList(Layer(c, w, n) for n in range(c["num_hidden_layers"]))
        self.recompute, self.eps = recompute, c["rms_norm_eps"]
        dim = c["hidden_size"] // c["num_attention_heads"]
        turns = torch.arange(c["max_position_embeddings"])[:, None] / c["rope_theta"] ** (torch.arange(0, dim, 2) / dim)[None]
        self.register_buffer("cos", torch.cat((turns, turns), -1).cos().float())
        self.register_buffer("sin", torch.cat((turns, turns), -1).sin().float())

    def forward(self, ids, labels, z_loss):
        x, T = F.embedding(ids, self.embed), ids.shape[1]
        z = x.new_zeros(())
        for layer in self.layers:
            run = (lambda *a: checkpoint(layer, *a, use_reentrant=False)) if self.recompute else layer
            x, one = run(x, self.cos[:T], self.sin[:T])
            z = z + one / len(self.layers)
        logits = F.linear(F.rms_norm(x, self.final.shape, self.final, self.eps), self.head)
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), labels.reshape(-1)) + z_loss * z


def freeze(model):
    """The last expert and its router row alone are trained."""
    masks = []
    for p in model.parameters():
        p.requires_grad_(False)
    for layer in model.layers:
        for p in (layer.gate[-1], layer.up[-1], layer.down[-1], layer.router):
            p.requires_grad_(True)
        masks.append(layer.router)
    return masks


def main(folder, ids, sequences, length, micro, threads, mode):
    sequences, length, micro = int(sequences), int(length), int(micro)
    torch.set_num_threads(int(threads))
    c = json.load(open(f"{folder}/config.json"))
    model = Model(c, tensors(f"{folder}/model.safetensors"), "recompute" in mode)
    masks = freeze(model) if "expert" in mode else []
    data = torch.from_numpy(numpy.fromfile(ids, numpy.int32).reshape(sequences, length + 1).astype(numpy.int64))
    trained = [p for p in model.parameters() if p.requires_grad]
    adamw = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0, fused=True)
    run = torch.compile(model) if "compile" in mode else model
    for line in sys.stdin:
        start, start_cpu = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            loss = 0.0
            adamw.zero_grad(set_to_none=True)
            for i in range(0, sequences, micro):
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled="bfloat16" in mode):
                    one = run(data[i:i + micro, :-1], data[i:i + micro, 1:], 1e-3) * (micro / sequences)
                one.backward()
                loss += one.item()
            for p in masks:
                p.grad[:-1] = 0
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            adamw.step()
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
        print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "loss": loss, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}), flush=True)


main(*sys.argv[1:])
