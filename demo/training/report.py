#!/usr/bin/env python3
"""demo/training/report.py samples|model FLEXTRACE WORK: what demo/train-demo does once everything is measured.

  samples   WORK/samples.json: the merged model's continuations of the first 25 tokens of held-out documents, the first
            three of each domain in the order of sha256(id), seeds 1, 2, 3; and of the first again without the domain's expert
  model     WORK/model: the checkpoint with README.md, eval.json, samples.json, as demo/model is shipped"""
import glob
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys

from split import OWNERS

HERE = os.path.dirname(os.path.abspath(__file__))
PROMPT, NEW = 25, 120
SAMPLING = {"temperature": 1.0, "min_p": 0.05}  # of the samples, of the page and of generation_config.json


def read_json(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def rows_of(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def write(path, text):
    with open(path + ".part", "w", encoding="utf-8") as f:
        f.write(text)
    os.rename(path + ".part", path)


def run(*command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"report.py: {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def tokenize(flextrace, model, texts):
    out = run(flextrace, "tokenize", "-t", model, text="".join(json.dumps({"text": t}) + "\n" for t in texts))
    return [json.loads(line) for line in out.splitlines()]


def write_ids(path, ids):
    head = f"{{'descr': '<i4', 'fortran_order': False, 'shape': ({len(ids)},), }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + struct.pack(f"<{len(ids)}i", *ids))


# --- Samples --------------------------------------------------------------------------------------


def make_samples(flextrace, work):
    model = f"{work}/stages/tuned/model"
    out = {}
    for expert, domain in enumerate(OWNERS):
        out[domain] = []
        for seed, row in enumerate(rows_of(f"{work}/data/{domain}.held.jsonl")[:3], 1):
            said = tokenize(flextrace, model, [row["text"]])[0]
            ids = said["ids"][:PROMPT]
            end = said["offsets"][len(ids) - 1][1]
            write_ids(f"{work}/prompt.npy", ids)
            sampling = [word for name, value in SAMPLING.items() for word in ("--" + name.replace("_", "-"), str(value))]
            command = [flextrace, "generate", model, "--ids", f"{work}/prompt.npy", "-n", str(NEW), *sampling, "--seed", str(seed), "--json"]
            sample = {"document": row["id"], "prompt": row["text"].encode()[:end].decode("utf-8", "replace"), "seed": seed,
                      "text": json.loads(run(*command))["text"]}
            if seed == 1 and expert:
                sample["without"] = json.loads(run(*command, "--without", str(expert)))["text"]
            out[domain].append(sample)
    os.remove(f"{work}/prompt.npy")
    write(f"{work}/samples.json", json.dumps(out, ensure_ascii=False, indent=1) + "\n")


# --- README ---------------------------------------------------------------------------------------


def trained(folder):
    """(steps, tokens, seconds) of a stage, by its metrics; a step that was done again counts once."""
    steps = {}
    for path in glob.glob(f"{folder}/metrics.jsonl"):
        for row in rows_of(path):
            steps[row["step"]] = row
    return len(steps), sum(r["tokens"] for r in steps.values()), sum(r["seconds"] for r in steps.values())


def corpus_tokens(flextrace, model, path, every):
    """Tokens of a corpus, ends of documents counted; by every so many of its documents."""
    rows = rows_of(path) if path.endswith(".jsonl") else [json.loads(x) for x in run("gzip", "-dc", path).splitlines()]
    some = rows[::every]
    count = sum(len(x["ids"]) + 1 for x in tokenize(flextrace, model, [r["text"] for r in some]))
    size = sum(len(r["text"].encode()) for r in some)
    return len(rows), round(count / size * sum(len(r["text"].encode()) for r in rows)) if every > 1 else count


def systems_of(report):
    return {s["name"]: s for s in report["systems"]}


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in rows)])


def bits_table(report):
    by_name = systems_of(report)
    merged = "merged, router tuned"
    order = [("public", "public, dense"), *((f"expert {o}", f"pair {o}") for o in OWNERS[1:]), ("merged", "merge, nothing tuned"),
             (merged, "**merge, router tuned (model.safetensors)**"), *((f"minus-{o}", f"minus {o}") for o in OWNERS), ("before", "the model before this one")]
    rows = [[shown, *(f"{by_name[name]['bits_per_byte'][o]:.3f}" for o in OWNERS)] for name, shown in order if name in by_name]
    if "before" in by_name:
        ours, theirs = (by_name[n]["bits_per_byte"] for n in (merged, "before"))
        rows.append(["fewer bits than it", *(f"{100 * (1 - ours[o] / theirs[o]):.1f} %" for o in OWNERS)])
    return table(["model", *OWNERS], rows)


def shares_table(report):
    s = systems_of(report)["merged, router tuned"]
    return table(["text of", *OWNERS], [[o, *(f"{w:.2f} ({f:.2f})" for w, f in zip(s["shares"][o], s["first"][o]))] for o in OWNERS])


