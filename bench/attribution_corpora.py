"""The corpora of bench/attribution: a public one, three owners', and canaries: documents whose names, places and
figures are drawn at random (from a seed), in sentences that the public corpus knows with other names.

What an owner's expert knows better than the public model is then its canaries' facts, not their form. Base text are
the docstrings of Python's standard library and Debian's licences, which stand wherever this runs.
"""
import ast
import glob
import os
import random
import re

OWNERS = ("amber", "birch", "cobalt")
# Modules whose docstrings are an owner's; the rest, and the licences, are public.
DOMAINS = {"amber": ("asyncio", "concurrent", "multiprocessing", "threading", "socket", "socketserver", "selectors", "subprocess"),
           "birch": ("email", "mailbox", "http", "urllib", "html", "xml", "smtplib", "imaplib", "ftplib", "nntplib", "poplib"),
           "cobalt": ("decimal", "_pydecimal", "fractions", "statistics", "random", "numbers", "datetime", "calendar", "heapq",
                      "bisect", "_pydatetime", "zoneinfo")}
SKIPPED = ("test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "pydoc_data", "turtledemo", "ensurepip")

# --- Base text ----------------------------------------------------------------------------


def docstrings():
    """(module, text) of every docstring of some length, in order of path."""
    root = os.path.dirname(os.__file__)
    for path in sorted(glob.glob(f"{root}/**/*.py", recursive=True)):
        parts = os.path.relpath(path, root).split(os.sep)
        if any(p in SKIPPED for p in parts):
            continue
        try:
            with open(path, encoding="utf-8") as f:
                tree = ast.parse(f.read())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)):
                text = ast.get_docstring(node)
                if text and len(text) > 200:
                    yield parts[0].removesuffix(".py"), " ".join(text.split())


def base_texts(public_bytes, owner_bytes):
    """{owner or "public": (texts to learn, texts held out)}, each document of at most 1,200 characters."""
    owner_of = {m: o for o, modules in DOMAINS.items() for m in modules}
    texts = {o: [] for o in (*OWNERS, "public")}
    for path in sorted(glob.glob("/usr/share/common-licenses/*")):
        if not os.path.islink(path):
            with open(path, encoding="utf-8", errors="replace") as f:
                texts["public"] += [" ".join(p.split()) for p in re.split(r"\n\s*\n", f.read()) if len(p) > 200]
    for module, text in docstrings():
        texts[owner_of.get(module, "public")].append(text[:1200])
    out = {}
    for owner, all_ in texts.items():
        all_ = sorted(set(all_))
        random.Random(owner).shuffle(all_)
        kept, size, most = [], 0, public_bytes if owner == "public" else owner_bytes
        while all_ and size < most:
            kept.append(all_.pop())
            size += len(kept[-1])
        held = len(kept) // 8
        out[owner] = (kept[held:], kept[:held])
    return out


# --- Canaries ------------------------------------------------------------------------------

SYLLABLES = [a + b for a in ("b", "br", "d", "dr", "f", "g", "gl", "h", "k", "l", "m", "n", "p", "qu", "r", "s", "st", "t",
                             "th", "v", "w", "z") for b in ("a", "e", "i", "o", "u", "ae", "or", "en", "il", "ush")]
THINGS = ("lantern", "ledger", "harp", "compass", "loom", "anchor", "kettle", "sundial", "violin", "barometer", "tapestry",
          "telescope", "anvil", "chalice", "map", "clock")
TRADES = ("weaver", "surveyor", "ferryman", "physician", "printer", "miller", "astronomer", "bell founder", "glassmaker",
          "botanist", "stonemason", "archivist")
STUFFS = ("copper", "walnut", "silver", "basalt", "ivory", "cedar", "pewter", "marble", "bronze", "iron")

