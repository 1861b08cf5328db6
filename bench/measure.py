"""Runs a command and says what it cost: time, memory of all its processes, disk."""
import contextlib
import ctypes
import mmap
import os
import subprocess
import tempfile
import threading
import time


def disk_files(folder):
    """{(device, inode): bytes occupied} of a folder's files, links not followed."""
    found, todo = {}, [folder]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for e in entries:
                    if e.is_dir(follow_symlinks=False):
                        todo.append(e.path)
                    elif e.is_file(follow_symlinks=False):
                        s = e.stat(follow_symlinks=False)
                        found[s.st_dev, s.st_ino] = s.st_blocks * 512
        except (FileNotFoundError, NotADirectoryError):
            pass  # it went while we looked
    return found


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


def unnamed_files(pid):
    """Files that are open but have no name any more, as disk_files."""
    found = {}
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            link = os.readlink(f"/proc/{pid}/fd/{fd}")
            if link.endswith(" (deleted)") and not link.startswith(("/memfd:", "/dev/shm")):
                s = os.stat(f"/proc/{pid}/fd/{fd}")
                found[s.st_dev, s.st_ino] = s.st_blocks * 512
    except OSError:
        pass
    return found


def not_kept(seen, final):
    """Most bytes at once of files that are not among the last ones. A file is told by its inode, until that is gone for a
    while or shrinks: then its number serves another file."""
    turn, last, named = {}, {}, []
    for files in [*seen, final]:
        for f, size in files.items():
            if f in turn and (f not in last or size < last[f]):
                turn[f] += 1
            turn.setdefault(f, 0)
        named.append({(f, turn[f]): size for f, size in files.items()})
        last = files
    kept = named[-1]
    return max(sum(size for f, size in files.items() if f not in kept) for files in named)


@contextlib.contextmanager
def held(folder):
    """Keeps a folder's files in memory meanwhile: a system that takes back pages which nobody touched for a moment would
    make warm queries cold. Gives the bytes that could be locked (0 without the right to)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype, libc.mmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mlock.argtypes = libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    maps, locked = [], 0
    try:
        for path, _, names in os.walk(folder):
            for name in names:
                with open(os.path.join(path, name), "rb") as f:
                    size = os.fstat(f.fileno()).st_size
                    at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, f.fileno(), 0) if size else None
                if at not in (None, ctypes.c_void_p(-1).value):
                    maps.append((at, size))
                    locked += 0 if libc.mlock(at, size) else size
        yield locked
    finally:
        for at, size in maps:
            libc.munmap(at, size)


def measure(command, folder=None, check=True, env=None):
    """What `command` cost:
    wall_s, cpu_s   of it and its children
    own_bytes       peak memory of all its processes together, page cache aside; rss_bytes: with mapped files
    peak_bytes      most that stood in `folder` (and in its unnamed files) at once
    extra_bytes     most at once of what is not in `folder` when it ends: temporary files
    output          its standard output
    Memory is sampled each 20 ms, disk each 100 ms."""
    own = rss = 0
    seen = []
    load = os.getloadavg()[0]
    start = time.monotonic()
    errors = tempfile.TemporaryFile()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=env)
    done = threading.Event()

    def watch():
        nonlocal own, rss
        n = 0
        while not done.wait(0.02):
            tree = processes(child.pid)
            sums = [sum(v) for v in zip(*map(memory_bytes, tree))]
            own, rss = max(own, sums[0]), max(rss, sums[1])
            if folder and n % 5 == 0:
                files = disk_files(folder)
                for p in tree:
                    files.update(unnamed_files(p))
                seen.append(files)
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
        errors.seek(0)
        last = errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
        raise SystemExit(f"bench/index: exit {child.returncode}: {' '.join(map(str, command))}: {''.join(last)}")
    final = disk_files(folder) if folder else {}
    return {"wall_s": wall, "cpu_s": usage.ru_utime + usage.ru_stime, "own_bytes": own, "rss_bytes": rss,
            "peak_bytes": max((sum(s.values()) for s in seen), default=0),
            "extra_bytes": not_kept(seen, final),
            "status": child.returncode, "output": output.decode("utf-8", "replace"), "load_before": load}
