"""The peer's side of bench/index; run by a Python that has infini-gram, prints one JSON object.

    index_peer.py build CORPUS FOLDER             from tokens, u32, memory to spare; tables stay in FOLDER
    index_peer.py warm FOLDER QUERIES SET…        microseconds of each call, and its answer
    index_peer.py cold FOLDER QUERIES SET N       first N queries, each in a fresh process with the files out of the
                                                  page cache
    index_peer.py tokenize TOKENIZER CORPUS MB    MB/s of Hugging Face's tokenizers on one thread
"""
import json
import mmap
import os
import resource
import shutil
import subprocess
import sys
import time

import numpy

from index_queries import read_set
from measure import measure

HERE = os.path.dirname(os.path.abspath(__file__))
EOS, VOCABULARY, PASSES, BUDGET_S, NO_LIMIT = 100257, 100278, 5, 10, 1 << 40


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


def build(corpus, folder):
    shutil.rmtree(folder, ignore_errors=True)
    write_input(corpus, folder)
    size = os.path.getsize(f"{folder}/tokenized.0")
    # It corrupts small inputs when there are several threads. Memory: enough for a single batch of parts.
    jobs, memory_gib = (len(os.sched_getaffinity(0)), size // (1 << 27) + 2) if size > 400_000_000 else (1, 8)
    # It asks for 32 GiB of zeroed memory, and touches little of it.
    shim = f"{folder}/../noreserve.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", shim, f"{HERE}/noreserve.c"], check=True)
    cost = measure([sys.executable, "-m", "infini_gram.indexing", "--data_dir", folder, "--save_dir", folder, "--token_dtype", "u32",
                    "--cpus", str(jobs), "--mem", str(memory_gib), "--ulimit", "1024"], folder, env={**os.environ, "LD_PRELOAD": shim})
    os.remove(shim)
    cost["steps"] = [line.strip() for line in cost.pop("output").splitlines() if "Took" in line]
    cost["index_bytes"] = sum(os.path.getsize(f"{folder}/{f}") for f in os.listdir(folder))
    return cost


def open_engine(folder):
    from infini_gram.engine import InfiniGramEngine
    return InfiniGramEngine(folder, eos_token_id=EOS, vocab_size=VOCABULARY, version=4, token_dtype="u32")


def asker(engine, name):
    """(call, answer): what is timed, and what of its result both sides must agree on."""
    if name == "count":
        return lambda ids: engine.count(input_ids=ids), lambda r: r["count"]
    if name in ("prob", "infgram_prob"):
        ask = getattr(engine, name)
        return lambda ids: ask(prompt_ids=ids[:-1], cont_id=ids[-1]), lambda r: r["prompt_cnt"] + r["cont_cnt"]
    if name == "ntd":
        return lambda ids: engine.ntd(prompt_ids=ids), lambda r: r["prompt_cnt"]
    if name == "docs":
        return lambda ids: engine.search_docs(input_ids=ids, maxnum=1, max_disp_len=1000), lambda r: r["cnt"]
    # Below its Python layer, which makes a dictionary of every occurrence: the engine alone is faster.
    limit = int(name.split(":")[1]) if ":" in name else NO_LIMIT
    return (lambda ids: engine.engine.attribute(input_ids=ids, delim_ids=[], min_len=1, max_cnt=limit, enforce_bow=False),
            lambda r: sum(s.l + s.r + s.count for s in r.spans))