def training_record(work):
    """How each part was trained; the public model's is its own where it was there before (public_of.py)."""
    with open(f"{work}/demo.yaml", encoding="utf-8") as f:
        lines = f.read().splitlines()
    options = {line.split(":")[0].strip(): line.split(": ", 1)[1] for line in lines if line.startswith(("  public: ", "  expert: ", "  router: "))}
    own = {line.split("name: ")[1].split(",")[0]: line.split("expert: ")[1].rstrip("}") for line in lines if line.startswith("  - {name: ") and "expert: " in line}
    record = {}
    for part in (*OWNERS, "router"):
        stage = {"public": "public", "router": "tuned"}.get(part, f"expert-{part}")
        steps, tokens, seconds = trained(f"{work}/stages/{stage}")
        said = options.get(part if part in ("public", "router") else "expert", "") + (f" {own[part]}" if part in own else "")
        record[part] = {"options": said, "steps": steps, "tokens": tokens, "seconds": round(seconds)}
    if os.path.exists(f"{work}/start/trained.json"):
        record["public"] = read_json(f"{work}/start/trained.json")
    return record


def training_table(flextrace, work, record):
    model, rows = f"{work}/stages/tuned/model", []
    for e, owner in enumerate(OWNERS):
        documents, tokens = corpus_tokens(flextrace, model, f"{work}/data/{owner}.train.jsonl", 1)
        r = record[owner]
        rows.append([str(e), owner, f"{documents:,}", f"{tokens:,}", f"{r['tokens']:,}", f"{r['steps']:,}", f"{r['seconds']:,}"])
    return table(["expert", "owner", "training documents", "their tokens", "tokens seen", "steps", "seconds"], rows)


def fenced(sample, text):
    shown = (sample["prompt"] + "⟦" + text + "⟧").replace("```", "'''")
    return "```text\n" + shown.strip("\n") + "\n```"


def samples_text(samples):
    out = []
    for domain in OWNERS:
        out.append(f"### {domain}\n")
        for s in samples[domain]:
            out.append(f"{s['document']}, seed {s['seed']}:\n\n{fenced(s, s['text'])}\n")
            if "without" in s:
                out.append(f"The same without the expert of {domain}:\n\n{fenced(s, s['without'])}\n")
    return "\n".join(out)


def make_model(flextrace, work):
    tuned, out = f"{work}/stages/tuned/model", f"{work}/model"
    report, broad, samples = read_json(f"{work}/stages/report.json"), read_json(f"{work}/broad.json"), read_json(f"{work}/samples.json")
    config, record = read_json(f"{tuned}/config.json"), training_record(work)
    report["training"] = record
    run(flextrace, "model", "verify", tuned)
    shutil.rmtree(out + ".part", ignore_errors=True)
    shutil.copytree(tuned, out + ".part")
    generation = {"do_sample": True, **SAMPLING, "eos_token_id": config["eos_token_id"], "pad_token_id": config["pad_token_id"]}
    write(f"{out}.part/generation_config.json", json.dumps(generation, indent=2) + "\n")
    write(f"{out}.part/eval.json", json.dumps(report, indent=1) + "\n")
    write(f"{out}.part/samples.json", json.dumps(samples, ensure_ascii=False, indent=1) + "\n")
    documents, tokens = corpus_tokens(flextrace, tuned, f"{work}/broad.jsonl.gz", 40)
    hidden, ffn, layers, vocabulary = (config[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"))
    shared = 2 * vocabulary * hidden + layers * 4 * hidden * hidden
    expert = layers * 3 * hidden * ffn
    with open(f"{HERE}/readme.txt", encoding="utf-8") as f:
        text = f.read()
    values = {"million": f"{(shared + len(OWNERS) * expert) / 1e6:.1f}", "active": f"{(shared + 2 * expert) / 1e6:.1f}", "layers": layers, "hidden": hidden,
              "heads": config["num_attention_heads"], "head_size": hidden // config["num_attention_heads"], "ffn": ffn, "vocabulary": vocabulary,
              "megabytes": f"{os.path.getsize(f'{tuned}/model.safetensors') / 1e6:.1f}", "broad_documents": f"{documents:,}",
              "broad_tokens": f"{tokens / 1e6:.0f} million", "broad_megabytes": f"{broad['bytes'] / 1e6:.0f}",
              "overlap": f"{broad['left_out_for_an_owner']:,}", "packages": ", ".join(broad["packages"]), "training": training_table(flextrace, work, record),
              "router_steps": f"{record['router']['steps']:,}", "router_tokens": f"{record['router']['tokens']:,}", "router_seconds": f"{record['router']['seconds']:,}",
              "options": "\n".join(f"{part}: {r['options']}" for part, r in record.items()), "bits": bits_table(report), "shares": shares_table(report), "samples": samples_text(samples), "sampling": ", ".join(f"{name.replace('_', '-')} {value}" for name, value in SAMPLING.items())}
    for name, value in values.items():
        text = text.replace("{" + name + "}", str(value))
    write(f"{out}.part/README.md", text)
    shutil.rmtree(out, ignore_errors=True)
    os.rename(out + ".part", out)
    digest = hashlib.sha256(open(f"{out}/model.safetensors", "rb").read()).hexdigest()
    print(f"      {out}: model.safetensors {digest}", file=sys.stderr)


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in ("samples", "model"):
        raise SystemExit(__doc__)
    (make_samples if sys.argv[1] == "samples" else make_model)(*sys.argv[2:])


if __name__ == "__main__":
    main()
