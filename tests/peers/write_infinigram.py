"""Folders as infini-gram's indexing writes them, the suffixes sorted by their definition: no peer is needed."""
import math
import os
import struct

WIDTHS = {"u8": 1, "u16": 2, "u32": 4}


def write_folder(folder, docs, width, version, shards):
    """tokenized, offset and table of every shard; document i goes to shard i mod shards."""
    size = WIDTHS[width]
    os.makedirs(folder)
    for s in range(shards):
        blob, offsets = b"", []
        for doc in docs[s::shards]:
            offsets.append(len(blob))
            tokens = doc[::-1] if version == 5 else doc
            blob += b"\xff" * size + b"".join(t.to_bytes(size, "little") for t in tokens)
        table_width = math.ceil(math.log2(len(blob)) / 8)
        order = sorted(range(0, len(blob), size), key=lambda at: blob[at:])
        with open(f"{folder}/tokenized.{s}", "wb") as f:
            f.write(blob)
        with open(f"{folder}/offset.{s}", "wb") as f:
            f.write(struct.pack(f"<{len(offsets)}Q", *offsets))
        with open(f"{folder}/table.{s}", "wb") as f:
            f.write(b"".join(at.to_bytes(table_width, "little") for at in order))
