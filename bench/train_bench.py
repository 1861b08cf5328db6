"""bench/train: training steps beside PyTorch on the same model, weights and data, in one run.

    bench/train [OPTIONS] [LINE…]     without a LINE: all

  --folder F      where models and the peer's Python are kept (default $FLEXTRACE_BENCH, else flextrace-bench in the
                  system's temporary folder)
  --peer WHICH    torch (default) or none
  --seconds S     of each turn (4); --turns N, ours and the peers' after each other (5)
  --threads N     of each (default: all processors)
  --micro LIST    sizes of micro-batch to try, in sequences (16,8,4,2,1)
  --eager         without the compiled peer
  --markdown F    the table into a file too
  --list          names of the lines

A step is forward, backward, clipping and AdamW over the same sequences. Each program stays loaded; they work in
turns, the others asleep, and the median of the turns counts. Of several sizes of micro-batch, each one's best counts,
found before. The peer is PyTorch eager and compiled (where that works), its bfloat16 is autocast.
"""
import json
import os
import statistics
import subprocess
import sys

import bench_lines

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
OURS = f"{ROOT}/build/release/bench/ft_bench_train"
PACKAGES = ["torch", "numpy"]


def config(hidden, layers, inner, vocab, heads, experts=0, top_k=0):
    c = {"architectures": ["FlexOlmoForCausalLM" if experts else "Olmo2ForCausalLM"], "model_type": "flex_olmo" if experts else "olmo2",
         "hidden_size": hidden, "num_hidden_layers": layers, "intermediate_size": inner, "vocab_size": vocab,
         "num_attention_heads": heads, "num_key_value_heads": heads, "rms_norm_eps": 1e-6, "rope_theta": 500000,
         "max_position_embeddings": 1024, "hidden_act": "silu", "tie_word_embeddings": False, "attention_bias": False,
         "eos_token_id": 0, "pad_token_id": 1}
    if experts:
        c |= {"num_experts": experts, "num_experts_per_tok": top_k, "norm_topk_prob": False}
    return c


# name: config, sequences a step, length, mode
SHAPES = {
    "prototype": (config(192, 4, 448, 4096, 6), 16, 256, "all"),
    "expert": (config(192, 4, 448, 4096, 6, 2, 2), 16, 256, "expert"),
    "joint": (config(192, 4, 448, 4096, 6, 7, 2), 16, 256, "all"),
    "demo": (config(256, 6, 512, 8192, 4), 8, 512, "all"),
    "large": (config(1024, 4, 2816, 8192, 16), 4, 512, "all"),
}