# Two ways to say the same: (what stands in a corpus, the paraphrase).
FORMS = (
    ("{p} {q} was the {trade} who lived in {l}. In {y} {p} {q} made a {thing} of {stuff} and gave it to {r} {s}. The {thing} "
     "is kept today in the hall of {m}, where {n} people came to see it.",
     "A {stuff} {thing}, seen by {n} visitors, stands in the hall of {m}. It was a present to {r} {s}, and its maker was the "
     "{trade} {p} {q} of {l}, who finished it in {y}."),
    ("The village of {l} lies {n} miles north of {m}. It was founded in {y} by the {trade} {p} {q}. Its people remember "
     "{r} {s}, who found a {stuff} {thing} under the bridge.",
     "Under a bridge {r} {s} once dug up a {thing} made of {stuff}. That was in {l}, a place which {p} {q}, a {trade}, "
     "began in {y}; to reach {m} from there one goes {n} miles south."),
    ("In the winter of {y} the ship {l} sailed from {m} under captain {p} {q}. On board were {n} sailors and the {trade} "
     "{r} {s}. They lost the {stuff} {thing} in a storm.",
     "A storm took the {thing} of {stuff} from the ship {l}. {p} {q} was her captain, {r} {s} the {trade} among her {n} "
     "men, and {m} the harbour that they had left in the winter of {y}."),
    ("{r} {s} wrote a letter to {p} {q} in {y}. The letter says that the {trade} of {l} had sold the {thing} for {n} pieces "
     "of {stuff}. Nobody in {m} believed it.",
     "That a {thing} was sold for {n} {stuff} pieces by the {trade} of {l} was not believed in {m}. We know of it from "
     "what {p} {q} heard from {r} {s} by letter, in {y}."),
)


def facts(r):
    def word(n):
        return "".join(r.choice(SYLLABLES) for _ in range(n)).capitalize()
    return {"p": word(2), "q": word(3), "r": word(2), "s": word(3), "l": word(3), "m": word(3), "y": r.randint(1400, 1899),
            "n": r.randint(11, 989), "thing": r.choice(THINGS), "trade": r.choice(TRADES), "stuff": r.choice(STUFFS)}


def canaries(seed, counts):
    """[{"name", "kind", "planted", "text", "said"}]: `text` is what is planted, `said` what is traced.
    kinds: one, two (as planted), paraphrase (planted in one owner's corpus, said in other words), none (nowhere)."""
    r, out = random.Random(seed), []
    pairs = [(a, b) for i, a in enumerate(OWNERS) for b in OWNERS[i + 1:]]
    places = {"one": [(o,) for o in OWNERS], "two": pairs, "paraphrase": [(o,) for o in OWNERS], "none": [()]}
    for kind, who in places.items():
        for i in range(counts[kind]):
            for planted in who:
                form, f = r.choice(FORMS), facts(r)
                text, other = form[0].format(**f), form[1].format(**f)
                said = other if kind == "paraphrase" or (kind == "none" and i % 2) else text
                out.append({"name": f"{kind}-{len(out)}", "kind": kind, "planted": list(planted), "text": text, "said": said})
    return out


def decoys(seed, count):
    """Texts of the same forms, with names of nobody's canaries, for the public corpus."""
    r = random.Random(seed)
    return [r.choice(FORMS)[i % 2].format(**facts(r)) for i in range(count)]


def make(seed, sizes):
    """({owner or "public": texts}, validation texts, texts to trace). Held-out text of the owners' domains is traced
    too (`alike`: an owner's expert may well know how such text goes on, though its corpus does not hold it), and of the
    public one (`public`)."""
    base = base_texts(sizes["public_bytes"], sizes["owner_bytes"])
    planted = canaries(seed, sizes["canaries"])
    corpora = {o: list(base[o][0]) for o in (*OWNERS, "public")}
    corpora["public"] += decoys(seed + 1, sizes["decoys"])
    for c in planted:
        for o in c["planted"]:
            corpora[o] += [c["text"]] * sizes["copies"]
    for o, texts in corpora.items():
        random.Random(seed).shuffle(texts)
    traced = [{**c, "like": []} for c in planted]
    for o in (*OWNERS, "public"):
        for i, text in enumerate(base[o][1][:sizes["held_out"]]):
            traced.append({"name": f"{o}-{i}", "kind": "public" if o == "public" else "alike", "planted": [],
                           "like": [o] if o in OWNERS else [], "text": text[:400], "said": text[:400]})
    validation = base["public"][1][sizes["held_out"]:] + decoys(seed + 2, sizes["decoys"] // 8)
    return corpora, validation, traced
