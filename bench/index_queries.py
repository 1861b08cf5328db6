"""The queries of bench/index, the same for both sides: drawn with a fixed seed, kept beside the corpus.

A set NAME is NAME.npy (u32, all queries' ids one after another) and NAME.ends.npy (u64, end of each query).
"""
import os

import numpy

SEED = 20240401
VOCABULARY = 100_257  # of dolma2, special tokens aside
QUERIES, RESPONSES, RESPONSE_TOKENS = 5_000, 100, 500


def write_set(folder, name, queries):
    numpy.save(f"{folder}/{name}.npy", numpy.concatenate(queries).astype(numpy.uint32))
    numpy.save(f"{folder}/{name}.ends.npy", numpy.cumsum([len(q) for q in queries]).astype(numpy.uint64))


def read_set(folder, name):
    ids, ends = numpy.load(f"{folder}/{name}.npy").tolist(), numpy.load(f"{folder}/{name}.ends.npy").tolist()
    return [ids[a:b] for a, b in zip([0] + ends, ends)]


class Sampler:
    """Draws from one corpus; each set from its own seed, so that one can change without the others."""

    def __init__(self, corpus):
        self.tokens = numpy.load(f"{corpus}/tokens.npy", mmap_mode="r")
        self.starts = numpy.load(f"{corpus}/doc_offsets.npy").astype(numpy.int64)
        self.random = None

    def seed(self, name):
        self.random = numpy.random.default_rng([SEED, *name.encode()])
        return self

    def place(self):
        return int(self.random.integers(len(self.tokens)))

    def ngram(self, n):
        """n tokens from a random place, cut at the end of its document."""
        at = self.place()
        end = int(self.starts[numpy.searchsorted(self.starts, at, side="right")])
        return numpy.array(self.tokens[at:min(at + n, end)])

    def perturbed(self, n):
        """An n-gram with one token replaced by a random place's token: mostly absent where n is 3 or more."""
        ids = self.ngram(n)
        ids[self.random.integers(len(ids))] = self.tokens[self.place()]
        return ids

    def ngrams(self, shortest, longest, absent):
        out = []
        for _ in range(QUERIES):
            n = int(self.random.integers(shortest, longest + 1))
            out.append(self.perturbed(n) if self.random.random() < absent else self.ngram(n))
        return out

    def spliced(self):
        """Verbatim pieces of 5 to 60 tokens, in turn with as many tokens drawn evenly from the vocabulary."""
        pieces, have = [], 0
        while have < RESPONSE_TOKENS:
            n = int(self.random.integers(5, 61))
            pieces += [self.ngram(n), self.random.integers(VOCABULARY, size=n, dtype=numpy.uint32)]
            have += len(pieces[-2]) + n
        return numpy.concatenate(pieces)[:RESPONSE_TOKENS]


def heldout(sampler, folder):
    """500 tokens of a document that is in no corpus, one token in twenty edited."""
    tokens, starts = numpy.load(f"{folder}/tokens.npy"), numpy.load(f"{folder}/doc_offsets.npy").astype(numpy.int64)
    long = [i for i in range(len(starts) - 1) if starts[i + 1] - starts[i] >= RESPONSE_TOKENS]
    out = []
    for _ in range(RESPONSES):
        i = long[int(sampler.random.integers(len(long)))]
        at = int(sampler.random.integers(starts[i], starts[i + 1] - RESPONSE_TOKENS + 1))
        ids = numpy.array(tokens[at:at + RESPONSE_TOKENS])
        for j in range(0, RESPONSE_TOKENS):
            if sampler.random.random() < 0.05:
                ids[j] = sampler.tokens[sampler.place()]
        out.append(ids)
    return out


def make(corpus, heldout_folder):
    """Draws all sets once; gives their folder."""
    folder = f"{corpus}/queries"
    if os.path.exists(f"{folder}/heldout.ends.npy"):
        return folder
    os.makedirs(folder, exist_ok=True)
    s = Sampler(corpus)
    for name, shortest, longest, absent in (("count", 1, 8, 0.3), ("prob", 2, 8, 0.3), ("infgram_prob", 2, 16, 0.5), ("docs", 1, 8, 0),
                                            ("ntd", 1, 8, 0.3)):
        write_set(folder, name, s.seed(name).ngrams(shortest, longest, absent))
    write_set(folder, "spliced", [s.seed(f"spliced {i}").spliced() for i in range(RESPONSES)])
    write_set(folder, "heldout", heldout(s.seed("heldout"), heldout_folder))
    return folder
