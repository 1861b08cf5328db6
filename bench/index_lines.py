"""The lines of bench/index: each measures one target, asks for the peer's number, and prints a row."""
import json
import os
import shutil
import subprocess

import numpy

import growth_plot
import index_model
import index_queries
from measure import measure

SPARE, BOUND = "8G", "1G"
COLD_QUERIES, COLD_RESPONSES = 200, 40


# --- Parts of the corpus ----------------------------------------------------------

def token_files(folder):
    return ["--doc-offsets", f"{folder}/doc_offsets.npy", f"{folder}/tokens.npy"]


def part(b, name, first, last):
    """Documents [first, last) of the corpus as token arrays of their own."""
    folder = f"{b.folder}/parts/{name}"
    if not os.path.exists(f"{folder}/doc_offsets.npy"):
        os.makedirs(folder, exist_ok=True)
        tokens, starts = numpy.load(f"{b.folder}/tokens.npy", mmap_mode="r"), numpy.load(f"{b.folder}/doc_offsets.npy")
        numpy.save(f"{folder}/tokens.npy", tokens[starts[first]:starts[last]])
        numpy.save(f"{folder}/doc_offsets.npy", starts[first:last + 1] - starts[first])
    return folder


def document_at(b, tokens):
    """Number of the first document that starts at or after this many tokens."""
    return int(numpy.searchsorted(numpy.load(f"{b.folder}/doc_offsets.npy"), tokens))


# --- Commands ---------------------------------------------------------------------

def index_bytes(folder):
    """Bytes of an index, without the copy of the tokenizer."""
    return sum(os.path.getsize(os.path.join(d, f)) for d, _, names in os.walk(folder) for f in names if not f.startswith("tokenizer"))


def command(b, verb, out, *rest):
    """One verb on an index that stands alone in its folder, so that its disk use can be watched."""
    cost = measure([b.flextrace, "index", verb, out, *rest], os.path.dirname(out))
    cost["index_bytes"] = index_bytes(out)
    return cost


def fresh(b, name):
    folder = f"{b.folder}/{name}"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return f"{folder}/index"


def build(b, source, out, memory=SPARE):
    """The input is in the page cache, as the peer's is, which was just written."""
    for path in source:
        if not path.startswith("-"):
            with open(path, "rb") as f:
                while f.read(1 << 24):
                    pass
    return command(b, "build", out, "-t", b.tokenizer, "--memory", memory, "--json", *source)


def again(b, name, out, verb, *rest):
    """The best of three times a verb on copies of the index `out`, whose files are linked: they never change."""
    best = None
    for _ in range(3):
        copy = fresh(b, name)
        shutil.copytree(out, copy, copy_function=os.link)
        cost = command(b, verb, copy, *rest)
        best = cost if best is None or cost["wall_s"] < best["wall_s"] else best
        shutil.rmtree(os.path.dirname(copy))
    return best


def full_build(b):
    """The build from tokens with memory to spare, of this run or an earlier one; the queries' index."""
    kept = b.kept("ours")
    if getattr(b, "built", None) is None and ("build" not in kept or not os.path.exists(b.index)):
        measure_build(b)
    return getattr(b, "built", None) or kept["build"]


def measure_build(b):
    b.say("build from tokens …")
    out = fresh(b, "build")
    b.built = b.keep("ours", "build", build(b, token_files(b.folder), out))
    shutil.rmtree(b.index, ignore_errors=True)
    os.rename(out, b.index)
    return b.built


def peer_build(b):
    return b.peer("build", "build", b.folder, b.peer_index)


def seconds(cost):
    return f"{cost['wall_s']:.1f} s ({cost['cpu_s']:.0f} s CPU)"


def gigabytes(n):
    return f"{n / 1e9:.2f} GB"


# --- Building -----------------------------------------------------------------------

