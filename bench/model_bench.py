"""bench/model: the engine beside llama.cpp and transformers, on the same shape with random weights, in one run.

    bench/model [OPTIONS] [LINE…]     without a LINE: all

  --folder F      where models and the peers' Python are kept (default $FLEXTRACE_BENCH, else flextrace-bench in the
                  system's temporary folder); about 15 GB
  --peers WHICH   all (default), none, llama or torch
  --markdown F    the table into a file too
  --list          names of the lines

The shape is bench/shapes/bench.json: about 1.0 B parameters, seven experts of which five are used. llama.cpp runs it
as OLMoE. Each peer is measured at each of its settings (repacked weights or not), and the best counts for each line.
"""
import json
import os
import subprocess
import sys

import bench_lines

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
SHAPE = f"{HERE}/shapes/bench.json"
TYPES = ("bf16", "int8", "int4")
# Formats of llama.cpp that stand beside each of ours.
BESIDE = {"bf16": ("bf16", "f16"), "int8": ("q8_0", "q6_k"), "int4": ("q4_0", "q4_k_s")}
PEER_PACKAGES = {"llama": ["llama-cpp-python==0.3.36", "gguf", "numpy"], "torch": ["torch", "transformers", "numpy"]}


class Bench:
    def __init__(self, arguments):
        self.folder = f"{arguments.folder}/model"
        self.peers = {"all": ("llama", "torch"), "none": ()}.get(arguments.peers, (arguments.peers,))
        self.table, self.known = bench_lines.Table((44, 34, 40, 44)), {}
        os.makedirs(self.folder, exist_ok=True)

    def row(self, what, target, ours, peer="-", met=None):
        self.table.row(what, target, ours, peer, met=met)

    # --- Ours -----------------------------------------------------------------------

    def model(self, kind):
        path = f"{self.folder}/{kind}"
        if not os.path.exists(f"{path}/config.json"):
            bench_lines.say(f"making {path} …")
            subprocess.run([f"{ROOT}/build/release/bench/ft_make_model", "--shape", SHAPE, "--type", kind, path], check=True, stdout=subprocess.DEVNULL)
        return path

    def ours(self, kind, line, build="release", compute="bfloat16"):
        key = ("ours", kind, line, build, compute)
        if key not in self.known:
            done = subprocess.run([f"{ROOT}/build/{build}/bench/ft_bench_model", self.model(kind), "--compute", compute, "--kv-type", compute, line],
                                  stdout=subprocess.PIPE, check=True)
            answer = json.loads(done.stdout)
            self.known[key] = {**answer[line], "peak_rss_bytes": answer["peak_rss_bytes"]}
        return self.known[key]

    def again(self, kind, line):
        """Measured anew, whatever is known."""
        self.known.pop(("ours", kind, line, "release", "bfloat16"), None)
        return self.ours(kind, line)

    # --- Peers ----------------------------------------------------------------------

    def python(self, peer):
        modules = {"llama": "llama_cpp, gguf, numpy", "torch": "torch, transformers"}[peer]
        own = f"{self.folder}/venv"
        for python in (sys.executable, f"{own}/bin/python"):
            if os.path.exists(python) and subprocess.run([python, "-c", f"import {modules}"], capture_output=True).returncode == 0:
                return python
        bench_lines.say(f"installing {', '.join(PEER_PACKAGES[peer])} …")
        if not os.path.exists(own):
            subprocess.run([sys.executable, "-m", "venv", own], check=True)
        subprocess.run([f"{own}/bin/pip", "install", "-q", *PEER_PACKAGES[peer]], check=True)
        return f"{own}/bin/python"

    def llama(self, file, line):
        """The best of its settings, and which: (tokens a second, setting). None without the peer."""
        if "llama" not in self.peers:
            return None
        key = ("llama", file, line)
        if key not in self.known:
            program = [self.python("llama"), f"{HERE}/model_peer_llama.py"]
            subprocess.run([*program, "make", SHAPE, self.folder, file], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            best = (0, "")
            for repack in (0, 1):
                done = subprocess.run([*program, "time", f"{self.folder}/model-{file}.gguf", "--repack", str(repack), line], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                if done.returncode == 0:
                    best = max(best, (json.loads(done.stdout)[line], "repacked" if repack else "as stored"))
            self.known[key] = best
        return self.known[key]

    def torch(self, line):
        if "torch" not in self.peers:
            return None
        key = ("torch", line)
        if key not in self.known:
            done = subprocess.run([self.python("torch"), f"{HERE}/model_peer_torch.py", SHAPE, line], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
            self.known[key] = json.loads(done.stdout)[line]
        return self.known[key]


def against(b, what, kind, line, files, least):
    """A row for each of llama.cpp's formats: ours is to be at least `least` times as fast."""
    for file, ratio in zip(files, least):
        # Memory's speed changes from one minute to the next: ours right before the peer and right after it.
        turns = [b.again(kind, line)]
        peer = b.llama(file, line)
        if not peer:
            return
        speed, setting = peer
        ours = max([*turns, b.again(kind, line)], key=lambda x: x["tokens_per_s"])
        b.row(f"{what}, beside {file}", f">= {ratio} x llama.cpp's", f"{ours['tokens_per_s']:.1f} tokens/s, {ours['tokens_per_s'] / speed:.2f} x",
              f"{speed:.1f} tokens/s ({setting})", ours["tokens_per_s"] >= ratio * speed)


def bound(b, what, kind, line, least):
    ours = b.ours(kind, line)
    b.row(what, f">= {least:.0%} of the bound", f"{ours['tokens_per_s']:.1f} tokens/s, {ours['of_bound']:.0%} of {ours['bound']:.1f}", "-", ours["of_bound"] >= least)
    return ours["of_bound"]


# --- Lines --------------------------------------------------------------------------

def line_decode(b):
    """one request, a token a step"""
    for kind, least in zip(TYPES, (0.92, 0.85, 0.80)):
        bound(b, f"decode, {kind}", kind, "decode", least)
    against(b, "decode, bf16", "bf16", "decode", ("bf16", "f16"), (1.15, 0.95))
    against(b, "decode, int8", "int8", "decode", ("q8_0",), (1.35,))
    against(b, "decode, int4", "int4", "decode", ("q4_0", "q4_k_s"), (1.08, 1.08))
    speed = b.torch("decode")
    if speed:
        ours = b.ours("bf16", "decode")["tokens_per_s"]
        b.row("decode, bf16, beside transformers", "", f"{ours:.1f} tokens/s, {ours / speed:.2f} x", f"{speed:.1f} tokens/s")


def line_batch(b):
    """eight requests at once"""
    for kind in ("bf16", "int8"):
        bound(b, f"8 requests, {kind}", kind, "batch-8", 0.65)
    for kind in ("bf16", "int8"):
        one, eight, many = (b.ours(kind, x)["tokens_per_s"] for x in ("decode", "batch-8", "batch-32"))
        b.row(f"8 requests against one, {kind}", ">= 3 x", f"{eight / one:.2f} x", "-", eight >= 3 * one)
        b.row(f"32 requests against 8, {kind}", "more", f"{many:.0f} against {eight:.0f} tokens/s", "-", many > eight)
    against(b, "8 requests, bf16", "bf16", "batch-8", ("bf16", "f16"), (1, 1))
    against(b, "8 requests, int8", "int8", "batch-8", ("q8_0",), (1,))
    against(b, "8 requests, int4", "int4", "batch-8", ("q4_0", "q4_k_s"), (1.5, 1.5))


def line_curve(b):
    """tokens a second at 1 to 32 requests"""
    for kind in TYPES:
        speeds = [(n, b.ours(kind, "decode" if n == 1 else f"batch-{n}")["tokens_per_s"]) for n in (1, 2, 4, 8, 16, 32)]
        b.row(f"requests at once, {kind}", "", ", ".join(f"{n}: {s:.0f}" for n, s in speeds))


def line_prefill(b):
    """a prompt of 512 tokens"""
    ours = {kind: b.ours(kind, "prefill-512")["tokens_per_s"] for kind in TYPES}
    product = b.torch("product")
    if product:
        c = json.load(open(SHAPE))
        hidden = c["hidden_size"]
        flop = 2 * c["num_hidden_layers"] * (4 * hidden * hidden + 3 * c["num_experts_per_tok"] * hidden * c["intermediate_size"])
        reach = ours["bf16"] * flop / 1e9
        b.row("prefill of 512, bf16", ">= 80 % of oneDNN's product", f"{ours['bf16']:.0f} tokens/s, {reach:.0f} GFLOP/s, {reach / product:.0%}", f"{product:.0f} GFLOP/s (oneDNN)", reach >= 0.8 * product)
        speed = b.torch("prefill-512")
        b.row("prefill of 512, bf16", ">= 1.1 x transformers", f"{ours['bf16']:.0f} tokens/s, {ours['bf16'] / speed:.2f} x", f"{speed:.0f} tokens/s", ours["bf16"] >= 1.1 * speed)
    for kind, least in (("int8", 1.3), ("int4", 1.2)):
        found = [(b.llama(file, "prefill-512"), file) for file in BESIDE[kind]]
        if all(x for x, _ in found):
            (speed, setting), file = max(found)
            b.row(f"prefill of 512, {kind}", f">= {least} x llama.cpp's best", f"{ours[kind]:.0f} tokens/s, {ours[kind] / speed:.2f} x", f"{speed:.0f} tokens/s ({file}, {setting})", ours[kind] >= least * speed)


def line_long(b):
    """decoding behind 4,096 tokens"""
    for kind, least in zip(TYPES, (0.92, 0.85, 0.80)):
        bound(b, f"decode behind 4,096 tokens, {kind}", kind, "long-4096", least - 0.05)


def line_stall(b):
    """one running request while a prompt of 4,000 tokens comes in"""
    for kind in TYPES:
        ours = b.ours(kind, "stall-4000")
        b.row(f"a prompt of 4,000 beside a stream, {kind}", "no token later than 200 ms", f"longest {ours['longest_ms']:.0f} ms; prompt in {ours['prompt_s']:.1f} s, meanwhile {ours['tokens_per_s']:.1f} tokens/s", "-", ours["longest_ms"] <= 200)


def line_capture(b):
    """routing captured or not"""
    for kind in ("bf16", "int4"):
        ratio = b.ours(kind, "capture-8")["ratio"]
        b.row(f"routing captured, {kind}", "< 1 % slower", f"{ratio:.3f} x", "-", ratio > 0.99)


def line_memory(b):
    """peak memory of a process that decodes"""
    for kind in TYPES:
        size = sum(os.path.getsize(os.path.join(b.model(kind), f)) for f in os.listdir(b.model(kind)))
        peak = b.ours(kind, "decode")["peak_rss_bytes"] - (512 << 20)  # less what measures memory's speed
        b.row(f"peak RSS, {kind}", "the mapped file, no copy", f"{peak / 1e9:.2f} GB, file {size / 1e9:.2f} GB", "-", peak < size + 300e6)


def line_exact(b):
    """float32 products and cache: the default, exact to the checkpoint"""
    one, eight, prompt = (b.ours("bf16", x, compute="float32") for x in ("decode", "batch-8", "prefill-512"))
    b.row("bf16 weights, --compute float32", "", f"one {one['tokens_per_s']:.1f}, 8 requests {eight['tokens_per_s']:.1f}, prefill {prompt['tokens_per_s']:.0f} tokens/s")


def line_order(b):
    """what a fixed order of summation costs: against a build whose compiler may reorder sums"""
    free = ["cmake", "--preset", "release", "-B", f"{ROOT}/build/free-order", "-DCMAKE_C_FLAGS=-funsafe-math-optimizations"]
    subprocess.run(free, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", f"{ROOT}/build/free-order", "--target", "ft_bench_model"], check=True, stdout=subprocess.DEVNULL)
    for kind in TYPES:
        found = []
        for line in ("decode", "batch-8", "prefill-512"):
            best = {}
            for _ in range(2):  # in turns
                for build in ("release", "free-order"):
                    b.known.pop(("ours", kind, line, build, "bfloat16"), None)
                    best[build] = max(best.get(build, 0), b.ours(kind, line, build)["tokens_per_s"])
            found.append(f"{line} {best['release'] / best['free-order']:.2f} x")
        b.row(f"fixed order of sums, {kind}", "against a free one", ", ".join(found))


def line_seed(b):
    """FlexOlmo-7x7B's full shape in int4, 33 B parameters; 19 GB of disk and memory; only when it is named"""
    path = f"{b.folder}/flexolmo-7x7b-int4"
    if not os.path.exists(f"{path}/config.json"):
        subprocess.run([f"{ROOT}/build/release/bench/ft_make_model", "--shape", "flexolmo-7x7b", "--type", "int4", path], check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run([f"{ROOT}/build/release/bench/ft_bench_model", path, "--compute", "bfloat16", "--kv-type", "bfloat16", "decode"], stdout=subprocess.PIPE, check=True)
    ours = json.loads(done.stdout)
    one = ours["decode"]
    b.row("FlexOlmo-7x7B's shape, int4, decode", "", f"{one['tokens_per_s']:.2f} tokens/s, {one['of_bound']:.0%} of {one['bound']:.2f}; peak RSS {ours['peak_rss_bytes'] / 1e9:.1f} GB")


LINES = {name[5:]: fn for name, fn in list(globals().items()) if name.startswith("line_")}


def main():
    p = bench_lines.options(__doc__)
    p.add_argument("--peers", choices=("all", "none", "llama", "torch"), default="all")
    a = p.parse_args()
    bench_lines.run("bench/model", __doc__, a, LINES, Bench, by_name=("seed",))


main()
