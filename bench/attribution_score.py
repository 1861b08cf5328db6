"""The arithmetic of bench/attribution: who is named by each evidence, how often rightly, and from which threshold on.

A *span* here is a dict:
    canary, kind   which text it was found in, and what kind of text that is
    planted        owners in whose corpus that text, or the text that it says in other words, was planted
    set            "forced" (a text as it stands) or "generated"
    like           owners whose text it is like: text of an owner's domain that was held out of its corpus
    holders        owners whose corpus holds the span's words, by a plain search in the corpora
    public_holds   whether the public corpus does
    length, nats   tokens; -log-probability under the unigram model
    owners         {name: {"public", "count", "share", "usual", "loss"}}; count, share, usual and loss may be None
    verdict, rule, named   what the program said

Names are sets of owners other than the public one. tests/check_attribution.py checks all of this on cases by hand.
"""
import itertools
import math
import random

DEFAULTS = {"verbatim_tokens": 6, "verbatim_nats": 40, "routing_excess": 0.40, "routing_ratio": 3, "causal_nats": 3,
            "causal_nats_per_token": 0.3}
EVIDENCE = ("verbatim", "routing", "causal", "uncaused", "verdict")  # uncaused: the verdict where no cause was asked for
STEPS = {"verbatim_tokens": (3, 4, 5, 6, 8, 10, 12), "verbatim_nats": (10, 15, 20, 25, 30, 40, 50, 60, 80),
         "routing_excess": (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4), "routing_ratio": (1.1, 1.25, 1.5, 2, 3),
         "causal_nats": (0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12), "causal_nats_per_token": (0, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3)}


# --- Who is named -----------------------------------------------------------------------


def speaks(span, evidence, t):
    """Owners, the public one too, for whom one kind of evidence speaks by itself."""
    out = set()
    for name, o in span["owners"].items():
        if evidence == "verbatim":
            yes = bool(o["count"]) and span["length"] >= t["verbatim_tokens"] and span["nats"] >= t["verbatim_nats"]
        elif evidence == "routing":
            yes = (o["share"] is not None and o["usual"] is not None and o["share"] - o["usual"] >= t["routing_excess"]
                   and o["share"] >= t["routing_ratio"] * o["usual"])
        else:
            yes = (o["loss"] is not None and o["loss"] >= t["causal_nats"]
                   and o["loss"] >= t["causal_nats_per_token"] * span["length"])
        if yes:
            out.add(name)
    return out


def judge(span, t):
    """The program's verdict by docs/attribution.md: (rule's kind or None, owners named without the public one)."""
    public = {n for n, o in span["owners"].items() if o["public"]}
    by_text = speaks(span, "verbatim", t)
    if by_text:
        return "verbatim", set() if by_text & public else by_text
    caused = any(o["loss"] is not None for o in span["owners"].values())
    names = speaks(span, "causal" if caused else "routing", t)
    if caused:  # an expert that had no more of the weight than usual was not at work
        names = {n for n in names if span["owners"][n]["share"] is None or span["owners"][n]["usual"] is None
                 or span["owners"][n]["share"] > span["owners"][n]["usual"]}
    if any(span["owners"][n]["count"] for n in public):  # words of the public corpus are everybody's
        names &= public
    if any(o["count"] for o in span["owners"].values()):  # words of some owners' corpora are no other owner's
        names = {n for n in names if n in public or span["owners"][n]["count"] or span["owners"][n]["count"] is None}
    return ("causal" if caused else "routing") if names else None, names - public


def uncaused(span):
    return {**span, "owners": {n: {**o, "loss": None} for n, o in span["owners"].items()}}


def named(span, evidence, t):
    if evidence in ("verdict", "uncaused"):
        return judge(uncaused(span) if evidence == "uncaused" else span, t)[1]
    names = speaks(span, evidence, t)
    public = {n for n in names if span["owners"][n]["public"]}
    return set() if evidence == "verbatim" and public else names - public


# --- Right or wrong ----------------------------------------------------------------------


def is_true(span, owner, by_words):
    """Whether naming the owner is right: what was planted, or, named for its words, a corpus that holds them."""
    return owner in span["planted"] or (by_words and owner in span["holders"])


def tally(spans, evidence, t):
    """Counts over (span, owner) pairs. `wanted` are owners of spans that the public corpus does not hold: nobody need
    name an owner for words that are everybody's. `spans_false` name an owner whose corpus does not hold it;
    `spans_wrong` one whose text it is not even like: an expert knows how its owner's kind of text goes on;
    `spans_unheld` one whose corpus holds not even the span's words."""
    out = {"spans": len(spans), "named": 0, "right": 0, "wanted": 0, "found": 0, "spans_false": 0, "spans_wrong": 0, "spans_unheld": 0,
           "canaries": {}}
    for s in spans:
        names = named(s, evidence, t)
        by_words = evidence == "verbatim" or (evidence in ("verdict", "uncaused") and judge(s, t)[0] == "verbatim")
        right = {n for n in names if is_true(s, n, by_words)}
        wanted = set() if s["public_holds"] else set(s["planted"])
        out["named"] += len(names)
        out["right"] += len(right)
        out["wanted"] += len(wanted)
        out["found"] += len(wanted & names)
        out["spans_false"] += bool(names - right)
        out["spans_wrong"] += bool(names - right - set(s["like"]))
        out["spans_unheld"] += bool(names - right - set(s["holders"]))
        accused = out["canaries"].setdefault(s["canary"], [False, False])
        accused[0] |= bool(names & set(s["planted"]))
        accused[1] |= bool(names - right)
    return out


