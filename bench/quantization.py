#!/usr/bin/env python3
"""What quantization costs: bits per byte, and which experts are chosen, against float32.

  bench/quantization.py FLEXTRACE [--model demo/model] [--corpora demo/work/corpora] [--bytes 30000]
                        [--dequantize] [--compute-bfloat16] [--work FOLDER]

Text: of each owner's corpus (demo/fetch-corpora makes them) the held-out documents, those
whose first 32 bits of sha256(id) are divisible by 20, in the order of sha256(id), until
there are so many bytes; in windows of 512 tokens, each scored from its second token on.
With golden checkpoints (--ids F.npy … instead of corpora) bits are per token.

--dequantize measures the weights alone: they are written back as float32 and run as such.
Otherwise the kernels of each format run, which round their inputs too."""
import argparse
import glob
import gzip
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np

WINDOW = 512


def run(*command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def held_out(path, wanted):
    rows = [json.loads(line) for line in gzip.open(path, "rt", encoding="utf-8")]
    named = sorted((hashlib.sha256(r["id"].encode()).hexdigest(), r["text"]) for r in rows)
    total, texts = 0, []
    for key, text in named:
        if int(key[:8], 16) % 20 == 0 and total < wanted:
            texts.append(text)
            total += len(text.encode())
    return texts


def windows_of(flextrace, model, texts):
    """(ids, bytes that are scored) of each window."""
    rows = "".join(json.dumps({"text": t}) + "\n" for t in texts)
    out = []
    for line, text in zip(run(flextrace, "tokenize", "-t", model, text=rows).splitlines(), texts):
        row = json.loads(line)
        ids, ends = row["ids"], [o[1] for o in row["offsets"]]
        for at in range(0, len(ids), WINDOW):
            last = min(at + WINDOW, len(ids))
            if last - at > 1:
                out.append((ids[at:last], ends[last - 1] - ends[at]))
    return out


def measure(flextrace, model, windows, options, work):
    """Nats and chosen experts of each window; none of a dense model."""
    nats, experts = [], []
    with open(f"{model}/config.json", encoding="utf-8") as f:
        asked = ["--experts", f"{work}/experts.npy"] if json.load(f).get("num_experts") else []
    for ids, _ in windows:
        np.save(f"{work}/ids.npy", np.array(ids, dtype=np.int32))
        said = json.loads(run(flextrace, "forward", model, "--ids", f"{work}/ids.npy", *asked, "--json", *options))
        nats.append(-said["logprob_sum"])
        if asked:
            experts.append(np.load(f"{work}/experts.npy"))
    return nats, experts


def agreement(a, b):
    """Share of (token, layer) with the same set of experts; with the same first one; of experts. "-" where there are none."""
    if not a:
        return "-", "-", "-"
    same = first = share = total = 0
    for x, y in zip(a, b):
        both = (x[..., :, None] == y[..., None, :]).any(-1)
        same += both.all(-1).sum()
        share += both.mean(-1).sum()
        first += (x[..., 0] == y[..., 0]).sum()
        total += both[..., 0].size
    return tuple(f"{100 * n / total:.2f} %" for n in (same, first, share))


def variants(a, work):
    """Name, folder, options."""
    yield "float32", a.model, []
    if a.compute_bfloat16:
        yield "bfloat16 inputs", a.model, ["--compute", "bfloat16"]
    for to, head in (("int8", None), ("int4", None), ("int4", "int4")):
        name = to + (f", head {head}" if head else "")
        folder = f"{work}/{name.replace(', ', '-').replace(' ', '-')}"
        run(a.flextrace, "model", "convert", a.model, "--to", to, "-o", folder, *(["--head", head] if head else []))
        if a.dequantize:
            run(a.flextrace, "model", "convert", folder, "--to", "float32", "-o", folder + "-float32")
            shutil.rmtree(folder)
            folder += "-float32"
        yield name, folder, []
        shutil.rmtree(folder)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("flextrace")
    p.add_argument("--model", default="demo/model")
    p.add_argument("--corpora", default="demo/work/corpora")
    p.add_argument("--ids", nargs="*", help="token ids instead of text")
    p.add_argument("--bytes", type=int, default=30000)
    p.add_argument("--dequantize", action="store_true")
    p.add_argument("--compute-bfloat16", action="store_true")
    p.add_argument("--work", default=tempfile.gettempdir())
    a = p.parse_args()
    work = tempfile.mkdtemp(dir=a.work)
    try:
        if a.ids:
            domains = {"ids": [(np.load(f).tolist(), 0) for f in a.ids]}
        else:
            files = sorted(glob.glob(f"{a.corpora}/*.jsonl.gz"))
            if not files:
                sys.exit(f"{a.corpora}: no *.jsonl.gz; demo/fetch-corpora makes them")
            domains = {os.path.basename(f).split(".")[0]: windows_of(a.flextrace, a.model, held_out(f, a.bytes))
                       for f in files}
        report(a, domains, work)
    finally:
        shutil.rmtree(work)


def report(a, domains, work):
    unit = "token" if a.ids else "byte"
    windows = [w for d in domains.values() for w in d]
    count = sum(len(ids) - 1 if a.ids else n for ids, n in windows)
    print(f"{a.model}: {len(windows)} windows, {sum(len(i) for i, _ in windows)} tokens, {count} {unit}s scored"
          + ("; weights alone (dequantized)" if a.dequantize else ""))
    print(f"| | bits per {unit} | against float32 | worst domain | same experts | same first expert | experts kept |")
    print("|---|---|---|---|---|---|---|")
    base = None
    for name, folder, options in variants(a, work):
        nats, experts = measure(a.flextrace, folder, windows, options, work)
        base = base or (nats, experts)
        bits = sum(nats) / math.log(2) / count
        at, worst = 0, (-1e9, "")
        for domain, d in domains.items():
            part = slice(at, at + len(d))
            worst = max(worst, (sum(nats[part]) / sum(base[0][part]) - 1, domain))
            at += len(d)
        same, first, share = agreement(base[1], experts)
        print(f"| {name} | {bits:.4f} | {100 * (sum(nats) / sum(base[0]) - 1):+.3f} % | {100 * worst[0]:+.3f} % "
              f"({worst[1]}) | {same} | {first} | {share} |", flush=True)


if __name__ == "__main__":
    main()
