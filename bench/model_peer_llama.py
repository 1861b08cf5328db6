"""llama.cpp on the shape of bench/model: its OLMoE architecture with random weights, out of PyPI's llama-cpp-python.

    model_peer_llama.py make CONFIG FOLDER TYPE…       model-TYPE.gguf for bf16, f16, q8_0, q6_k, q4_0, q4_k_s; what is there stays
    model_peer_llama.py time FILE [--repack 0|1] [--threads N] LINE…
                                                       one JSON object: tokens a second, the best of several turns
LINE: decode, batch-N (N sequences, one token each a step), prefill-N, long-N (decode behind N tokens of context).
"""
import ctypes
import json
import os
import sys
import time

import numpy

TURNS = {"decode": 3, "batch": 3, "prefill": 4, "long": 2}


# --- Files --------------------------------------------------------------------------

def write(config, path, bfloat16):
    import gguf
    c = json.load(open(config))
    hidden, inner, layers = c["hidden_size"], c["intermediate_size"], c["num_hidden_layers"]
    experts, vocab = c["num_experts"], c["vocab_size"]
    kv = c["num_key_value_heads"] * (hidden // c["num_attention_heads"])
    w = gguf.GGUFWriter(path + ".part", "olmoe")
    w.add_block_count(layers)
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(hidden)
    w.add_feed_forward_length(inner)
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c["num_key_value_heads"])
    w.add_layer_norm_rms_eps(1e-6)
    w.add_rope_freq_base(500000.0)
    w.add_expert_count(experts)
    w.add_expert_used_count(c["num_experts_per_tok"])
    w.add_vocab_size(vocab)
    w.add_tokenizer_model("no_vocab")
    draw = numpy.random.default_rng(1)

    def matrix(name, *shape):
        values = draw.standard_normal(shape, dtype=numpy.float32) * 0.02
        if bfloat16:
            bits = (values.view(numpy.uint32) + 0x8000 >> 16).astype(numpy.uint16)
            w.add_tensor(name, bits.view(numpy.uint8).reshape(*shape[:-1], shape[-1] * 2), raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            w.add_tensor(name, values.astype(numpy.float16))

    def vector(name, n):
        w.add_tensor(name, numpy.ones(n, dtype=numpy.float32))

    matrix("token_embd.weight", vocab, hidden)
    matrix("output.weight", vocab, hidden)
    vector("output_norm.weight", hidden)
    for i in range(layers):
        b = f"blk.{i}."
        for name, rows in (("attn_q", hidden), ("attn_k", kv), ("attn_v", kv), ("attn_output", hidden)):
            matrix(f"{b}{name}.weight", rows, hidden)
        for name, n in (("attn_norm", hidden), ("ffn_norm", hidden), ("attn_q_norm", hidden), ("attn_k_norm", kv)):
            vector(f"{b}{name}.weight", n)
        w.add_tensor(f"{b}ffn_gate_inp.weight", draw.standard_normal((experts, hidden), dtype=numpy.float32) * 0.02)
        matrix(f"{b}ffn_gate_exps.weight", experts, inner, hidden)
        matrix(f"{b}ffn_up_exps.weight", experts, inner, hidden)
        matrix(f"{b}ffn_down_exps.weight", experts, hidden, inner)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    os.rename(path + ".part", path)


def make(config, folder, types):
    import llama_cpp
    for name in types:
        path = f"{folder}/model-{name}.gguf"
        if os.path.exists(path):
            continue
        if name in ("bf16", "f16"):
            write(config, path, name == "bf16")
            continue
        make(config, folder, ["bf16"])
        how = llama_cpp.llama_model_quantize_default_params()
        how.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name.upper()}")
        how.nthread, how.pure = 0, True  # every matrix in the one format, the head too
        if llama_cpp.llama_model_quantize(f"{folder}/model-bf16.gguf".encode(), (path + ".part").encode(), how):
            raise SystemExit(f"{path}: llama.cpp cannot make it")
        os.rename(path + ".part", path)


# --- Times --------------------------------------------------------------------------

class Peer:
    def __init__(self, path, repack, threads):
        import llama_cpp
        self.l = llama_cpp
        llama_cpp.llama_backend_init()
        how = llama_cpp.llama_model_default_params()
        how.use_mmap = not repack
        if hasattr(how, "use_extra_bufts"):
            how.use_extra_bufts = bool(repack)
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), how)
        if not self.model:
            raise SystemExit(f"{path}: llama.cpp cannot load it")
        self.threads, self.vocab = threads, llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.draw = numpy.random.default_rng(2)

    def context(self, tokens, sequences):
        how = self.l.llama_context_default_params()
        how.n_ctx, how.n_batch, how.n_ubatch, how.n_seq_max = tokens, 512, 512, sequences
        how.n_threads = how.n_threads_batch = self.threads
        return self.l.llama_init_from_model(self.model, how)

    def read(self, context, rows, wanted):
        """rows: (token, position, sequence); logits of the last `wanted` of them."""
        batch = self.l.llama_batch_init(len(rows), 0, 1)
        batch.n_tokens = len(rows)
        for i, (token, position, sequence) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, position, 1, sequence
            batch.logits[i] = i >= len(rows) - wanted
        if self.l.llama_decode(context, batch):
            raise SystemExit("llama.cpp cannot decode")
        self.l.llama_synchronize(context)
        self.l.llama_batch_free(batch)

    def tokens(self, n):
        return [int(x) for x in self.draw.integers(0, self.vocab, n)]

    def prefill(self, n):
        context = self.context(n, 1)
        rows = [(t, i, 0) for i, t in enumerate(self.tokens(n))]
        start = time.perf_counter()
        for at in range(0, n, 512):
            self.read(context, rows[at:at + 512], 1)
        took = time.perf_counter() - start
        self.l.llama_free(context)
        return n / took

    def decode(self, sequences, behind, steps=24):
        context = self.context((behind + steps + 8) * sequences, sequences)
        for s in range(sequences):
            rows = [(t, i, s) for i, t in enumerate(self.tokens(behind))]
            for at in range(0, behind, 512):
                self.read(context, rows[at:at + 512], 1)
        took = []
        for i in range(steps):
            rows = [(t, behind + i, s) for s, t in enumerate(self.tokens(sequences))]
            start = time.perf_counter()
            self.read(context, rows, sequences)
            took.append(time.perf_counter() - start)
        self.l.llama_free(context)
        return sequences / sorted(took)[len(took) // 4]

    def line(self, name):
        kind, _, n = name.partition("-")
        one = {"decode": lambda: self.decode(1, 8), "batch": lambda: self.decode(int(n), 8),
               "prefill": lambda: self.prefill(int(n)), "long": lambda: self.decode(1, int(n), 12)}[kind]
        return max(one() for _ in range(TURNS[kind]))


def main(arguments):
    if arguments[:1] == ["make"] and len(arguments) > 3:
        make(arguments[1], arguments[2], arguments[3:])
        return
    if arguments[:1] != ["time"]:
        raise SystemExit(__doc__)
    path, rest, options = arguments[1], arguments[2:], {"--repack": 1, "--threads": len(os.sched_getaffinity(0))}
    while rest and rest[0] in options:
        options[rest[0]] = int(rest[1])
        rest = rest[2:]
    import llama_cpp
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    llama_cpp.llama_log_set(quiet, None)
    peer = Peer(path, options["--repack"], options["--threads"])
    print(json.dumps({name: peer.line(name) for name in rest}))


main(sys.argv[1:])
