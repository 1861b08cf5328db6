"""bench/attribution: does attribution tell the truth? Canaries in three owners' corpora, experts trained on them,
and what each evidence and the verdict say of texts whose source is known.

    bench/attribution [OPTIONS]

  --folder F       where corpora, models and traces are kept; what is there is not made again (default
                   $FLEXTRACE_BENCH, else flextrace-bench in the system's temporary folder, then /attribution)
  --seed S         of canaries and training (1)
  --tokenizer TOK  (default: the demo model's)
  --markdown F     the report into a file too; FOLDER/report.json has all figures
  --top-k K        experts that read a token in the merged model (4: all)
  --score          only score what was traced before
  --also F         the report is over this folder's run too, of another seed (may be given several times)
  --threads N      of each training and trace (default: all processors)
  --expert-steps N  of each expert's training (300); with more it overfits its owner's text more
  --at-once N      experts that are trained, and texts that are written, at once, each with its --threads (1)

Environment: FLEXTRACE, the program (else build/release is built). Standard library of Python alone. About twenty minutes on two busy
cores.

Steps: corpora and canaries (attribution_corpora.py); `train public`, `train expert` for each owner, `merge`; one index
an owner; a federation with a validation text; `generate` from the first words of each canary, and `trace --causal` of
what was generated and of every text as it stands; the score (attribution_score.py): thresholds chosen on one half of the
canaries, figures from the other.
"""
import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import time

import attribution_corpora as corpora
import attribution_score as score

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
SIZES = {"public_bytes": 400_000, "owner_bytes": 24_000, "decoys": 600, "held_out": 40, "copies": 2,
         "canaries": {"one": 16, "two": 8, "paraphrase": 16, "none": 48}}
CONFIG = {"architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", "attention_bias": False, "hidden_act": "silu",
          "hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 4,
          "num_hidden_layers": 3, "max_position_embeddings": 1024, "rms_norm_eps": 1e-6, "rope_scaling": None,
          "rope_theta": 10000, "tie_word_embeddings": False, "torch_dtype": "float32", "initializer_range": 0.02}
PUBLIC = ("--steps", 400, "--batch", 8, "--length", 256, "--rate", 4e-3)
EXPERT = ("--batch", 8, "--length", 128, "--rate", 4e-3, "--public-share", 0.125)
PARTIES = ("public", *corpora.OWNERS)


