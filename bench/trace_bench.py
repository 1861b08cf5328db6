"""bench/trace: what tracing costs, one line a target, in one run.

    bench/trace [OPTIONS] [LINE…]     without a LINE: all

  --corpus large|small   230 million tokens of kernel sources, or 8 million (default large)
  --folder F             where corpora, indexes and models are kept (default $FLEXTRACE_BENCH, else flextrace-bench in
                         the system's temporary folder); about 6 GB
  --markdown F           the table into a file too
  --list                 names of the lines

The corpus (bench/make_corpus.py) is dealt out to three owners, document by document, at first use; responses are
500 tokens of files that are in none of the three. The model is bench/shapes/bench.json with random weights.
"""
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import bench_lines

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
OWNERS, RESPONSES = 3, 60


class Bench:
    def __init__(self, given):
        self.base, self.corpus = given.folder, given.corpus
        self.folder = f"{given.folder}/{given.corpus}"
        self.flextrace = os.environ.get("FLEXTRACE", f"{ROOT}/build/release/flextrace")
        self.tool = f"{ROOT}/build/release/bench/ft_bench_trace"
        self.tokenizer = os.environ.get("FLEXTRACE_TOKENIZER", f"{ROOT}/../shared/tokenizers/dolma2")
        self.table = bench_lines.Table((52, 34, 64))

    def row(self, what, target, ours, met=None):
        self.table.row(what, target, ours, met=met)

    def ours(self, *command):
        done = subprocess.run([self.tool, *map(str, command)], stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    def heldout(self):
        if not os.path.exists(f"{self.base}/READY"):
            subprocess.run([sys.executable, f"{HERE}/make_corpus.py", self.base], check=True)
        return f"{self.base}/heldout/tokens.npy"

    def indexes(self):
        """One index an owner: every third document."""
        self.heldout()
        made = [f"{self.folder}/owner-{i}" for i in range(OWNERS)]
        for i, index in enumerate(made):
            if os.path.exists(f"{index}/manifest.json"):
                continue
            bench_lines.say(f"building {index} …")
            part = f"{index}.jsonl"
            with open(f"{self.folder}/corpus.jsonl", encoding="utf-8") as rows, open(part, "w", encoding="utf-8") as out:
                out.writelines(row for n, row in enumerate(rows) if n % OWNERS == i)
            subprocess.run([self.flextrace, "index", "build", index, "-t", self.tokenizer, "--owner", f"owner-{i}", part], check=True, stdout=subprocess.DEVNULL)
            os.unlink(part)
        return made

    def model(self):
        path = f"{self.base}/model/bf16"
        if not os.path.exists(f"{path}/config.json"):
            bench_lines.say(f"making {path} …")
            subprocess.run([f"{ROOT}/build/release/bench/ft_make_model", "--shape", f"{HERE}/shapes/bench.json", "--type", "bf16", path], check=True, stdout=subprocess.DEVNULL)
        return path


# --- Lines --------------------------------------------------------------------------

def line_trace(b):
    """a whole trace of 500 tokens, warm"""
    found = b.ours("trace", b.tokenizer, b.heldout(), RESPONSES, *b.indexes())
    what = f"{found['corpus_tokens'] / 1e6:.0f} M tokens, {OWNERS} owners"
    whole, spans, cpu = found["trace_ms"], found["spans_ms"], found["trace_cpu_ms"]
    b.row(f"trace of 500 tokens, {what}", "<= 5 ms p50", f"p50 {whole['p50']:.2f} ms (processor {cpu['p50']:.2f}), p90 {whole['p90']:.2f}; {found['spans']:.1f} spans, {found['documents']:.0f} documents", whole["p50"] <= 5)
    b.row("  of which spans", "", f"p50 {spans['p50']:.2f} ms, p90 {spans['p90']:.2f}")


def line_tracker(b):
    """the search for spans while a text is written, a token"""
    each = b.ours("tracker", b.tokenizer, b.heldout(), RESPONSES, *b.indexes())["token_us"]
    b.row("live search for spans", "", f"p50 {each['p50']:.1f} µs a token, p90 {each['p90']:.1f}, p99 {each['p99']:.1f}")


def stream(port, trace, tokens):
    """Tokens a second of one streamed generation, from its first token to its last."""
    body = {"prompt": "In the beginning", "max_tokens": tokens, "temperature": 1, "seed": 1, "ignore_eos": True, "stream": True,
            "return_token_ids": True, "flextrace": {"trace": trace, "store": False}}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    times, operations = [], 0
    with urllib.request.urlopen(request) as answer:
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            if b'"text":""' not in line:
                times.append(time.monotonic())
            operations += line.count(b'"op":')
    return (len(times) - 1) / (times[-1] - times[0]), operations


def line_live(b):
    """generation with live tracing, against the same without"""
    model = b.model()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if not os.path.exists(f"{model}/{name}"):
            os.symlink(os.path.abspath(f"{b.tokenizer}/{name}"), f"{model}/{name}")
    owners = [{"name": f"owner-{i}", "expert": i, "index": [index]} for i, index in enumerate(b.indexes())]
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/federation.yaml", "w") as out:  # JSON is YAML
            json.dump({"name": "bench", "model": model, "listen": "127.0.0.1:0", "compute": "bfloat16", "kv_type": "bfloat16", "owners": owners}, out)
        server = subprocess.Popen([b.flextrace, "serve", folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            port = next(int(line.strip().rsplit(":", 1)[1]) for line in server.stdout if "http://" in line)
            stream(port, True, 20)
            ratios, speeds, operations = [], [], 0
            for _ in range(5):  # without, with, without: memory's speed changes from one minute to the next
                before, _ = stream(port, False, 40)
                live, operations = stream(port, True, 40)
                after, _ = stream(port, False, 40)
                ratios.append(live / ((before + after) / 2))
                speeds.append(live)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    ratio = statistics.median(ratios)
    b.row("generation with live tracing, bench shape", ">= 98 % of the speed without", f"{ratio:.1%}, {statistics.median(speeds):.1f} tokens/s, {operations} operations in 40 tokens", ratio >= 0.98)


def line_causal(b):
    """causal evidence, in teacher-forced passes"""
    found = b.ours("causal", b.model(), 6)
    n = found["experts"]
    b.row(f"causal evidence, 200 tokens, {n} experts", f"<= {1.05 * (n + 1):.2f} passes (1.05 x {n + 1})", f"{found['all_in_passes']:.2f} passes of {found['pass_s']:.2f} s", found["all_in_passes"] <= 1.05 * (n + 1))
    b.row("causal evidence, one span, one owner", "<= 2 passes", f"{found['span_in_passes']:.2f} passes", found["span_in_passes"] <= 2)


LINES = {name[5:]: fn for name, fn in list(globals().items()) if name.startswith("line_")}


def main():
    p = bench_lines.options(__doc__)
    p.add_argument("--corpus", choices=("large", "small"), default="large")
    a = p.parse_args()
    bench_lines.run("bench/trace", __doc__, a, LINES, Bench)


main()
