#!/usr/bin/env python3
"""demo/training/split.py CORPORA DATA: the owners' corpora as training, proxy and held-out files.

A document is held out where the first 32 bits of sha256(id) are divisible by 20. Of each owner:
  DATA/OWNER.proxy.jsonl   the first 120 of the others in the order of sha256(id), so from all over the corpus: what an
                           owner gives for tuning the router, which is to meet text that no expert was trained on
  DATA/OWNER.train.jsonl   the rest
  DATA/OWNER.test.jsonl    held-out documents in the order of sha256(id), until there are 30,000 bytes
  DATA/OWNER.held.jsonl    all held-out documents in that order, for prompts"""
import gzip
import hashlib
import json
import os
import sys

OWNERS = ("public", "scripture", "dictionary", "essays", "python", "database")
PROXY_DOCUMENTS, TEST_BYTES = 120, 30000


def digest(row):
    return hashlib.sha256(row["id"].encode()).hexdigest()


def write(path, rows):
    with open(path + ".part", "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.rename(path + ".part", path)


def main():
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    corpora, data = sys.argv[1:]
    os.makedirs(data, exist_ok=True)
    for owner in OWNERS:
        with gzip.open(f"{corpora}/{owner}.jsonl.gz", "rt", encoding="utf-8") as f:
            rows = [json.loads(line) for line in f]
        held = sorted((r for r in rows if int(digest(r)[:8], 16) % 20 == 0), key=digest)
        others = sorted((r for r in rows if int(digest(r)[:8], 16) % 20), key=digest)
        proxy = {r["id"] for r in others[:PROXY_DOCUMENTS]}
        train = [r for r in rows if int(digest(r)[:8], 16) % 20 and r["id"] not in proxy]
        size, test = 0, []
        for row in held:
            if size < TEST_BYTES:
                test.append(row)
                size += len(row["text"].encode())
        for name, kept in (("train", train), ("proxy", others[:PROXY_DOCUMENTS]), ("test", test), ("held", held)):
            write(f"{data}/{owner}.{name}.jsonl", kept)


if __name__ == "__main__":
    main()
