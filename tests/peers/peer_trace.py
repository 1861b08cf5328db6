"""Traces, counts and distributions over several indexes at once, against the rules applied to plain lists."""
import json
import math
import os
import random

from common import ROOT, flextrace
from write_infinigram import write_folder

MODEL = os.path.join(ROOT, "demo", "model")
WORDS = ["the", "sea", "of", "and", "waters", "upon", "face", "light", "unbelievably", "Ærø", "3.14", "end.", "\n", " \n\n", "😀"]


def texts(count):
    """Documents of few words, so that n-grams repeat; an empty one, one twice, a periodic one."""
    made = ["".join(random.choice([" ", " ", "", "\n"]) + random.choice(WORDS) for _ in range(random.randrange(0, 60)))
            for _ in range(count)]
    return made + ["", made[0], " upon the" * 30]


class Corpus:
    """Token lists and the whole-list answers to the questions that flextrace is asked."""

    def __init__(self, docs):
        self.docs = docs
        self.total = sum(map(len, docs)) + len(docs)
        self.unigram, self.grams = {}, {}
        for doc in docs:
            for t in doc:
                self.unigram[t] = self.unigram.get(t, 0) + 1

    def count(self, ids):
        """Occurrences; tables of all n-grams of one length are kept, as many are asked."""
        if not ids:
            return self.total
        if len(ids) not in self.grams:
            table = self.grams[len(ids)] = {}
            for doc in self.docs:
                for i in range(len(doc) - len(ids) + 1):
                    key = tuple(doc[i:i + len(ids)])
                    table[key] = table.get(key, 0) + 1
        return self.grams[len(ids)].get(tuple(ids), 0)

    def followers(self, ids, end):
        found = {}
        for doc in self.docs:
            for i in range(len(doc) - len(ids) + 1):
                if doc[i:i + len(ids)] == ids:
                    t = doc[i + len(ids)] if i + len(ids) < len(doc) else end
                    found[t] = found.get(t, 0) + 1
        return found

    def longest_suffix(self, ids):
        return next(k for k in range(len(ids), -1, -1) if self.count(ids[len(ids) - k:]))


def plain_matches(corpora, ids):
    """Longest run from each position that stands in one of the corpora."""
    return [max(next(k for k in range(len(ids) - l, -1, -1) if k == 0 or c.count(ids[l:l + k])) for c in corpora)
            for l in range(len(ids))]


def plain_spans(corpora, ids, matches, row, starts):
    """The rules of docs/trace.md in their order: [start, end, count, log-probability]."""
    kept, delimiters, bow = [], set(row["delim_ids"]), row.get("enforce_bow", True)
    total = sum(c.total for c in corpora)
    for l in range(len(ids)):
        if bow and ids[l] not in starts:
            continue
        r = l + matches[l]
        first = next((i for i in range(l, r) if ids[i] in delimiters), None)
        r = r if first is None else first + 1
        while bow and r > l and r < len(ids) and ids[r] not in starts:
            r -= 1
        count = sum(c.count(ids[l:r]) for c in corpora)
        if r - l < max(1, row.get("min_len", 1)) or count > row.get("max_cnt", 1000000) or any(r <= k[1] for k in kept):
            continue
        kept.append([l, r, count, sum(math.log(sum(c.unigram.get(t, 0) for c in corpora) / total) for t in ids[l:r])])
    density = row.get("density", 0.05)
    if density > 0:
        best = sorted(kept, key=(lambda s: s[0] - s[1]) if row.get("rank") == "length" else (lambda s: s[3]))
        kept = sorted(best[:math.ceil(density * len(ids))])
    return kept


def plain_documents(names, corpora, ids):
    """(owner, id of the document) of every document that holds the n-gram, and how often."""
    return {(name, d): hits for name, c in zip(names, corpora) for d, doc in enumerate(c.docs)
            if (hits := sum(doc[i:i + len(ids)] == ids for i in range(len(doc))))}


def responses(corpora, vocabulary):
    """Stitched from pieces of the documents, with foreign tokens between; also the empty one."""
    made = [[]]
    for _ in range(40):
        ids = []
        for _ in range(random.randrange(1, 8)):
            doc = random.choice([d for c in corpora for d in c.docs if d])
            at = random.randrange(len(doc))
            ids += doc[at:at + random.randrange(1, 20)]
            if random.random() < 0.4:
                ids.append(random.choice(vocabulary))
        made.append(ids)
    return made


def rows_about(given, vocabulary):
    rows = []
    for ids in given:
        row = {"ids": ids, "delim_ids": random.sample(vocabulary, random.choice([0, 1, 2, 5]))}
        for field, values in (("min_len", [0, 1, 2, 3, 8]), ("max_cnt", [0, 1, 2, 10, 1000]), ("enforce_bow", [True, False]),
                              ("density", [0, 0.05, 0.1, 0.5, 1]), ("rank", ["unigram", "length"])):
            if random.random() < 0.6:
                row[field] = random.choice(values)
        row["max_documents"] = 1000
        rows.append(row)
    return rows


