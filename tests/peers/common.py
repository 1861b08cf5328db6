"""What the comparisons share: running flextrace, and finding tokenizers."""
import json
import os
import subprocess

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
SHARED = os.environ.get("FLEXTRACE_SHARED", os.path.join(ROOT, "..", "shared"))
BINARY = os.environ["FLEXTRACE"]


def flextrace(*arguments, rows=None, check=True):
    """Standard output of one run; `rows` go in as JSON lines and come back parsed."""
    given = None if rows is None else "".join(json.dumps(r) + "\n" for r in rows)
    done = subprocess.run([BINARY, *map(str, arguments)], input=given, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise AssertionError(f"flextrace {arguments[0]} exits {done.returncode}: {done.stderr.strip()}")
    if rows is None:
        return done.stdout
    answers = [json.loads(line) for line in done.stdout.split("\n") if line]  # U+0085 and U+2028 end no line here
    assert len(answers) == len(rows), f"{len(answers)} answers to {len(rows)} rows"
    return answers


def tokenizer_folders():
    found = [os.path.join(ROOT, "demo", "model")]
    shared = os.path.join(SHARED, "tokenizers")
    if os.path.isdir(shared):
        found += [os.path.join(shared, name) for name in sorted(os.listdir(shared))]
    return [f for f in found if os.path.exists(os.path.join(f, "tokenizer.json"))]
