"""The peer's side of bench/index, run by a Python that has infini-gram (see peer_python in index_lines.py)."""
import os
import shutil
import sys

import numpy

from measure import disk_bytes, measure


def write_input(corpus, folder):
    """tokenized.0 and offset.0 from a token array: what the peer's own tokenize step leaves."""
    tokens = numpy.load(f"{corpus}/tokens.npy", mmap_mode="r")
    starts = numpy.load(f"{corpus}/doc_offsets.npy").astype(numpy.int64)
    many = len(starts) - 1
    out = numpy.empty(len(tokens) + many, dtype=numpy.uint32)
    separators = starts[:-1] + numpy.arange(many)
    is_token = numpy.ones(len(out), dtype=bool)
    is_token[separators] = False
    out[is_token] = tokens
    out[separators] = 0xFFFFFFFF
    os.makedirs(folder)
    out.tofile(f"{folder}/tokenized.0")
    (separators * 4).astype(numpy.uint64).tofile(f"{folder}/offset.0")


def build(corpus, folder, memory_gib=8):
    """Builds with all cores and memory to spare; what it cost, as measure() has it, and the sizes."""
    shutil.rmtree(folder, ignore_errors=True)
    write_input(corpus, folder)
    # A small input in several parts comes out corrupted: one job then.
    jobs = 2 if os.path.getsize(f"{folder}/tokenized.0") > 400_000_000 else 1
    before = disk_bytes(folder)
    cost = measure([sys.executable, "-m", "infini_gram.indexing", "--data_dir", folder, "--save_dir", folder, "--token_dtype", "u32",
                    "--cpus", str(jobs), "--mem", str(memory_gib), "--ulimit", "1024"], folder)
    cost["steps"] = [line.strip() for line in cost.pop("output").splitlines() if "Took" in line]
    cost["index_bytes"] = sum(os.path.getsize(f"{folder}/{f}") for f in os.listdir(folder))
    cost["temporary_bytes"] = cost["disk_bytes"] - cost["index_bytes"]
    cost["input_bytes"] = before
    return cost