class Program:
    """One that does steps when it is told to."""

    def __init__(self, command):
        self.process = subprocess.Popen([str(x) for x in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def steps(self, n):
        try:
            self.process.stdin.write(f"{n}\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else None

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Bench:
    def __init__(self, a):
        self.folder, self.a, self.table = f"{a.folder}/train", a, bench_lines.Table((34, 34, 52, 52))
        os.makedirs(self.folder, exist_ok=True)

    def row(self, what, target, ours, peer="-", met=None):
        self.table.row(what, target, ours, peer, met=met)

    def python(self):
        path = f"{self.folder}/venv/bin/python"
        if os.environ.get("FLEXTRACE_PEER_PYTHON"):
            return os.environ["FLEXTRACE_PEER_PYTHON"]
        if not os.path.exists(path):
            subprocess.run([sys.executable, "-m", "venv", f"{self.folder}/venv"], check=True)
            subprocess.run([path, "-m", "pip", "install", "-q", *PACKAGES], check=True)
        return path

    def model(self, name):
        shape, sequences, length, _ = SHAPES[name]
        path = f"{self.folder}/{name}"
        text = json.dumps(shape, indent=1)
        if not os.path.exists(f"{path}/ids") or open(f"{path}/config.json").read() != text:
            import array
            import random
            os.makedirs(path, exist_ok=True)
            open(f"{path}/config.json", "w").write(text)
            subprocess.run([OURS, "make", path], check=True)
            r = random.Random(1)
            with open(f"{path}/ids", "wb") as f:
                array.array("i", (min(int(r.paretovariate(0.6)), shape["vocab_size"]) - 1 for _ in range(sequences * (length + 1)))).tofile(f)
        return path

    def program(self, name, micro, how, peer):
        _, sequences, length, mode = SHAPES[name]
        start = [self.python(), f"{HERE}/train_peer_torch.py"] if peer else [OURS, "step"]
        path = self.model(name)
        return Program([*start, path, f"{path}/ids", sequences, length, micro, self.a.threads, ",".join([mode, *how])])

    def best(self, name, how, peer):
        """(program, answer to its first step) at the micro-batch that is fastest."""
        found = None
        sequences = SHAPES[name][1]
        for micro in [m for m in self.a.micro if m <= sequences and sequences // m <= 8]:
            p = self.program(name, micro, how, peer)
            first = p.steps(1)
            took = first and p.steps(1) and min(p.steps(1)["seconds"], p.steps(1)["seconds"])
            if took and (not found or took < found[0]):
                if found:
                    found[1].end()
                found = (took, p, first, micro)
            else:
                p.end()
        return found and {"took": found[0], "program": found[1], "first": found[2], "micro": found[3], "seconds": []}

    def compare(self, name, bfloat16, target):
        kind = ["bfloat16"] if bfloat16 else []
        all_ = {"ours": self.best(name, kind, 0)}
        if self.a.peer == "torch":
            all_["eager"] = self.best(name, kind, 1)
        if self.a.peer == "torch" and not self.a.eager:
            all_["compiled"] = self.best(name, [*kind, "compile"], 1)
        all_ = {k: v for k, v in all_.items() if v}
        for _ in range(self.a.turns):
            for one in all_.values():
                n = max(1, round(self.a.seconds / one["took"]))
                one["last"] = one["program"].steps(n)
                one["seconds"].append(one["last"]["seconds"] / n)
        tokens = SHAPES[name][1] * SHAPES[name][2]
        for one in all_.values():
            one["program"].end()
            one["speed"] = tokens / statistics.median(one["seconds"])
        show = lambda k, o: f"{k} {o['speed']:,.0f} tokens/s, {o['last']['peak_bytes'] / 1e6:.0f} MB, micro {o['micro']}"
        what = f"{name}, {'bfloat16' if bfloat16 else 'float32'}"
        ours = all_.pop("ours")
        if not all_:
            self.row(what, "-", show("ours", ours))
            return
        peer = max(all_.values(), key=lambda o: o["speed"])
        memory = min(o["last"]["peak_bytes"] for o in all_.values())
        ratio = statistics.median(p / o for p, o in zip(peer["seconds"], ours["seconds"]))  # of a turn and the next
        self.row(what, f">= {target} x the better" if target else "-", f"{show('ours', ours)}, {ratio:.2f} x", "; ".join(show(*x) for x in all_.items()), ratio >= target if target else None)
        self.row(f"{what}: peak memory", "at most the peer's", f"{ours['last']['peak_bytes'] / 1e6:.0f} MB", f"{memory / 1e6:.0f} MB", ours["last"]["peak_bytes"] <= memory)
        if "eager" in all_:
            a, b = ours["first"]["loss"], all_["eager"]["first"]["loss"]
            self.row(f"{what}: loss of the first step", f"within {'1e-2' if bfloat16 else '1e-4'}", f"{a:.6f}", f"{b:.6f}", abs(a - b) <= (1e-2 if bfloat16 else 1e-4) * abs(b))


def line_prototype(b):
    """3.2 M parameters: hidden 192, 4 layers, vocabulary 4096, sequences of 256"""
    b.compare("prototype", 0, 1.5)
    b.compare("prototype", 1, 1.2)


def line_expert(b):
    """the prototype with two experts, the second trained alone"""
    b.compare("expert", 0, 1.5)
    b.compare("expert", 1, 1.2)


def line_joint(b):
    """the prototype with seven experts, two a token, all trained"""
    b.compare("joint", 0, 1.5)
    b.compare("joint", 1, 1.2)


def line_demo(b):
    """hidden 256, 6 layers, FFN 512, vocabulary 8192, sequences of 512"""
    b.compare("demo", 0, 1.5)
    b.compare("demo", 1, 1.2)


def line_large(b):
    """hidden 1024, 4 layers, FFN 2816, vocabulary 8192"""
    b.compare("large", 0, 1.5)
    b.compare("large", 1, 1.2)


def line_product(b):
    """large products beside OpenBLAS's sgemm"""
    peak = 0
    done = {}
    env = dict(os.environ)
    if "avx512f" in open("/proc/cpuinfo").read():  # OpenBLAS takes processors newer than itself for a Prescott
        env.setdefault("OPENBLAS_CORETYPE", "SkylakeX")
    for m, n, k in ((2048, 2048, 2048), (2048, 1024, 1024), (2048, 2816, 1024), (4096, 192, 192), (4096, 448, 192), (4096, 4096, 192)):
        done[m, n, k] = json.loads(subprocess.run([OURS, "product", str(m), str(n), str(k)], stdout=subprocess.PIPE, check=True, env=env).stdout)
        peak = max(peak, done[m, n, k]["openblas"])
    for (m, n, k), d in done.items():
        large = min(m, n, k) >= 1024
        b.row(f"product {m} x {n} x {k}", ">= 90 % of sgemm's peak" if large else "-", f"{d['float32']:.0f} GFLOP/s, {d['float32'] / peak:.0%}; bfloat16 {d['bfloat16']:.0f}",
              f"{d['openblas']:.0f} GFLOP/s, peak {peak:.0f}", d["float32"] >= 0.9 * peak if large else None)


LINES = {name[5:]: fn for name, fn in list(globals().items()) if name.startswith("line_")}


def main():
    p = bench_lines.options(__doc__)
    p.add_argument("--peer", choices=("torch", "none"), default="torch")
    p.add_argument("--seconds", type=float, default=4)
    p.add_argument("--turns", type=int, default=5)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--micro", type=lambda x: [int(m) for m in x.split(",")], default=[16, 8, 4, 2, 1])
    p.add_argument("--eager", action="store_true")
    a = p.parse_args()
    bench_lines.run("bench/train", __doc__, a, LINES, Bench, threads=a.threads)


main()