def line_build(b):
    """build from tokens, memory to spare: wall"""
    ours, peer = measure_build(b), peer_build(b)
    ratio = peer["wall_s"] / ours["wall_s"]
    b.row("build from tokens", "5x faster than peer", f"{seconds(ours)}, {gigabytes(ours['own_bytes'])}",
          f"{seconds(peer)}, {gigabytes(peer['own_bytes'])}", f"{ratio:.1f}x", ratio >= 5)


def line_build_1g(b):
    """the same with --memory 1G held: wall, peak memory of all processes"""
    peer, out = peer_build(b), fresh(b, "build-1g")
    b.say("build from tokens, --memory 1G …")
    ours = b.keep("ours", "build-1g", build(b, token_files(b.folder), out, BOUND))
    shutil.rmtree(os.path.dirname(out))
    ratio = peer["wall_s"] / ours["wall_s"]
    b.row("build with --memory 1G", "3.5x faster, <= 1.1 GB", f"{seconds(ours)}, {gigabytes(ours['own_bytes'])}",
          f"{seconds(peer)}, {gigabytes(peer['own_bytes'])}", f"{ratio:.1f}x", ratio >= 3.5 and ours["own_bytes"] <= 1.1e9)


def english_text(b):
    """MB/s over the demo owners' books: a new encoder for each, so that its words are met for the first time."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if subprocess.run([f"{root}/demo/fetch-corpora", b.flextrace]).returncode:
        b.say("no English: demo/fetch-corpora failed")
        return None
    books = [b.ours("tokenize", b.tokenizer, f"{root}/demo/work/corpora/{owner}.jsonl.gz", "")
             for owner in ("scripture", "dictionary", "essays", "python", "database")]
    return sum(x["bytes"] for x in books) / sum(x["seconds"] for x in books) / 1e6


def line_text(b):
    """build from text: its tokenizing, and the whole"""
    tokens, out = full_build(b), fresh(b, "build-text")
    sources = b.ours("tokenize", b.tokenizer, f"{b.folder}/corpus.jsonl", "Documentation/")
    every = b.ours("tokenize", b.tokenizer, f"{b.folder}/corpus.jsonl", "")
    peer = b.peer("tokenize", "tokenize", b.tokenizer, b.folder, 10)
    english = english_text(b)
    if english:
        b.row("tokenizing, a thread: English", ">= 100 MB/s", f"{english:.0f} MB/s", "-", "-", english >= 100)
    b.row("tokenizing, a thread: the kernel's documentation", "", f"{sources['mb_per_s']:.0f} MB/s",
          f"{peer['mb_per_s']:.1f} MB/s (tokenizers)", f"{sources['mb_per_s'] / peer['mb_per_s']:.0f}x", None)
    b.row("tokenizing, a thread: whole corpus", "", f"{every['mb_per_s']:.0f} MB/s", f"{peer['mb_per_s']:.1f} MB/s (tokenizers)",
          f"{every['mb_per_s'] / peer['mb_per_s']:.0f}x", None)
    b.say("build from text …")
    ours = b.keep("ours", "text", build(b, [f"{b.folder}/corpus.jsonl"], out))
    shutil.rmtree(os.path.dirname(out))
    # What tokenizing alone would take on all threads at the rate just measured.
    phase = every["seconds"] / len(os.sched_getaffinity(0))
    allowed = phase + 1.1 * tokens["wall_s"]
    b.row("build from text", f"<= {allowed:.0f} s (tokenize + 1.1 build)", f"{seconds(ours)}, {gigabytes(ours['own_bytes'])}",
          "-", f"{ours['wall_s'] / allowed:.2f}", ours["wall_s"] <= allowed)


def line_size(b):
    """size of the index, bytes a token"""
    ours, peer = full_build(b), peer_build(b)
    mine, theirs = ours["index_bytes"] / b.tokens, peer["index_bytes"] / b.tokens
    b.row("size", "<= 6.7 B/token", f"{mine:.2f} B/token", f"{theirs:.2f} B/token", f"{mine / theirs:.2f}", mine <= 6.7)


def line_disk(b):
    """temporary disk while building, bytes a token, and the peak beside the finished index"""
    peer = peer_build(b)
    theirs = peer["extra_bytes"] / b.tokens
    for name, ours in (("memory to spare", full_build(b)), ("--memory 1G", b.kept("ours").get("build-1g"))):
        if not ours:
            continue
        mine, peak = ours["extra_bytes"] / b.tokens, ours["peak_bytes"] / ours["index_bytes"]
        b.row(f"temporary disk, {name}", "<= 8 B/token, peak <= 2.2", f"{mine:.2f} B/token, peak {peak:.2f} of the index",
              f"{theirs:.2f} B/token, peak {peer['peak_bytes'] / peer['index_bytes']:.2f}",
              f"{mine / theirs:.2f}" if theirs else "-", mine <= 8 and peak <= 2.2)


def line_add(b):
    """add 1 % to the index"""
    full = full_build(b)
    cut = document_at(b, b.tokens * 99 // 100)
    out = fresh(b, "add")
    b.say("build of 99 % …")
    build(b, token_files(part(b, "first99", 0, cut)), out)
    ours = b.keep("ours", "add", again(b, "added", out, "add", *token_files(part(b, "last1", cut, b.documents))))
    shutil.rmtree(os.path.dirname(out))
    share = ours["wall_s"] / full["wall_s"]
    b.row("add 1 %", "<= 2 % of a full build", f"{ours['wall_s']:.2f} s of {full['wall_s']:.1f} s", "builds anew", f"{share * 100:.1f} %",
          share <= 0.02)


def line_compact(b):
    """compaction of two halves"""
    full = full_build(b)
    half = document_at(b, b.tokens // 2)
    out = fresh(b, "compact")
    b.say("build of two halves …")
    build(b, token_files(part(b, "half1", 0, half)), out)
    command(b, "add", out, "--memory", SPARE, *token_files(part(b, "half2", half, b.documents)))
    ours = b.keep("ours", "compact", again(b, "compacted", out, "compact", "--memory", SPARE))
    shutil.rmtree(os.path.dirname(out))
    share = ours["wall_s"] / full["wall_s"]
    b.row("compaction of two halves", "<= 50 % of a full build", f"{seconds(ours)} of {full['wall_s']:.1f} s, {gigabytes(ours['own_bytes'])}",
          "builds anew", f"{share * 100:.0f} %", share <= 0.5)


def line_growth(b):
    """build time and memory at 25, 50, 100, 200 million tokens; the plot docs/index-growth.svg"""
    points = []
    for millions in (25, 50, 100, 200):
        if millions * 1e6 > b.tokens:
            break
        folder = part(b, f"first{millions}M", 0, document_at(b, millions * 10**6))
        tokens = len(numpy.load(f"{folder}/tokens.npy", mmap_mode="r"))
        for memory in (SPARE, BOUND):
            b.say(f"build of {millions} million tokens, --memory {memory} …")
            out = fresh(b, "growth")
            cost = build(b, token_files(folder), out, memory)
            shutil.rmtree(os.path.dirname(out))
            points.append({"tokens": tokens, "memory": memory, "wall_s": cost["wall_s"], "cpu_s": cost["cpu_s"], "own_bytes": cost["own_bytes"],
                           "extra_bytes": cost["extra_bytes"], "index_bytes": cost["index_bytes"]})
            b.row(f"{millions} M tokens, --memory {memory}", "", f"{seconds(cost)}, {gigabytes(cost['own_bytes'])}", "-",
                  f"{cost['wall_s'] / tokens * 1e6:.3f} us/token", None)
    b.keep("ours", "growth", points)
    if points:
        growth_plot.draw(points, os.path.join(os.path.dirname(__file__), "../docs/index-growth.svg"))


# --- Queries ------------------------------------------------------------------------

WARM = {"count": (5, 25), "prob": (8, 40), "infgram_prob": (25, 100), "docs": (10, 60), "ntd": (10, 2000)}
RESPONSES = ("spliced:10", "heldout:10", "spliced", "heldout")


def queries(b):
    return index_queries.make(b.folder, f"{b.base}/heldout")


def warm_line(name):
    def line(b):
        full_build(b)
        peer_build(b)
        folder = queries(b)
        ours, peer = b.ours("warm", b.index, folder, name)[name], b.peer(f"warm {name}", "warm", b.peer_index, folder, name)
        theirs, p50, p99 = peer[name], *WARM[name]
        b.keep("ours", f"warm {name}", {k: v for k, v in ours.items() if k != "answers"})
        b.row(f"{name}, p50 / p99", f"<= {p50} / {p99} us", f"{ours['p50_us']:.1f} / {ours['p99_us']:.1f} us",
              f"{theirs['p50_us']:.0f} / {theirs['p99_us']:.0f} us", f"{theirs['p50_us'] / ours['p50_us']:.0f}x",
              ours["p50_us"] <= p50 and ours["p99_us"] <= p99)
        agree(b, name, ours["answers"], theirs["answers"])
    line.__doc__ = f"warm {name}"
    return line


def agree(b, name, ours, theirs):
    both = min(len(ours), len(theirs))
    same = sum(x == y for x, y in zip(ours, theirs))
    b.row(f"{name}: same answers as the peer", "all", f"{same} of {both}", "", "", same == both)


def line_overhead(b):
    """what a call of the peer costs that searches nothing"""
    peer_build(b)
    peer = b.peer("warm overhead", "warm", b.peer_index, queries(b))["overhead"]
    b.row("a call that searches nothing", "", "", f"{peer['p50_us']:.1f} / {peer['p99_us']:.1f} us", "", None)


def line_spans(b):
    """all matches and spans of 500-token responses, warm"""
    full_build(b)
    peer_build(b)
    folder = queries(b)
    for name in RESPONSES:
        ours, peer = b.ours("warm", b.index, folder, name)[name], b.peer(f"warm {name}", "warm", b.peer_index, folder, name)
        theirs = peer[name]
        b.keep("ours", f"warm {name}", {k: v for k, v in ours.items() if k != "answers"})
        limit = "rarer than 10" if ":" in name else "all"
        b.row(f"spans of 500 tokens, {name.split(':')[0]}, {limit}", "<= 1 / 3 ms", f"{ours['p50_us'] / 1e3:.2f} / {ours['p99_us'] / 1e3:.2f} ms",
              f"{theirs['p50_us'] / 1e3:.1f} / {theirs['p99_us'] / 1e3:.1f} ms", f"{theirs['p50_us'] / ours['p50_us']:.0f}x",
              ours["p50_us"] <= 1000 and ours["p99_us"] <= 3000)
        agree(b, f"spans, {name.split(':')[0]}, {limit}", ours["answers"], theirs["answers"])


def reads(cost):
    """Reads of one query: faults that waited for the disk, or pages that came into the page cache without one."""
    return max(cost["faults"], cost["pages"])


def line_cold_count(b):
    """cold count: page reads and time"""
    full_build(b)
    peer_build(b)
    folder = queries(b)
    ours = b.ours("cold", b.index, folder, "count", COLD_QUERIES)
    b.keep("ours", "cold count", {k: v for k, v in ours.items() if k != "each"})
    peer = b.peer("cold count", "cold", b.peer_index, folder, "count", COLD_QUERIES)
    b.row("cold count", "<= 6 page reads", f"{reads(ours):.2f} pages (most {ours['pages_max']:.0f}), {ours['p50_us']:.0f} us",
          f"{peer['faults']:.1f} faults, {peer['pages']:.0f} pages, {peer['p50_us']:.0f} us", f"{peer['p50_us'] / ours['p50_us']:.1f}x",
          reads(ours) <= 6)
    b.row("cold opening", "< 10 ms", f"{ours['open_us'] / 1e3:.1f} ms, {ours['open_pages']:.0f} pages", f"{peer['open_us'] / 1e3:.1f} ms", "",
          ours["open_us"] < 10_000)


def line_cold_spans(b):
    """cold 500-token response: page reads a position and time"""
    full_build(b)
    peer_build(b)
    folder = queries(b)
    for name in ("spliced:10", "heldout:10"):
        ours = b.ours("cold", b.index, folder, name, COLD_RESPONSES)
        ours.pop("each")
        b.keep("ours", f"cold {name}", ours)
        peer = b.peer(f"cold {name}", "cold", b.peer_index, folder, name, COLD_RESPONSES)
        each, ratio = reads(ours) / ours["tokens"], peer["p50_us"] / ours["p50_us"]
        b.row(f"cold response, {name.split(':')[0]}: reads a position", "<= 3", f"{each:.2f} pages",
              f"{peer['faults'] / peer['tokens']:.2f} faults, {peer['pages'] / peer['tokens']:.1f} pages", "", each <= 3)
        # The slowest response counts. What no round asked for is waited for alone: each such fault may be a round of its own.
        b.row(f"cold response, {name.split(':')[0]}: rounds", "<= 8", f"most {ours['rounds_max']} (average {ours['rounds']:.1f}), then {ours['faults']:.0f} single reads", "", "",
              ours["rounds_max"] + ours["faults"] <= 8)
        b.row(f"cold response, {name.split(':')[0]}: wall", "<= 1/4 of the peer's", f"{ours['p50_us'] / 1e3:.1f} ms", f"{peer['p50_us'] / 1e3:.1f} ms",
              f"{ratio:.1f}x", ratio >= 4)


def line_open(b):
    """opening, and what stays resident"""
    full_build(b)
    ours = b.keep("ours", "open", b.ours("open", b.index, queries(b)))
    b.row("opening, files in the page cache", "< 10 ms", f"{ours['p50_ms']:.2f} ms (first {ours['first_ms']:.2f})", "-", "", ours["first_ms"] < 10)
    b.row("resident: open; after 1,000 counts", "only what is touched",
          f"{ours['resident_bytes'] / 1e6:.1f}; {ours['asked_bytes'] / 1e6:.1f} of {index_bytes(b.index) / 1e6:.0f} MB", "-", "", None)


def classes(cost):
    """Pages of the cold queries by what the model tells apart; one-token queries are answered by what opening read."""
    out = {"narrow": [], "wide": []}
    for tokens, answer, _, files in cost["each"]:
        if tokens > 1:
            out["narrow" if answer < 64 else "wide"].append(sum(files.values()))
    return out


def line_reads(b):
    """page reads of a cold count at 25, 50, 100, 200 million tokens, against the model of docs/index-growth.md"""
    folder, points = queries(b), []
    for millions in (25, 50, 100, 200):
        if millions * 1e6 > b.tokens:
            break
        b.say(f"build of {millions} million tokens …")
        out = fresh(b, "growth")
        build(b, token_files(part(b, f"first{millions}M", 0, document_at(b, millions * 10**6))), out)
        shape = index_model.read_shape(out)
        found = classes(b.ours("cold", out, folder, "count", 4 * COLD_QUERIES))
        shutil.rmtree(os.path.dirname(out))
        narrow, wide = (sum(v) / max(1, len(v)) for v in found.values())
        points.append({"millions": millions, "nodes": shape.nodes, "leaf": shape.leaf, "narrow": narrow, "wide": wide,
                       "model_narrow": shape.narrow(), "model_wide": shape.wide()})
        b.row(f"cold count, {millions} M, absent or in a leaf", f"model {shape.narrow():.2f}", f"{narrow:.2f} pages", "", "",
              abs(narrow - shape.narrow()) < 0.15)
        b.row(f"cold count, {millions} M, wider", f"model <= {shape.wide():.2f}", f"{wide:.2f} pages", "", "", wide <= shape.wide())
    b.keep("ours", "reads", points)


LINES = {
    "build": line_build, "build-1g": line_build_1g, "size": line_size, "disk": line_disk, "text": line_text, "add": line_add,
    "compact": line_compact, "overhead": line_overhead, **{name: warm_line(name) for name in WARM}, "spans": line_spans,
    "cold-count": line_cold_count, "cold-spans": line_cold_spans, "open": line_open, "growth": line_growth,
    "reads": line_reads,
}
