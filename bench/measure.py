"""Runs a command and says what it cost: time, memory of all its processes, disk."""
import os
import subprocess
import sys
import threading
import time


def disk_bytes(folder):
    """Bytes that the files of a folder occupy, links not followed."""
    total, todo = 0, [folder]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for e in entries:
                    if e.is_dir(follow_symlinks=False):
                        todo.append(e.path)
                    elif e.is_file(follow_symlinks=False):
                        total += e.stat(follow_symlinks=False).st_blocks * 512
        except (FileNotFoundError, NotADirectoryError):
            pass  # it went while we looked
    return total


def processes(pid):
    """The process and its descendants."""
    found, todo = [], [pid]
    while todo:
        p = todo.pop()
        found.append(p)
        try:
            for task in os.listdir(f"/proc/{p}/task"):
                with open(f"/proc/{p}/task/{task}/children") as f:
                    todo.extend(map(int, f.read().split()))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def memory_bytes(pid):
    """(without the page cache's share, with it) of one process."""
    own = mapped = 0
    try:
        with open(f"/proc/{pid}/status") as f:
            for line in f:
                if line.startswith(("RssAnon", "RssShmem")):
                    own += int(line.split()[1]) * 1024
                elif line.startswith("RssFile"):
                    mapped += int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return own, own + mapped


def unnamed_bytes(pid):
    """Bytes of files that are open but have no name any more."""
    total = 0
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            link = os.readlink(f"/proc/{pid}/fd/{fd}")
            if link.endswith(" (deleted)") and not link.startswith(("/memfd:", "/dev/shm")):
                total += os.stat(f"/proc/{pid}/fd/{fd}").st_blocks * 512
    except OSError:
        pass
    return total


def measure(command, folder=None, cwd=None, check=True):
    """Wall and CPU seconds, peak memory of all processes together (own: page cache aside; rss: with it), peak disk of
    `folder`, and what the command wrote to standard output. Memory is sampled each 20 ms, disk each 100 ms."""
    peak = {"own_bytes": 0, "rss_bytes": 0, "disk_bytes": 0}
    start = time.monotonic()
    child = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=sys.stderr)
    done = threading.Event()

    def watch():
        n = 0
        while not done.wait(0.02):
            tree = processes(child.pid)
            sums = [sum(v) for v in zip(*map(memory_bytes, tree))]
            peak["own_bytes"] = max(peak["own_bytes"], sums[0])
            peak["rss_bytes"] = max(peak["rss_bytes"], sums[1])
            if folder and n % 5 == 0:
                size = disk_bytes(folder) + sum(map(unnamed_bytes, tree))
                peak["disk_bytes"] = max(peak["disk_bytes"], size)
            n += 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - start
    done.set()
    watcher.join()
    if check and child.returncode:
        raise SystemExit(f"bench/index: exit {child.returncode}: {' '.join(map(str, command))}")
    return {"wall_s": wall, "cpu_s": usage.ru_utime + usage.ru_stime, **peak, "status": child.returncode,
            "output": output.decode("utf-8", "replace"), "load_before": os.getloadavg()[0]}
