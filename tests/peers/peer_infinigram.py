"""flextrace reading folders that infini-gram wrote, against infini-gram's engine and a plain scan."""
import json
import os
import random
import shutil
import subprocess
import sys

import infini_gram
import numpy
from infini_gram.engine import InfiniGramEngine

import write_infinigram
from common import flextrace

WIDTHS = {"u8": (numpy.uint8, 1), "u16": (numpy.uint16, 2)}


def documents(vocabulary):
    """Documents over few tokens, so that n-grams repeat; an empty one, and one twice."""
    docs = [[random.randrange(1, vocabulary) for _ in range(random.randrange(0, 120))] for _ in range(40)]
    docs[7] = []
    docs[13] = list(docs[5])
    docs[21] = docs[3][:10]
    return docs


def write_folder(folder, docs, width, version, shards):
    """What infini-gram's tokenize step writes; its own build_sa makes the suffix arrays."""
    if width == "u32":  # its builder asks for 32 GiB of address space here
        write_infinigram.write_folder(folder, docs, width, version, shards)
        return
    dtype, size = WIDTHS[width]
    os.makedirs(folder)
    for s in range(shards):
        blob, offsets = b"", []
        for doc in docs[s::shards]:
            offsets.append(len(blob))
            tokens = doc[::-1] if version == 5 else doc
            blob += b"\xff" * size + numpy.array(tokens, dtype=dtype).tobytes()
        open(f"{folder}/tokenized.{s}", "wb").write(blob)
        numpy.array(offsets, dtype=numpy.uint64).tofile(f"{folder}/offset.{s}")
    subprocess.run([sys.executable, "-m", "infini_gram.indexing", "--data_dir", folder, "--save_dir", folder, "--token_dtype", width,
                    "--version", str(version), "--shards", str(shards), "--cpus", "1", "--mem", "1", "--ulimit", "1024"], check=True,
                   capture_output=True)


def plain_count(docs, ids):
    if not ids:
        return sum(map(len, docs)) + len(docs)
    return sum(doc[i:i + len(ids)] == ids for doc in docs for i in range(len(doc)))


def queries(docs, vocabulary):
    rows = [[]]
    for _ in range(150):
        doc = random.choice([d for d in docs if len(d) > 8])
        start = random.randrange(len(doc))
        ids = doc[start:start + random.randrange(1, 7)]
        if random.random() < 0.3:
            ids = ids[:-1] + [random.randrange(1, vocabulary)]
        rows.append(ids)
    return rows


def compare(folder, width, version, shards, vocabulary, eos):
    docs = documents(vocabulary)
    path = f"{folder}/{width}-{version}-{shards}"
    write_folder(path, docs, width, version, shards)
    engine = InfiniGramEngine(path, eos_token_id=eos, vocab_size=max(vocabulary, eos + 1), version=version, token_dtype=width)
    rows = queries(docs, vocabulary)
    options = ["index", "query", path, "--infini-gram", version, "--eot", eos]
    counts = flextrace(*options, rows=[{"op": "count", "ids": r} for r in rows])
    finds = flextrace(*options, rows=[{"op": "find", "ids": r} for r in rows])
    tails = flextrace(*options, rows=[{"op": "ntd", "ids": r} for r in rows])
    infgrams = flextrace(*options, rows=[{"op": "infgram_prob", "ids": r} for r in rows if r])
    for ids, count, find, tail in zip(rows, counts, finds, tails):
        assert count["count"] == plain_count(docs, ids), (ids, count)
        peer = engine.find(ids)
        assert find["cnt"] == peer["cnt"], (ids, find, peer)
        assert [list(s) for s in find["segment_by_shard"]] == [list(s) for s in peer["segment_by_shard"]], (ids, find, peer)
        want = {}
        for doc in docs:
            for i in range(len(doc) + 1):
                if doc[i:i + len(ids)] == ids and i + len(ids) <= len(doc):
                    follower = doc[i + len(ids)] if i + len(ids) < len(doc) else eos
                    want[follower] = want.get(follower, 0) + 1
        if ids:
            got = {int(k): v["cont_cnt"] for k, v in tail["result_by_token_id"].items()}
            assert got == want, (ids, got, want)
    for ids, ours in zip([r for r in rows if r], infgrams):
        theirs = engine.infgram_prob(ids[:-1], ids[-1])
        assert (ours["prompt_cnt"], ours["cont_cnt"], ours["suffix_len"]) == (theirs["prompt_cnt"], theirs["cont_cnt"],
                                                                               theirs["suffix_len"]), (ids, ours, theirs)
    cnfs = [[[random.choice(rows[1:])[:2] for _ in range(random.randrange(1, 3))] for _ in range(random.randrange(1, 4))] for _ in range(60)]
    ours = flextrace(*options, rows=[{"op": "cnf", "cnf": c, "max_diff_tokens": 10} for c in cnfs])
    for cnf, answer in zip(cnfs, ours):
        assert answer["count"] == plain_cnf(docs, cnf, 10), (cnf, answer)
    shutil.rmtree(path)


def plain_cnf(docs, cnf, window):
    def places(ids):
        return [(d, i) for d, doc in enumerate(docs) for i in range(len(doc)) if doc[i:i + len(ids)] == ids]
    clauses = [[p for ids in clause for p in places(ids)] for clause in cnf]
    if len(clauses) == 1:
        return len(clauses[0])
    anchor = min(range(len(clauses)), key=lambda c: len(clauses[c]))
    others = [set(c) for i, c in enumerate(clauses) if i != anchor]
    return sum(all(any((d, i + j) in other for j in range(-window, window + 1)) for other in others) for d, i in clauses[anchor])


def test_u8_folders_of_version_4_answer_as_a_plain_scan_and_the_peer(folder, seed):
    compare(folder, "u8", 4, 1, 9, 200)


def test_u16_folders_with_two_shards_answer_as_a_plain_scan_and_the_peer(folder, seed):
    compare(folder, "u16", 4, 2, 700, 699)


def test_u32_folders_answer_as_a_plain_scan_and_the_peer(folder, seed):
    compare(folder, "u32", 4, 1, 9, 100257)


def test_u32_folders_of_version_5_answer_as_a_plain_scan_and_the_peer(folder, seed):
    compare(folder, "u32", 5, 2, 300, 100257)


def test_our_index_answers_as_a_plain_scan(folder, seed):
    """Text of few words, so that n-grams repeat; the demo's tokenizer."""
    model = os.path.join(os.path.dirname(__file__), "..", "..", "demo", "model")
    words = ["the", "sea", "of", "and", "waters", "upon", "face", "\n", "light."]
    texts = [" ".join(random.choice(words) for _ in range(random.randrange(1, 80))) for _ in range(60)]
    with open(f"{folder}/c.jsonl", "w", encoding="utf-8") as f:
        for i, text in enumerate(texts):
            f.write(json.dumps({"id": f"d{i}", "text": text}) + "\n")
    flextrace("index", "build", f"{folder}/index", "-t", model, f"{folder}/c.jsonl")
    docs = [a["ids"] for a in flextrace("tokenize", "-t", model, rows=[{"text": t} for t in texts])]
    rows = queries(docs, 8192)
    for ids, answer in zip(rows, flextrace("index", "query", f"{folder}/index", rows=[{"op": "count", "ids": r} for r in rows])):
        assert answer["count"] == plain_count(docs, ids), (ids, answer)
