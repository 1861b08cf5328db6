"""Times flextrace and its peers in turn (A B A B …), takes medians, prints a Markdown table."""
import gzip
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
BINARY, BENCH = f"{ROOT}/build/release/flextrace", f"{ROOT}/build/release/bench/ft_bench"
MODEL, WORK = f"{ROOT}/demo/model", f"{ROOT}/demo/work"
OWNERS = ["public", "scripture", "dictionary", "essays", "python", "database"]
THREADS = len(os.sched_getaffinity(0))


def have(module):
    return importlib.util.find_spec(module) is not None


def ours(*arguments):
    return json.loads(subprocess.run([BENCH, *arguments], check=True, capture_output=True, text=True).stdout)


def row(what, value, unit, beside, ratio):
    print(f"| {what} | {value:,.{0 if value >= 100 else 1 if value >= 1 else 3}f} {unit} | {beside} | {ratio} |", flush=True)


def corpus_text(folder, limit=12_000_000):
    path = f"{folder}/text"
    with open(path, "w", encoding="utf-8") as out:
        size = 0
        for owner in OWNERS:
            with gzip.open(f"{WORK}/corpora/{owner}.jsonl.gz", "rt", encoding="utf-8") as f:
                for i, line in enumerate(f):
                    text = json.loads(line)["text"]
                    out.write(text + "\n")
                    size += len(text)
                    if size > limit * (OWNERS.index(owner) + 1) // len(OWNERS):
                        break
    return path


def bench_model():
    bandwidth, measured = [], []
    for _ in range(3):
        bandwidth.append(ours("bandwidth")["gb_per_s"])
        measured.append(ours("model", MODEL))
    prefill = statistics.median(m["prefill_tokens_per_s"] for m in measured)
    decode = statistics.median(m["decode_tokens_per_s"] for m in measured)
    bound = max(bandwidth) * 1e9 / measured[0]["bytes_per_token"]
    theirs = peer_model() if have("transformers") and have("torch") else None
    row("decode, demo checkpoint", decode, "tokens/s", f"memory bound {bound:,.0f} ({max(bandwidth):.0f} GB/s)", f"{decode / bound:.2f}")
    if theirs:
        row("", decode, "tokens/s", f"transformers, best of float32 and bfloat16: {theirs[1]:,.0f}", f"{decode / theirs[1]:.1f}×")
        row("prefill, 512 tokens", prefill, "tokens/s", f"transformers: {theirs[0]:,.0f}", f"{prefill / theirs[0]:.2f}×")
    else:
        row("prefill, 512 tokens", prefill, "tokens/s", "transformers not installed", "-")


def peer_model():
    import torch
    from transformers import FlexOlmoForCausalLM
    torch.set_num_threads(THREADS)
    best = [0.0, 0.0]
    ids = torch.tensor([[(i * 7919 + 13) % 8192 for i in range(512)]])
    for dtype in (torch.float32, torch.bfloat16):
        model = FlexOlmoForCausalLM.from_pretrained(MODEL, dtype=dtype).eval()
        with torch.no_grad():
            for _ in range(4):
                start = time.perf_counter()
                out = model(ids, use_cache=True, logits_to_keep=1)
                middle = time.perf_counter()
                cache = out.past_key_values
                for i in range(48):
                    cache = model(ids[:, i:i + 1], past_key_values=cache, use_cache=True).past_key_values
                best[0] = max(best[0], 512 / (middle - start))
                best[1] = max(best[1], 48 / (time.perf_counter() - middle))
    return best


def bench_tokenizer(path):
    mine = ours("tokenizer", MODEL, path)["mb_per_s"]
    if not have("tokenizers"):
        row("tokenizer, one thread", mine, "MB/s", "tokenizers not installed", "-")
        return
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer
    peer = Tokenizer.from_file(f"{MODEL}/tokenizer.json")
    lines = open(path, encoding="utf-8").read(4_000_000).splitlines(keepends=True)
    start = time.thread_time()
    for line in lines:
        peer.encode(line, add_special_tokens=False)
    theirs = sum(len(l.encode()) for l in lines) / (time.thread_time() - start) / 1e6
    row("tokenizer, one thread", mine, "MB/s", f"tokenizers: {theirs:.1f}", f"{mine / theirs:.1f}×")