def summary(took):
    took = numpy.sort(took)
    return {"p50_us": float(took[len(took) // 2]), "p99_us": float(took[len(took) * 99 // 100]), "mean_us": float(took.mean()),
            "queries": len(took)}


def warm(folder, queries, names):
    """Each query's best of several passes after one that warms, as ft_bench_index has it; of a slow set what 10 s allow."""
    engine = open_engine(folder)
    out = {}
    empty = []
    for _ in range(2000):
        start = time.perf_counter_ns()
        engine.count(input_ids=[])
        empty.append((time.perf_counter_ns() - start) / 1e3)
    out["overhead"] = summary(empty)  # of a call that searches nothing
    for name in names:
        rows = read_set(queries, name.split(":")[0])
        call, answer = asker(engine, name)
        best, answers, spent = [], [], 0
        for ids in rows:  # this pass warms
            start = time.perf_counter()
            answers.append(answer(call(ids)))
            spent += time.perf_counter() - start
            if spent > BUDGET_S:
                break
        for _ in range(PASSES):
            took = []
            for ids in rows[:len(answers)]:
                start = time.perf_counter_ns()
                call(ids)
                took.append((time.perf_counter_ns() - start) / 1e3)
            best = numpy.minimum(best, took) if len(best) else numpy.array(took)
        out[name] = {**summary(best), "answers": answers}
        print(f"peer: {name}: {out[name]['p50_us']:.1f} / {out[name]['p99_us']:.1f} us", file=sys.stderr)
    return out


def files_of(folder):
    return [f"{folder}/{f}" for f in sorted(os.listdir(folder))]


def drop(files):
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        os.fdatasync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def resident_pages(files):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    total = 0
    for path in files:
        size = os.path.getsize(path)
        if not size:
            continue
        fd = os.open(path, os.O_RDONLY)
        seen = numpy.zeros((size + mmap.PAGESIZE - 1) // mmap.PAGESIZE, dtype=numpy.uint8)
        at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        libc.mincore(at, size, seen.ctypes.data)
        libc.munmap(at, size)
        os.close(fd)
        total += int((seen & 1).sum())
    return total


def storage_bytes():
    with open("/proc/self/io") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("read_bytes"))


def cold(folder, queries, name, many):
    import infini_gram.engine  # noqa: F401  its import is not what a query costs
    rows = read_set(queries, name.split(":")[0])
    files = files_of(folder)
    os.sync()
    took, sums = [], {}
    for i in range(many):
        ids = rows[i * (len(rows) // many)]
        drop(files)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            cost = {"left_pages": resident_pages(files)}
            start = time.perf_counter_ns()
            engine = open_engine(folder)
            cost["open_us"] = (time.perf_counter_ns() - start) / 1e3
            call, _ = asker(engine, name)
            pages, read = resident_pages(files), storage_bytes()
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
            start = time.perf_counter_ns()
            call(ids)
            cost["query_us"] = (time.perf_counter_ns() - start) / 1e3
            cost["faults"] = resource.getrusage(resource.RUSAGE_SELF).ru_majflt - faults
            cost["bytes"] = storage_bytes() - read
            cost["pages"] = resident_pages(files) - pages
            cost["open_pages"] = pages - cost["left_pages"]
            cost["tokens"] = len(ids)
            os.write(writer, json.dumps(cost).encode())
            os._exit(0)
        os.close(writer)
        cost = json.loads(os.read(reader, 65536))
        os.close(reader)
        os.waitpid(child, 0)
        took.append(cost.pop("query_us"))
        for key, value in cost.items():
            sums[key] = sums.get(key, 0) + value
    return {**summary(took), **{key: value / many for key, value in sums.items()}}


def tokenize(tokenizer, corpus, megabytes):
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer
    peer = Tokenizer.from_file(f"{tokenizer}/tokenizer.json")
    spent = size = 0
    with open(f"{corpus}/corpus.jsonl", encoding="utf-8") as rows:
        for row in rows:
            text = json.loads(row)["text"]
            start = time.perf_counter()
            peer.encode(text, add_special_tokens=False)
            spent += time.perf_counter() - start
            size += len(text.encode())
            if size > megabytes * 1e6:
                break
    return {"mb_per_s": size / spent / 1e6}


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    if verb == "build":
        result = build(*rest)
    elif verb == "warm":
        result = warm(rest[0], rest[1], rest[2:])
    elif verb == "cold":
        result = cold(rest[0], rest[1], rest[2], int(rest[3]))
    else:
        result = tokenize(rest[0], rest[1], float(rest[2]))
    json.dump(result, sys.stdout)
    print()
