"""The numbers of ft_bench_store (JSON on standard input) beside the targets; with a file named, the table into it too."""
import json
import os
import sys

import bench_lines

head = bench_lines.head(len(os.sched_getaffinity(0)))
print(head, flush=True)
got = json.load(sys.stdin)
per_choice = got["routing_bytes_per_choice"]
disk = got["disk_alone_ms"]
rows = [
    ("write before the sync, 500 tokens, top-k routing", "<= 1 ms", got["write_before_sync_ms"], 1, "ms"),
    ("  the processor's part", "", got["write_before_sync_cpu_ms"], None, "ms"),
    ("the same, synced, alone", "", got["write_and_sync_ms"], None, "ms"),
    ("group commit, 16 writers, p50", "<= 5 ms", got["group_commit_p50_ms"], 5, "ms"),
    ("  the processor's part", "", got["group_commit_cpu_ms"], None, "ms"),
    ("  the disk alone: as much in a plain file, two syncs", "", disk, None, "ms"),
    ("  group commit / the disk alone", "", got["group_commit_p50_ms"] / disk, None, "x"),
    ("group commit, 16 writers, p99", "", got["group_commit_p99_ms"], None, "ms"),
    ("traces a second, 16 writers, synced", "", got["group_traces_per_second"], None, "/s"),
    ("routing, bytes a token / (layers x k)", "<= 1.5", per_choice, 1.5, "bytes"),
    (f"writing {got['traces']} traces, synced at the end", "", got["fill_s"], None, "s"),
    *((f"first page of {got['traces']} traces: {name} (processor {got['first_page_cpu_ms'][name]:.2f})", "<= 10 ms", ms, 10, "ms")
      for name, ms in got["first_page_ms"].items()),
    ("export", ">= 20000 traces/s", got["export_traces_per_second"], -20000, "/s"),
    ("file", "", got["file_bytes"] / 1e9, None, "GB"),
]
table = bench_lines.Table((72, 20, 20))
for what, target, value, bound, unit in rows:
    table.row(what, target, f"{value:.3f} {unit}" if value < 1000 else f"{value:.0f} {unit}", met=None if bound is None else value <= bound if bound > 0 else value >= -bound)
if len(sys.argv) > 1:
    table.write(sys.argv[1], head)
