"""The numbers of ft_bench_store (JSON on standard input) beside the targets; with a file named, the table into it too."""
import json
import os
import sys

import bench_lines

head = bench_lines.head(len(os.sched_getaffinity(0)))
print(head, flush=True)
got = json.load(sys.stdin)
rows = []


def row(what, target, name, bound, unit, scale=1):
    if name in got:
        rows.append((what, target, got[name] * scale, bound, unit))


row("write before the sync, 500 tokens, top-k routing", "<= 1 ms", "write_before_sync_ms", 1, "ms")
row("  the processor's part", "", "write_before_sync_cpu_ms", None, "ms")
row("the same, synced, alone", "", "write_and_sync_ms", None, "ms")
row("group commit, 16 writers, p50", "<= 5 ms", "group_commit_p50_ms", 5, "ms")
row("  16 traces in one transaction, nobody waiting before", "", "group_commit_alone_ms", None, "ms")
row("    of which the processor", "", "group_commit_cpu_ms", None, "ms")
row("    pages written", "", "group_commit_pages", None, "")
row("  the disk alone: as much in a plain file, one sync", "", "disk_alone_ms", None, "ms")
row("  group commit / the disk alone", "", "group_commit_p50_ms", None, "x", 1 / got.get("disk_alone_ms", 1))
row("group commit, 16 writers, p99", "", "group_commit_p99_ms", None, "ms")
row("traces a second, 16 writers, synced", "", "group_traces_per_second", None, "/s")
row("routing, bytes a token / (layers x k)", "<= 1.5", "routing_bytes_per_choice", 1.5, "bytes")
row("writing the traces of the questions, synced at the end", "", "fill_s", None, "s")
rows += [(f"first page of {got['stored']} traces: {name} (processor {got['first_page_cpu_ms'][name]:.2f})", "<= 10 ms", ms, 10, "ms")
         for name, ms in got.get("first_page_ms", {}).items()]
row("export", ">= 20000 traces/s", "export_traces_per_second", -20000, "/s")
row("file", "", "file_bytes", None, "GB", 1e-9)
table = bench_lines.Table((72, 20, 20))
for what, target, value, bound, unit in rows:
    table.row(what, target, f"{value:.3f} {unit}" if value < 1000 else f"{value:.0f} {unit}", met=None if bound is None else value <= bound if bound > 0 else value >= -bound)
if len(sys.argv) > 1:
    table.write(sys.argv[1], head)
