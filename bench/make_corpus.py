"""Makes the corpora of bench/index: the kernel sources and documentation that a Debian package carries.

    bench/make_corpus.py [FOLDER]       default: $FLEXTRACE_BENCH, else the system's temporary folder + /flextrace-bench

FOLDER/large    about 700 MB of text, more than 200 million dolma2 tokens
FOLDER/small    its first documents, 8 million tokens
FOLDER/heldout  documents that are in neither
each with corpus.jsonl ({"id": path, "text"}), tokens.npy (u32, all documents one after another) and doc_offsets.npy
(u64 start of each document, and the end). The order is that of the paths' hashes, so a prefix is a fair sample.
What is there already is not made again; READY in FOLDER says that all of it is there.
"""
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile

import glob

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
FOLDER = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("FLEXTRACE_BENCH", f"{tempfile.gettempdir()}/flextrace-bench")
TOKENIZER = os.environ.get("FLEXTRACE_TOKENIZER", f"{ROOT}/../shared/tokenizers/dolma2")
TOOL = f"{ROOT}/build/release/bench/ft_tokens"
PACKAGE = "linux-source-6.1"
BYTES, HELDOUT_BYTES, SMALL_TOKENS = 700_000_000, 8_000_000, 8_000_000
ENDINGS = (".c", ".h", ".rst", ".S", ".txt", ".py", ".sh", ".pl", ".yaml", ".dts", ".dtsi", ".rs", ".tc", ".cocci")
NAMES = ("Kconfig", "Makefile", "MAINTAINERS", "README", "CREDITS")
# Register tables that a generator wrote, a third of the sources: no text that anybody writes.
GENERATED = "drivers/gpu/drm/amd/include/"


def package():
    where = f"{FOLDER}/download"
    os.makedirs(where, exist_ok=True)
    found = glob.glob(f"{where}/x/usr/src/*.tar.xz")
    if not found:
        subprocess.run(["apt-get", "download", PACKAGE], cwd=where, check=True)
        subprocess.run(["dpkg-deb", "-x", glob.glob(f"{where}/{PACKAGE}_*.deb")[0], f"{where}/x"], check=True)
        found = glob.glob(f"{where}/x/usr/src/*.tar.xz")
    return found[0]


def documents(path):
    """(path, text) of each readable source file, in the order of the paths' hashes."""
    texts = {}
    with tarfile.open(path) as tar:
        for member in tar:
            name = member.name.split("/", 1)[-1]
            wanted = name.endswith(ENDINGS) or os.path.basename(name) in NAMES
            if not member.isfile() or not member.size or not wanted or GENERATED in name:
                continue
            raw = tar.extractfile(member).read()
            try:
                raw.decode("utf-8")
            except UnicodeDecodeError:
                continue
            if b"\0" not in raw:
                texts[name] = raw
    for name in sorted(texts, key=lambda n: hashlib.sha256(n.encode()).digest()):
        yield name, texts.pop(name).decode("utf-8")


def write(out, name, text):
    out.write(json.dumps({"id": name, "text": text}, ensure_ascii=False, separators=(",", ":")) + "\n")
    return len(text.encode("utf-8"))


def main():
    for name in ("large", "small", "heldout"):
        os.makedirs(f"{FOLDER}/{name}", exist_ok=True)
    if os.path.exists(f"{FOLDER}/READY"):
        return
    if not os.path.exists(f"{FOLDER}/heldout/corpus.jsonl"):
        with open(f"{FOLDER}/large/corpus.jsonl", "w", encoding="utf-8") as large, \
                open(f"{FOLDER}/heldout/part", "w", encoding="utf-8") as heldout:
            size = held = 0
            for name, text in documents(package()):
                if size < BYTES:
                    size += write(large, name, text)
                elif held < HELDOUT_BYTES:
                    held += write(heldout, name, text)
        os.rename(f"{FOLDER}/heldout/part", f"{FOLDER}/heldout/corpus.jsonl")
    for name in ("large", "heldout"):
        subprocess.run([TOOL, TOKENIZER, f"{FOLDER}/{name}"], check=True)
    # The small one: whole documents from the front.
    import numpy
    tokens = numpy.load(f"{FOLDER}/large/tokens.npy", mmap_mode="r")
    offsets = numpy.load(f"{FOLDER}/large/doc_offsets.npy")
    many = int(numpy.searchsorted(offsets, SMALL_TOKENS))
    numpy.save(f"{FOLDER}/small/tokens.npy", tokens[:offsets[many]])
    numpy.save(f"{FOLDER}/small/doc_offsets.npy", offsets[:many + 1])
    with open(f"{FOLDER}/large/corpus.jsonl", encoding="utf-8") as rows, \
            open(f"{FOLDER}/small/corpus.jsonl", "w", encoding="utf-8") as out:
        for _, row in zip(range(many), rows):
            out.write(row)
    with open(f"{FOLDER}/READY", "w") as out:
        out.write("DONE\n")


if __name__ == "__main__":
    main()
