"""What a lookup reads from the disk: computed from an index's shape, for indexes that exist and for ones that do not.

    bench/index_model.py INDEX       the shape of its segments, and of indexes with more tokens

One end of a pattern's range costs one page for each level of the tree that is not in memory, the leaf (a second page
where it lies across two), and one look at the text. A pattern that is absent, or whose range lies in one leaf, costs
that once; any other at most twice. docs/index-growth.md tells where the numbers come from.
"""
import math
import os
import struct
import sys

PAGE, RANKS, RESIDENT = 4096, 128, 1 << 20
HEADER = 4096  # of a section


def leaf_bytes(pointer_bits):
    return 16 * pointer_bits + 112


class Shape:
    """code_bits, pointer_bits, nodes of each level of the tree, lowest first."""

    def __init__(self, tokens, pointer_bits, nodes):
        self.tokens, self.pointer_bits, self.nodes = tokens, pointer_bits, nodes
        self.leaf = leaf_bytes(pointer_bits)

    def cold_levels(self, memory=RESIDENT):
        """Levels below the topmost ones that fit in `memory` bytes together."""
        used = 0
        for level in range(len(self.nodes) - 1, -1, -1):
            used += self.nodes[level] * PAGE
            if used > memory:
                return level + 1
        return 0

    def leaf_pages(self):
        """Pages of one leaf on average: leaves begin at multiples of 16 bytes."""
        return 1 + (self.leaf - 16) / PAGE

    def narrow(self, memory=RESIDENT):
        """Absent, or within one leaf."""
        return self.cold_levels(memory) + self.leaf_pages() + 1

    def wide(self, memory=RESIDENT):
        """The most on average where two ends are looked for, each with its own path."""
        return 2 * self.narrow(memory)


def read_shape(folder):
    """Of the largest segment of an index; its tree's last page holds levels, leaves and nodes."""
    segments = [f"{folder}/{s}" for s in os.listdir(folder) if s.startswith("segment-")]
    segment = max(segments, key=lambda s: os.path.getsize(f"{s}/suffixes"))
    with open(f"{segment}/tree", "rb") as f:
        f.seek(32)
        payload, = struct.unpack("<Q", f.read(8))
        f.seek(HEADER + payload - PAGE)
        levels, leaves, *nodes = struct.unpack("<18Q", f.read(18 * 8))
    with open(f"{segment}/suffixes", "rb") as f:
        f.seek(32)
        suffixes, = struct.unpack("<Q", f.read(8))
    pointer_bits = (suffixes // leaves - 112) // 16
    return Shape(leaves * RANKS, pointer_bits, nodes[:levels])


def grown(shape, tokens, wider=1.0):
    """The same corpus, only larger: as many separators a node, divided by `wider` for longer separators."""
    leaves = math.ceil(tokens / RANKS)
    fan = shape.tokens / RANKS / shape.nodes[0] / wider
    nodes = [math.ceil(leaves / fan)]
    while nodes[-1] > 1:
        nodes.append(math.ceil(nodes[-1] / fan))
    return Shape(tokens, max(1, (tokens - 1).bit_length()), nodes)


def say(shape, memory):
    tree = sum(shape.nodes) * PAGE
    size = (tree + shape.leaf * shape.tokens / RANKS) / shape.tokens + 17 / 8
    return (f"| {shape.tokens:,} | {shape.pointer_bits} | {shape.leaf} | {' / '.join(f'{n:,}' for n in shape.nodes)} | {size:.2f} | "
            f"{shape.cold_levels(memory)} | {shape.narrow(memory):.2f} | {shape.wide(memory):.2f} |")


def main():
    shape = read_shape(sys.argv[1])
    print("| tokens | pointer bits | leaf bytes | nodes of each level | B/token | levels read | narrow | wide, at most |")
    print("|---|---|---|---|---|---|---|---|")
    print(say(shape, RESIDENT))
    for tokens in (1e9, 1e10, 1e11, 4.6e12):
        print(say(grown(shape, int(tokens)), RESIDENT))
    print("4.6 T with separators a half longer; then with 4 GiB and 64 MiB of the tree in memory:")
    for wider, memory in ((1.5, RESIDENT), (1.5, 4 << 30), (1.5, 64 << 20)):
        print(say(grown(shape, int(4.6e12), wider), memory))


if __name__ == "__main__":
    main()