class Bench:
    def __init__(self, given):
        self.folder, self.seed, self.threads = given.folder, given.seed, given.threads
        self.program = os.environ.get("FLEXTRACE", f"{ROOT}/build/release/flextrace")
        self.trainer = os.environ.get("FLEXTRACE_TRAIN", self.program)
        self.tokenizer, self.top_k = given.tokenizer, given.top_k
        self.at_once, self.expert_steps = given.at_once, given.expert_steps
        os.makedirs(self.folder, exist_ok=True)

    def path(self, name):
        return f"{self.folder}/{name}"

    def run(self, *command, rows=None, program=None, quiet=False):
        begin = time.monotonic()
        text = None if rows is None else "".join(json.dumps(r) + "\n" for r in rows)
        done = subprocess.run([program or self.program, *map(str, command)], input=text, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"bench/attribution: exit {done.returncode}: {' '.join(map(str, command))}: {done.stderr.strip()[-400:]}")
        if not quiet:
            print(f"# {time.monotonic() - begin:6.1f} s  {' '.join(map(str, command[:2]))}", file=sys.stderr, flush=True)
        return done.stdout

    def missing(self, name):
        return not os.path.exists(self.path(name))

    def write_rows(self, name, rows):
        with open(self.path(name + ".part"), "w", encoding="utf-8") as f:
            f.writelines(json.dumps(r) + "\n" for r in rows)
        os.replace(self.path(name + ".part"), self.path(name))

    def read_rows(self, name):
        with open(self.path(name), encoding="utf-8") as f:
            return [json.loads(line) for line in f]

    # --- Making ---------------------------------------------------------------------------

    def make_corpora(self):
        if not self.missing("traced.jsonl"):
            return
        texts, validation, traced = corpora.make(self.seed, SIZES)
        for owner, rows in texts.items():
            self.write_rows(f"{owner}.jsonl", [{"id": f"{owner}-{i}", "text": t} for i, t in enumerate(rows)])
        self.write_rows("validation.jsonl", [{"id": f"v-{i}", "text": t} for i, t in enumerate(validation)])
        self.write_rows("traced.jsonl", traced)

    def make_start(self):
        start = self.path("start")
        os.makedirs(start, exist_ok=True)
        source = self.tokenizer if self.tokenizer.endswith(".json") else f"{self.tokenizer}/tokenizer.json"
        with open(source, encoding="utf-8") as f:
            text = f.read()
        made = json.loads(text)
        added = made.get("added_tokens") or []
        end = next((t["id"] for t in added if "endoftext" in t["content"]), 0)
        vocab = 1 + max([max(made["model"]["vocab"].values()), *[t["id"] for t in added]])
        with open(f"{start}/tokenizer.json", "w", encoding="utf-8") as f:
            f.write(text)
        with open(f"{start}/config.json", "w", encoding="utf-8") as f:
            json.dump({**CONFIG, "vocab_size": vocab, "eos_token_id": end, "pad_token_id": end}, f)
        return start

    def train(self):
        common = ("--seed", self.seed, "--threads", self.threads)
        public = self.path("public/model")
        if self.missing("public/model/model.safetensors"):
            self.run("train", "public", self.make_start(), "--corpus", self.path("public.jsonl"), "-o", self.path("public"), *PUBLIC, *common,
                     program=self.trainer)

        def train_expert(owner):
            self.run("train", "expert", "--public", public, "--corpus", self.path(f"{owner}.jsonl"), "--owner", owner, "--public-corpus",
                     self.path("public.jsonl"), "-o", self.path(owner), "--steps", self.expert_steps, *EXPERT, *common,
                     program=self.trainer)

        with concurrent.futures.ThreadPoolExecutor(self.at_once) as workers:
            list(workers.map(train_expert, [o for o in corpora.OWNERS if self.missing(f"{o}/expert")]))
        if self.missing("merged"):
            self.run("merge", "--public", public, *(self.path(f"{o}/expert") for o in corpora.OWNERS), "-o", self.path("merged"),
                     program=self.trainer)

        with open(self.path("merged/config.json"), encoding="utf-8") as f:
            config = json.load(f)
        if config["num_experts_per_tok"] != self.top_k:
            with open(self.path("merged/config.json"), "w", encoding="utf-8") as f:
                json.dump({**config, "num_experts_per_tok": self.top_k}, f)

    def federate(self):
        for owner in PARTIES:
            if self.missing(f"index-{owner}"):
                self.run("index", "build", self.path(f"index-{owner}"), "-t", self.path("start"), "--owner", owner, self.path(f"{owner}.jsonl"))
        with open(self.path("federation.yaml"), "w", encoding="utf-8") as f:  # JSON is YAML
            json.dump({"name": "canaries", "model": "merged", "validation": "validation.jsonl", "owners":
                       [{"name": o, "expert": e, "index": [f"index-{o}"]} for e, o in enumerate(PARTIES)]}, f)
        return self.path("federation.yaml")

    # --- Tracing --------------------------------------------------------------------------

    def trace(self, federation, name, rows):
        """Traces with all spans, of rows that have "prompt" and "text" or "ids"."""
        asked = [{**{k: r[k] for k in ("prompt", "text", "ids", "prompt_ids") if k in r}, "density": 0, "max_documents": 1, "causal": True}
                 for r in rows]
        answers = self.run("trace", federation, "--threads", self.threads, rows=asked).splitlines()
        self.write_rows(name, [{**r, "trace": slim(json.loads(a))} for r, a in zip(rows, answers, strict=True)])

    def generate(self, federation, row):
        """The row with what the model goes on with after its first eight words."""
        prompt = " ".join(row["text"].split()[:8])
        made = json.loads(self.run("generate", federation, "-p", prompt, "-n", 70, "--json", "--threads", self.threads, quiet=True))
        out = {**row, "wanted": row["text"][len(prompt):], "prompt": prompt, "ids": made["ids"], "said": made["text"]}
        del out["text"]
        return out

    def trace_all(self):
        federation = self.federate()
        traced = self.read_rows("traced.jsonl")
        with concurrent.futures.ThreadPoolExecutor(self.at_once) as workers:
            forced = None
            if self.missing("forced.trace.jsonl"):
                forced = workers.submit(self.trace, federation, "forced.trace.jsonl", [{**row, "text": row["said"], "prompt": ""} for row in traced])
            if self.missing("generated.jsonl"):
                prompted = [row for row in traced if row["kind"] in ("one", "two", "none")]
                self.write_rows("generated.jsonl", list(workers.map(lambda row: self.generate(federation, row), prompted)))
            if self.missing("generated.trace.jsonl"):
                self.trace(federation, "generated.trace.jsonl", self.read_rows("generated.jsonl"))
            if forced:
                forced.result()


