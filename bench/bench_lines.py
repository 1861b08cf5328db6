"""What benchmarks of named lines share: options, the line that says where it was measured, rows and the table."""
import argparse
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def say(what):
    print(f"# {what}", file=sys.stderr, flush=True)


def options(usage):
    """A parser with the options that every such benchmark has; the caller adds its own."""
    p = argparse.ArgumentParser(usage=usage, add_help=False)
    p.add_argument("-h", "--help", action="store_true")
    p.add_argument("--folder", default=os.environ.get("FLEXTRACE_BENCH", f"{tempfile.gettempdir()}/flextrace-bench"))
    p.add_argument("--markdown")
    p.add_argument("--list", action="store_true")
    p.add_argument("lines", nargs="*")
    return p


class Table:
    """Rows as they are measured, each printed at once in columns of `widths`, the verdict last."""

    def __init__(self, widths):
        self.widths, self.rows = widths, []

    def row(self, *cells, met=None):
        verdict = "-" if met is None else "met" if met else "NOT MET"
        self.rows.append((*cells, verdict))
        print(*(f"{c:{w}}" for c, w in zip(cells, self.widths)), verdict, flush=True)

    def write(self, path, head):
        titles = ("what", "target", "flextrace", "peer")[: len(self.widths)]
        with open(path, "w") as f:
            f.write(f"{head}\n\n| " + " | ".join(titles) + " | |\n|" + "---|" * (len(titles) + 1) + "\n")
            f.writelines("| " + " | ".join(r) + " |\n" for r in self.rows)


def head(threads):
    """Where it is measured: the line above every table."""
    with open("/proc/cpuinfo") as f:
        cpu = next((x.split(":")[1].strip() for x in f if x.startswith("model name")), "?")
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return f"{cpu}, {threads} threads; commit {commit}; load {os.getloadavg()[0]:.1f} at the start"


def run(name, usage, arguments, lines, bench, by_name=(), threads=None):
    """Runs the lines that are asked for; without any all but those in `by_name`. `bench` makes what a line is
    called with, from the arguments; it has a Table in `table`."""
    if arguments.help or arguments.list:
        print(usage if arguments.help else "\n".join(f"{line:12} {fn.__doc__}" for line, fn in lines.items()))
        return
    unknown = [x for x in arguments.lines if x not in lines]
    if unknown:
        raise SystemExit(f"{name}: no line '{unknown[0]}'; try '{name} --list'")
    b = bench(arguments)
    where = head(threads or len(os.sched_getaffinity(0)))
    print(where)
    for line in arguments.lines or (x for x in lines if x not in by_name):
        lines[line](b)
    if arguments.markdown:
        b.table.write(arguments.markdown, where)
