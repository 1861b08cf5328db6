"""The numbers of ft_bench_store (JSON on standard input) beside the targets."""
import json
import sys

got = json.load(sys.stdin)
per_choice = got["routing_bytes_per_choice"]
rows = [
    ("write before the sync, 500 tokens, top-k routing", "<= 1 ms", got["write_before_sync_ms"], 1, "ms"),
    ("the same, synced, alone", "", got["write_and_sync_ms"], None, "ms"),
    ("group commit, 16 writers, p50", "<= 5 ms", got["group_commit_p50_ms"], 5, "ms"),
    ("group commit, 16 writers, p99", "", got["group_commit_p99_ms"], None, "ms"),
    ("traces a second, 16 writers, synced", "", got["group_traces_per_second"], None, "/s"),
    ("routing, bytes a token / (layers x k)", "<= 1.5", per_choice, 1.5, "bytes"),
    *((f"first page of {got['traces']} traces: {name}", "<= 10 ms", ms, 10, "ms") for name, ms in got["first_page_ms"].items()),
    ("export", ">= 20000 traces/s", got["export_traces_per_second"], -20000, "/s"),
    ("file", "", got["file_bytes"] / 1e9, None, "GB"),
]
for what, target, value, bound, unit in rows:
    met = "-" if bound is None else "met" if (value <= bound if bound > 0 else value >= -bound) else "NOT MET"
    print(f"{what:52} {target:20} {value:12.3f} {unit:6} {met}")