def ratio(a, b):
    return a / b if b else None


def top_one(span, evidence):
    """The private owner for whom the evidence is strongest; None where all are equal or nothing is known."""
    def strength(o):
        if evidence == "routing":
            return None if o["share"] is None or o["usual"] is None else o["share"] - o["usual"]
        return o["loss"]
    values = {n: strength(o) for n, o in span["owners"].items() if not o["public"]}
    if any(v is None for v in values.values()) or len(set(values.values())) < 2:
        return None
    return max(values, key=values.get)


def chance(span):
    """How often a guess among the private owners is right."""
    private = [n for n, o in span["owners"].items() if not o["public"]]
    return len(set(span["planted"]) & set(private)) / len(private)


def to_be_influenced(spans, t):
    """Spans of planted texts that their words do not decide and that the public corpus does not hold."""
    return [s for s in spans if s["planted"] and not s["public_holds"] and judge(s, t)[0] != "verbatim"
            and not speaks(s, "verbatim", t)]


# --- Intervals -----------------------------------------------------------------------------


def wilson(k, n, z=1.959964):
    """Wilson's 95 % interval of k of n."""
    if not n:
        return (0.0, 1.0)
    p, zz = k / n, z * z
    middle, half = p + zz / (2 * n), z * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
    return (max(0.0, (middle - half) / (1 + zz / n)), min(1.0, (middle + half) / (1 + zz / n)))


def bootstrap(spans, measure, rounds=1000, seed=1):
    """95 % interval of measure(spans) where whole canaries are drawn: spans of one text are not independent."""
    groups = {}
    for s in spans:
        groups.setdefault(s["canary"], []).append(s)
    keys, r, values = sorted(groups), random.Random(seed), []
    if not keys:
        return (None, None)
    for _ in range(rounds):
        v = measure([s for k in r.choices(keys, k=len(keys)) for s in groups[k]])
        if v is not None:
            values.append(v)
    values.sort()
    return (values[int(0.025 * len(values))], values[min(len(values) - 1, int(0.975 * len(values)))]) if values else (None, None)


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else None


def accuracy(spans, evidence):
    return mean(top_one(s, evidence) in s["planted"] for s in spans)


def advantage(spans):
    """Accuracy by cause less accuracy by routing."""
    return None if not spans else accuracy(spans, "causal") - accuracy(spans, "routing")


def over_chance(spans):
    return None if not spans else accuracy(spans, "causal") - mean(chance(s) for s in spans)


# --- Thresholds ------------------------------------------------------------------------------


def halves(canaries):
    """{canary: 0 | 1}: every other one of each kind and owner, in the order given as (canary, kind, planted)."""
    seen, out = {}, {}
    for name, kind, planted in canaries:
        key = (kind, tuple(planted))
        out[name] = seen.get(key, 0) % 2
        seen[key] = seen.get(key, 0) + 1
    return out


def best_pair(spans, evidence, names, base, limit, wanted):
    """The two thresholds of one kind with the highest recall over `wanted`, of those with which at most `limit` of the spans
    of each set name an owner whose corpus does not hold the text; of equals the strictest. The strictest of all where
    none does."""
    best, chosen = None, {n: STEPS[n][-1] for n in names}
    sets = {}
    for s in spans:
        sets.setdefault(s.get("set"), []).append(s)
    for values in itertools.product(*(STEPS[n] for n in names)):
        t = {**base, **dict(zip(names, values))}
        false = {n: tally(some, evidence, t)["spans_false"] for n, some in sets.items()}
        if any(k > limit * len(sets[n]) for n, k in false.items()):
            continue
        got = tally(wanted, evidence, t)
        score = (got["found"], -sum(false.values()), values)
        if best is None or score > best:
            best, chosen = score, dict(zip(names, values))
    return chosen


def calibrate(spans, limit=0.005):
    """Thresholds from one half: the words' first, then routing's and cause's, as the verdict uses them. For the words,
    naming an owner is right only where the text was planted: what a corpus holds by chance is not attribution."""
    t = dict(DEFAULTS)
    texts = [s for s in spans if s.get("set") != "generated"]  # what was generated need not be anybody's
    strict = [{**s, "holders": ()} for s in texts if not s["like"]]  # of an owner's own kind of text it may hold a phrase
    planted = [s for s in strict if s["planted"] and not s["public_holds"]]
    t.update(best_pair(strict, "verbatim", ("verbatim_tokens", "verbatim_nats"), t, limit, planted))
    open_ = to_be_influenced(texts, t)
    t.update(best_pair(spans, "uncaused", ("routing_excess", "routing_ratio"), t, limit, open_))
    t.update(best_pair(spans, "verdict", ("causal_nats", "causal_nats_per_token"), t, limit, open_))
    return t