def slim(trace):
    """What the score reads of a trace."""
    keep = ("start", "end", "text", "unigram_logprob_sum", "evidence", "verdict", "verdict_rule", "verdict_owners")
    return {"spans": [{k: s[k] for k in keep} for s in trace["spans"]], "evidence": trace.get("evidence"), "tokens": len(trace.get("tokens") or [])}


# --- Spans ------------------------------------------------------------------------------


def spans_of(rows, texts):
    """Spans for the score; holders by a search for the words in the corpora themselves, not in any index."""
    out = []
    for row in rows:
        for s in row["trace"]["spans"]:
            owners = {}
            for e in s["evidence"]:
                v, r, c = e["verbatim"], e["routing"], e["causal"]
                owners[e["owner"]] = {"public": e["expert"] == 0, "count": v and v["count"], "share": r and r["share"],
                                      "usual": r and r["usual"], "loss": c and c["loss"]}
            held = [o for o in PARTIES if s["text"] in texts[o]]
            out.append({"canary": row["name"], "kind": row["kind"], "planted": row["planted"], "like": row["like"], "text": s["text"],
                        "holders": [o for o in held if o != "public"], "public_holds": "public" in held, "length": s["end"] - s["start"],
                        "nats": -s["unigram_logprob_sum"], "owners": owners, "verdict": s["verdict"], "rule": s["verdict_rule"],
                        "named": s["verdict_owners"]})
    return out


def read_run(folder):
    """What was traced in a folder: spans with canaries' names that are no other folder's."""
    def rows(name):
        with open(f"{folder}/{name}", encoding="utf-8") as f:
            return [{**r, "name": f"{folder} {r['name']}"} if "name" in r else r for r in map(json.loads, f)]
    texts = {o: "\0".join(r["text"] for r in rows(f"{o}.jsonl")) for o in PARTIES}
    forced, made = rows("forced.trace.jsonl"), rows("generated.trace.jsonl")
    return {"forced": spans_of(forced, texts), "generated": spans_of(made, texts), "traced": rows("traced.jsonl"), "made": made,
            "thresholds": forced[0]["trace"]["evidence"]["thresholds"]}


def check_rule(spans, thresholds):
    """The score's rule must be the program's, span for span: else the figures would be of something else."""
    for s in spans:
        _, names = score.judge(s, thresholds)
        if names != {n for n in s["named"] if not s["owners"][n]["public"]}:
            raise SystemExit(f"bench/attribution: the rule here names {sorted(names)}, the program {s['named']} ({s['rule']}): {s}")


def main():
    p = argparse.ArgumentParser(usage=__doc__, add_help=False)
    p.add_argument("-h", "--help", action="store_true")
    p.add_argument("--folder", default=os.environ.get("FLEXTRACE_BENCH", f"{tempfile.gettempdir()}/flextrace-bench") + "/attribution")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--tokenizer", default=f"{ROOT}/demo/model/tokenizer.json")
    p.add_argument("--top-k", type=int, default=4)
    p.add_argument("--markdown")
    p.add_argument("--score", action="store_true")
    p.add_argument("--also", action="append", default=[])
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--at-once", type=int, default=1)
    p.add_argument("--expert-steps", type=int, default=300)
    a = p.parse_args()
    if a.help:
        print(__doc__)
        return
    b = Bench(a)
    if not a.score:
        b.make_corpora()
        b.train()
        b.trace_all()
    import attribution_report
    runs = [read_run(f) for f in (a.folder, *a.also)]
    thresholds = runs[0]["thresholds"]
    if any(r["thresholds"] != thresholds for r in runs):
        raise SystemExit("bench/attribution: the runs were traced with different thresholds")
    sets = {n: [s for r in runs for s in r[n]] for n in ("forced", "generated")}
    for spans in sets.values():
        check_rule(spans, thresholds)
    half = {}
    for r in runs:
        half |= score.halves([(c["name"], c["kind"], c["planted"]) for c in r["traced"]])
    report = attribution_report.make(sets, half, [g for r in runs for g in r["made"]], thresholds)
    with open(b.path("report.json"), "w", encoding="utf-8") as f:
        json.dump(report, f, indent=1)
    text = attribution_report.markdown(report)
    print(text)
    if a.markdown:
        with open(a.markdown, "w", encoding="utf-8") as f:
            f.write(text)


if __name__ == "__main__":
    main()