def bench_index(folder):
    paths = [f"{WORK}/corpora/{o}.jsonl.gz" for o in OWNERS]
    start = time.perf_counter()
    done = subprocess.run([BINARY, "index", "build", f"{folder}/index", "-t", MODEL, "--json", *paths], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    report = json.loads(done.stdout)
    size = sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(f"{folder}/index") for f in fs)
    tokens = report["tokens"]
    if not have("infini_gram") or not have("tokenizers"):
        row("index build from text", tokens / seconds, "tokens/s", "infini-gram not installed", "-")
        return
    theirs, width = peer_index(folder, paths)
    row("index build from text", tokens / seconds, "tokens/s", f"tokenizers + infini-gram u16: {theirs:,.0f}", f"{tokens / seconds / theirs:.1f}×")
    row("index size", size / tokens, "bytes/token", f"infini-gram u16: {width:.2f}", f"{size / tokens / width:.2f}×")


def peer_index(folder, paths):
    import numpy
    from tokenizers import Tokenizer
    peer = Tokenizer.from_file(f"{MODEL}/tokenizer.json")
    os.makedirs(f"{folder}/peer")
    start = time.perf_counter()
    tokens, offsets, at = 0, [], 0
    with open(f"{folder}/peer/tokenized.0", "wb") as out:
        for path in paths:
            with gzip.open(path, "rt", encoding="utf-8") as f:
                texts = [json.loads(line)["text"] for line in f]
            for encoded in peer.encode_batch(texts, add_special_tokens=False):
                blob = b"\xff\xff" + numpy.array(encoded.ids, dtype=numpy.uint16).tobytes()
                offsets.append(at)
                at += out.write(blob)
                tokens += len(encoded.ids)
    numpy.array(offsets, dtype=numpy.uint64).tofile(f"{folder}/peer/offset.0")
    subprocess.run([sys.executable, "-m", "infini_gram.indexing", "--data_dir", f"{folder}/peer", "--save_dir", f"{folder}/peer",
                    "--token_dtype", "u16", "--cpus", str(THREADS), "--mem", "8", "--ulimit", "1024"], check=True, capture_output=True)
    seconds = time.perf_counter() - start
    size = sum(os.path.getsize(f"{folder}/peer/{f}") for f in os.listdir(f"{folder}/peer"))
    return tokens / seconds, size / tokens


def bench_trace(folder, path):
    mine = ours("trace", f"{ROOT}/demo/federation.yaml", path)
    if not have("infini_gram") or not os.path.exists(f"{folder}/peer/table.0"):
        row("trace of 200 tokens, six owners, documents ranked", mine["p50_ms"], "ms p50", "infini-gram not installed", "-")
        return
    from infini_gram.engine import InfiniGramEngine
    from tokenizers import Tokenizer
    engine = InfiniGramEngine(f"{folder}/peer", eos_token_id=0, vocab_size=8192, version=4, token_dtype="u16", precompute_unigram_logprobs=True)
    ids = Tokenizer.from_file(f"{MODEL}/tokenizer.json").encode(open(path, encoding="utf-8").read(2_000_000)).ids
    took = []
    for i in range(40):
        response = ids[(len(ids) - 200) * i // 40:][:200]
        start = time.perf_counter()
        engine.attribute(input_ids=response, delim_ids=[], min_len=1, max_cnt=1_000_000, enforce_bow=False)
        took.append((time.perf_counter() - start) * 1e3)
    theirs = statistics.median(took)
    row("trace of 200 tokens, six owners, documents ranked", mine["p50_ms"], "ms p50",
        f"infini-gram's span search alone, one index: {theirs:.1f}", f"{mine['p50_ms'] / theirs:.2f}×")


def main():
    if not os.path.exists(f"{WORK}/index/database"):
        sys.exit("bench/run: the demo is not set up; run ./quickstart --once once")
    print("| what | flextrace | beside | ratio |\n|---|---|---|---|")
    folder = tempfile.mkdtemp(prefix="flextrace-bench-")
    try:
        path = corpus_text(folder)
        bench_model()
        bench_tokenizer(path)
        bench_index(folder)
        bench_trace(folder, path)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
