"""bench/index: the index beside infini-gram (PyPI), on the same tokens, in one run; one line a target.

    bench/index [OPTIONS] [LINE…]      without a LINE: all

  --corpus large|small   230 million tokens of kernel sources, or 8 million (default large)
  --folder F             where corpora, indexes and the peer's numbers are kept (default $FLEXTRACE_BENCH, else
                         flextrace-bench in the system's temporary folder); about 12 GB
  --peer                 measure the peer again, where its numbers are kept already
  --markdown F           the table into a file too
  --list                 names of the lines

Corpora are made at first use (bench/make_corpus.py); so is the peer's Python, unless this one has infini-gram.
What the peer took is kept in FOLDER/CORPUS/peer.json, what we took in ours.json.
"""
import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile

import index_lines
import measure

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


class Bench:
    """Paths, the tools of both sides, and what was measured so far."""

    def __init__(self, folder, corpus, again):
        self.base, self.corpus, self.again = folder, corpus, again
        self.folder = f"{folder}/{corpus}"
        self.flextrace = os.environ.get("FLEXTRACE", f"{ROOT}/build/release/flextrace")
        self.tool = f"{ROOT}/build/release/bench/ft_bench_index"
        self.tokenizer = os.environ.get("FLEXTRACE_TOKENIZER", f"{ROOT}/../shared/tokenizers/dolma2")
        self.index, self.peer_index = f"{self.folder}/flextrace", f"{self.folder}/peer-u32"
        self.asked_again, self.rows = set(), []

    def kept(self, side):
        try:
            with open(f"{self.folder}/{side}.json") as f:
                return json.load(f)
        except FileNotFoundError:
            return {}

    def keep(self, side, key, value):
        all = {**self.kept(side), key: value}
        with open(f"{self.folder}/{side}.json.part", "w") as f:
            json.dump(all, f, indent=1)
        os.rename(f"{self.folder}/{side}.json.part", f"{self.folder}/{side}.json")
        return value

    def peer(self, key, *command):
        """The peer's numbers: kept ones, or measured now."""
        kept = self.kept("peer")
        if key in kept and not (self.again and key not in self.asked_again):
            return kept[key]
        self.asked_again.add(key)
        self.say(f"peer: {key} …")
        with self.warm(command):
            done = subprocess.run([self.peer_python(), f"{HERE}/index_peer.py", *map(str, command)], stdout=subprocess.PIPE, check=True)
        return self.keep("peer", key, json.loads(done.stdout))

    def peer_python(self):
        for python in (sys.executable, f"{self.base}/venv/bin/python"):
            if os.path.exists(python) and subprocess.run([python, "-c", "import infini_gram, numpy"], capture_output=True).returncode == 0:
                return python
        subprocess.run([sys.executable, "-m", "venv", f"{self.base}/venv"], check=True)
        subprocess.run([f"{self.base}/venv/bin/pip", "install", "-q", "infini-gram==2.6.0", "numpy", "tokenizers"], check=True)
        return f"{self.base}/venv/bin/python"

    def ours(self, *command):
        with self.warm(command):
            done = subprocess.run([self.tool, *map(str, command)], stdout=subprocess.PIPE)
        if done.returncode:
            raise SystemExit("bench/index: ft_bench_index failed")
        return json.loads(done.stdout)

    def warm(self, command):
        """`warm INDEX …`: the index stays in memory, ours and the peer's alike."""
        return measure.held(command[1]) if command[0] == "warm" else contextlib.nullcontext()

    def say(self, what):
        print(f"# {what}", file=sys.stderr, flush=True)

    def row(self, what, target, ours, peer, ratio, met):
        verdict = "-" if met is None else "met" if met else "NOT MET"
        self.rows.append((what, target, ours, peer, ratio, verdict))
        print(f"{what:48} {target:26} {ours:34} {peer:34} {ratio:>8}  {verdict}", flush=True)


def describe(bench):
    """What the numbers hold for: corpus, machine, load."""
    import numpy
    tokens = len(numpy.load(f"{bench.folder}/tokens.npy", mmap_mode="r"))
    documents = len(numpy.load(f"{bench.folder}/doc_offsets.npy", mmap_mode="r")) - 1
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "unknown processor")
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    bench.tokens, bench.documents = tokens, documents
    return (f"{bench.corpus}: {tokens:,} dolma2 tokens, {documents:,} documents; {model}, {len(os.sched_getaffinity(0))} threads; "
            f"commit {commit}; load {os.getloadavg()[0]:.1f} at the start")


def markdown(bench, head):
    lines = [head, "", "| what | target | flextrace | infini-gram | ratio | |", "|---|---|---|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(r)} |" for r in bench.rows]) + "\n"


def main():
    parser = argparse.ArgumentParser(usage=__doc__, add_help=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--corpus", choices=("large", "small"), default="large")
    parser.add_argument("--folder", default=os.environ.get("FLEXTRACE_BENCH", f"{tempfile.gettempdir()}/flextrace-bench"))
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--markdown")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("line", nargs="*")
    given = parser.parse_args()
    if given.help:
        print(__doc__.strip())
        print("\nLines:\n" + "\n".join(f"  {name:14} {f.__doc__.splitlines()[0]}" for name, f in index_lines.LINES.items()))
        return 0
    if given.list:
        print("\n".join(index_lines.LINES))
        return 0
    unknown = [name for name in given.line if name not in index_lines.LINES]
    if unknown:
        print(f"bench/index: no line {unknown[0]}; there are {' '.join(index_lines.LINES)}", file=sys.stderr)
        return 2
    if not os.path.exists(f"{given.folder}/READY"):
        subprocess.run([sys.executable, f"{HERE}/make_corpus.py", given.folder], check=True)
    bench = Bench(given.folder, given.corpus, given.peer)
    head = describe(bench)
    print(head, flush=True)
    for name in given.line or index_lines.LINES:
        index_lines.LINES[name](bench)
    if given.markdown:
        with open(given.markdown, "w") as f:
            f.write(markdown(bench, head))
    return 0


if __name__ == "__main__":
    sys.exit(main())