def check_traces(options, names, corpora, starts, rows):
    for row, trace in zip(rows, flextrace("trace", *options, rows=rows)):
        matches = plain_matches(corpora, row["ids"])
        assert trace["matches"] == matches, (row, trace["matches"], matches)
        want = plain_spans(corpora, row["ids"], matches, row, starts)
        got = [[s["start"], s["end"], s["count"]] for s in trace["spans"]]
        assert got == [w[:3] for w in want], (row, got, want)
        for span, (start, end, _, logprob) in zip(trace["spans"], want):
            assert abs(span["unigram_logprob_sum"] - logprob) < 1e-9, (row, span, logprob)
            holders = plain_documents(names, corpora, row["ids"][start:end])
            per_owner = {}
            for name, c in zip(names, corpora):
                n = c.count(row["ids"][start:end])
                if n:
                    per_owner[name] = per_owner.get(name, 0) + n
            assert span["owner_counts"] == per_owner, (row, span["owner_counts"], per_owner)
            assert span["owners"] == sorted(per_owner, key=lambda o: (-per_owner[o], o)), (row, span["owners"], per_owner)
            shown = [(d["owner"], d["document"]) for d in span["docs"]]
            assert len(set(shown)) == len(shown) and set(shown) <= set(holders), (row, shown, holders)
            if span["count"] <= 10:
                assert set(shown) == set(holders), (row, shown, holders)
            for d in span["docs"]:
                doc = corpora[names.index(d["owner"])].docs[d["document"]]
                assert doc[d["position"]:d["position"] + end - start] == row["ids"][start:end] and d["length"] == len(doc), (row, d)


def check_queries(options, corpora, end, rows):
    ops = {op: flextrace("index", "query", *options, rows=[{"op": op, "ids": r} for r in rows])
           for op in ("count", "ntd", "prob", "infgram_prob", "infgram_ntd")}
    for i, ids in enumerate(rows):
        whole = sum(c.count(ids) for c in corpora)
        assert ops["count"][i]["count"] == whole, (ids, ops["count"][i], whole)
        check_distribution(ops["ntd"][i], corpora, ids, end)
        tail = max(c.longest_suffix(ids) for c in corpora)
        check_distribution(ops["infgram_ntd"][i], corpora, ids[len(ids) - tail:], end)
        if not ids:
            continue
        asked = sum(c.count(ids[:-1]) for c in corpora)
        answer = ops["prob"][i]
        assert (answer["prompt_cnt"], answer["cont_cnt"]) == (asked, whole), (ids, answer)
        assert answer["prob"] == (whole / asked if asked else -1), (ids, answer)
        tail = max(c.longest_suffix(ids[:-1]) for c in corpora)
        used = ids[len(ids) - 1 - tail:]
        answer, asked, whole = ops["infgram_prob"][i], sum(c.count(used[:-1]) for c in corpora), sum(c.count(used) for c in corpora)
        assert (answer["suffix_len"], answer["prompt_cnt"], answer["cont_cnt"]) == (tail, asked, whole), (ids, answer)


def check_distribution(answer, corpora, ids, end):
    want = {}
    for c in corpora:
        for t, n in c.followers(ids, end).items():
            want[t] = want.get(t, 0) + n
    got = {int(t): v["cont_cnt"] for t, v in answer["result_by_token_id"].items()}
    assert got == want, (ids, got, want)
    assert answer["prompt_cnt"] == sum(want.values()), (ids, answer["prompt_cnt"], sum(want.values()))


def our_indexes(folder, owners):
    """One index an owner; the token lists as flextrace's own tokenizer gives them."""
    corpora, options = [], []
    for name, memory in owners:
        given = texts(40)
        with open(f"{folder}/{name}.jsonl", "w", encoding="utf-8") as f:
            for i, text in enumerate(given):
                f.write(json.dumps({"id": f"{name}-{i}", "text": text}) + "\n")
        flextrace("index", "build", f"{folder}/{name}", "-t", MODEL, "--owner", name, *memory, f"{folder}/{name}.jsonl")
        corpora.append(Corpus([a["ids"] for a in flextrace("tokenize", "-t", MODEL, rows=[{"text": t} for t in given])]))
        options.append(f"{folder}/{name}")
    return corpora, options


def word_starts(folder, vocabulary):
    starts = set(random.sample(vocabulary, len(vocabulary) * 2 // 3))
    with open(f"{folder}/bow.txt", "w", encoding="ascii") as f:
        f.writelines(f"{t}\n" for t in sorted(starts))
    return starts


def test_traces_over_several_indexes_follow_the_rules(folder, seed):
    names = ["farm", "harbour", "town"]
    corpora, paths = our_indexes(folder, [(n, []) for n in names])
    vocabulary = sorted({t for c in corpora for t in c.unigram} | {0, 8191, 7})
    starts = word_starts(folder, vocabulary)
    given = responses(corpora, vocabulary)
    check_traces(["--bow", f"{folder}/bow.txt", "-i", *paths], names, corpora, starts, rows_about(given, vocabulary))
    end = json.load(open(f"{MODEL}/config.json", encoding="utf-8"))["eos_token_id"]
    check_queries(paths, corpora, end, [g[:5] for g in given] + [g[3:5] for g in given])


def test_traces_over_infini_gram_folders_follow_the_rules(folder, seed):
    for width, version, shards, size, end in (("u8", 4, 1, 60, 200), ("u16", 5, 2, 300, 60000), ("u32", 4, 3, 80, 100257)):
        vocabulary = list(range(1, size))
        names, corpora = [f"{width}-a", f"{width}-b"], []
        for name in names:
            docs = [[random.choice(vocabulary[:12] + [random.choice(vocabulary)]) for _ in range(random.randrange(0, 70))] for _ in range(25)]
            docs[5], docs[6] = [], list(docs[4])
            write_folder(f"{folder}/{name}", docs, width, version, shards)
            corpora.append(Corpus([doc for s in range(shards) for doc in docs[s::shards]]))
        starts = word_starts(folder, vocabulary)
        given = responses(corpora, vocabulary + [size, 250])
        paths = [f"{folder}/{n}" for n in names]
        flags = ["--infini-gram", version, "--eot", end]
        check_traces([*flags, "--bow", f"{folder}/bow.txt", "-i", *paths], names, corpora, starts, rows_about(given, vocabulary))
        check_queries([*paths, *flags], corpora, end, [g[:4] for g in given] + [g[2:4] for g in given])
