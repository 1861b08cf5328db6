#!/usr/bin/env python3
"""demo/training/broad.py CORPORA WORK: the broad public corpus of the demo's public model, out of Debian packages.

Downloads the packages of the table below one by one (apt-get download), reads the English prose in them straight from the
.deb, cuts it into documents of at most about 6000 characters, and writes WORK/broad.jsonl.gz in the order of sha256(id).
WORK/texts keeps what each package gave, so that an interrupted run goes on; a finished one does nothing.

Nothing of an owner's is in it: a document that shares 13 words in a row with any document of an owner's corpus, or with a
held-out document of the public one, is left out (CORPORA is the folder that demo/fetch-corpora fills). Nor is a document
half of whose lines stood in an earlier one, or one that is no English prose. Needs Python 3.9, apt, dpkg, man."""
import concurrent.futures
import glob
import gzip
import hashlib
import html
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zlib

# Package, kind of text, files in it (a pattern of their paths), at most so many million characters of it.
DOC = r"^\./usr/share/(doc|gtk-doc|help)/"
HTML, RST, TXT = DOC + r".*\.x?html?(\.gz)?$", DOC + r".*/_sources/.*\.txt(\.gz)?$", DOC + r".*\.(txt|rst|md)(\.gz)?$"
PACKAGES = (
    # Stories, dialogues, descriptions.
    ("cataclysm-dda-data", "json", r"\.json$", 9), ("endless-sky-data", "quoted", r"/data/.*\.txt$", 9),
    ("crawl-common", "text", r"/dat/(descript|database)/[^/]*\.txt$", 3),
    *((f"wesnoth-1.16-{c}", "wml", r"/campaigns/.*\.cfg$", 2) for c in (
        "did", "dm", "dw", "ei", "httt", "l", "low", "nr", "sof", "sota", "sotbe", "thot", "trow", "tsg", "ttb", "utbs")),
    ("fortunes", "fortunes", r"/games/fortunes/[^./]*$", 3),
    # Dictionaries, commentaries, essays, books.
    ("dict-wn", "dict", r"\.dict\.dz$", 8), ("dict-foldoc", "dict", r"\.dict\.dz$", 6), ("dict-jargon", "dict", r"\.dict\.dz$", 3),
    ("dict-devil", "dict", r"\.dict\.dz$", 1), ("sword-comm-mhcc", "sword", r"/zcom/mhcc/", 6),
    ("debian-handbook", "html", r"/html/en-US/.*\.html$", 4), ("debian-history", "html", HTML, 1), ("debian-faq", "html", HTML, 1),
    ("developers-reference", "text", r"/_sources/.*\.txt$", 2), ("debian-reference-en", "html", r"\.en\.html$", 3), ("debmake-doc", "html", HTML, 2),
    ("harden-doc", "html", HTML, 2), ("debian-edu-doc-en", "html", HTML, 2), ("installation-guide-amd64", "html", r"/en/.*\.html?$", 2),
    ("aptitude-doc-en", "html", HTML, 2), ("apt-doc", "html", HTML, 1), ("gnu-standards", "html", HTML, 1), ("privoxy", "html", HTML, 1),
    ("gnome-user-docs", "html", r"/help/C/.*\.(page|docbook|xml)$", 4), ("gnome-devel-docs", "html", r"/help/C/.*\.(page|docbook|xml)$", 3),
    ("libreoffice-help-en-us", "html", r"/en-US/text/.*\.html$", 8), ("gimp-help-en", "html", r"/help/en/.*\.html$", 5),
    ("lilypond-doc-html", "html", r"/[a-z-]+(/[A-Za-z-]+)?\.html$", 4), ("ada-reference-manual-2012", "html", r".*\.html?$", 4),
    # Manuals of programs and languages.
    ("linux-doc-6.1", "text", RST, 16), ("perl-doc", "pod", r"\.pod$", 9), ("freebsd-manpages", "man", r"/man/.*\.gz$", 4),
    ("libssl-doc", "man", r"/man/.*\.gz$", 3), ("tcl8.6-doc", "man", r"/man/.*\.gz$", 2), ("tk8.6-doc", "man", r"/man/.*\.gz$", 2),
    ("git-doc", "text", TXT, 5), ("vim-runtime", "text", r"/doc/[^/]*\.txt$", 8), ("apache2-doc", "html", r"\.html(\.en)?$", 6),
    ("exim4-doc-html", "html", HTML, 3), ("postfix-doc", "html", HTML, 3), ("bind9-doc", "html", HTML, 2), ("bash-doc", "html", HTML, 1),
    ("zsh-doc", "html", HTML, 2), ("llvm-14-doc", "text", RST, 4), ("clang-14-doc", "text", RST, 3),
    ("rust-doc", "html", r"/html/(book|reference|std|core|alloc|nomicon|cargo|rust-by-example|rustc|edition-guide)/.*\.html$", 9),
    ("racket-doc", "html", r".*\.html$", 9), ("erlang-doc", "html", r".*\.html$", 8), ("ghc-doc", "html", r"/users_guide/.*\.html$", 4),
    ("nodejs-doc", "html", HTML, 4), ("qtbase5-doc-html", "html", r".*\.html$", 8), ("libboost1.74-doc", "html", HTML, 6),
    ("openjdk-17-doc", "html", HTML, 6), ("fp-docs-3.2.2", "html", HTML, 4), ("swi-prolog-doc", "html", r".*\.html$", 4),
    ("gprolog-doc", "html", HTML, 1), ("python-django-doc", "text", RST + "|" + TXT, 6), ("python-sqlalchemy-doc", "text", RST, 4),
    ("sphinx-doc", "text", RST, 2), ("nova-doc", "text", RST, 3), ("libvirt-doc", "html", HTML, 3), ("ntpsec-doc", "html", HTML, 2),
    ("wireshark-doc", "html", HTML, 3), ("ghostscript-doc", "html", HTML, 2), ("ffmpeg-doc", "html", HTML, 3), ("maxima-doc", "html", HTML, 5),
    ("gap-doc", "html", r".*/doc/.*\.html$", 6), ("octave-doc", "html", HTML, 3), ("r-doc-html", "html", HTML, 3), ("sqlite3-doc", "html", HTML, 7),
    ("libx11-doc", "html", HTML, 3), ("rsyslog-doc", "html", HTML, 2), ("mercurial-common", "text", r"/help/[^/]*\.txt$", 1))

# --- Kinds of text: bytes of a file to texts ------------------------------------------------------------------

BLOCK = re.compile(r"</?(p|div|li|h[1-6]|pre|tr|dt|dd|br|table|ul|ol|dl|section|blockquote|title|para|item|listitem|td|th|screen|"
                   r"programlisting|note|simpara|figure|article|header|main)\b[^>]*>", re.I)
HIDDEN = re.compile(r"<!--.*?-->|<(script|style|head|nav|footer|svg|info|form)\b.*?</\1\s*>", re.I | re.S)
PRE = re.compile(r"(<(?:pre|screen|programlisting)\b[^>]*>.*?</(?:pre|screen|programlisting)\s*>)", re.I | re.S)


def from_html(raw):
    """White space counts inside <pre> alone."""
    parts = PRE.split(HIDDEN.sub("", raw))
    for i, part in enumerate(parts):
        part = BLOCK.sub("\n", part if i % 2 else re.sub(r"\s+", " ", part))
        part = html.unescape(re.sub(r"<[^>]*>", "", part)).replace("\xa0", " ")
        parts[i] = part if i % 2 else re.sub(r" *\n *", "\n", part)
    return ["".join(parts)]


def from_pod(raw):
    raw = re.sub(r"^=begin\b.*?^=end\b.*?$|^=for\b.*?(?=^$)|^=(cut|pod|encoding|over|back)\b.*?$", "", raw, flags=re.M | re.S)
    raw = re.sub(r"^=(head\d|item)\s+", "", raw, flags=re.M)
    for _ in range(4):  # from the inside out
        raw = re.sub(r"\bL<(?:([^<>|]*)\|)?([^<>]*)>", lambda m: m[1] or m[2], raw)
        raw = re.sub(r"\bE<(\w+)>", lambda m: html.unescape(f"&{m[1]};"), raw)
        raw = re.sub(r"\b[ZX]<[^<>]*>", "", raw)
        raw = re.sub(r"\b[BCFIS](?:<< (.*?) >>|<([^<>]*)>)", lambda m: m[1] or m[2] or "", raw)
    return [raw]


def from_man(raw):
    with tempfile.NamedTemporaryFile("w", suffix=".1", encoding="utf-8") as f:
        f.write(raw)
        f.flush()
        env = {**os.environ, "MANWIDTH": "1000", "MAN_KEEP_FORMATTING": "", "LC_ALL": "C.UTF-8", "PAGER": "cat", "MANPAGER": "cat"}
        text = subprocess.run(["man", "-l", f.name], capture_output=True, env=env, check=False).stdout.decode("utf-8", "replace")
    text = re.sub(r".\x08|\x1b\[[0-9;]*m", "", text)
    return ["\n".join(re.sub(r" {3,}", "  ", line.strip()) for line in text.splitlines())]


def strings_of(x):
    """Strings in JSON that are sentences."""
    if isinstance(x, str):
        if len(x) >= 60 and x.count(" ") >= 9:
            yield re.sub(r"<[a-z_]+>|\\n", " ", x)
    else:
        for y in x.values() if isinstance(x, dict) else x if isinstance(x, list) else ():
            yield from strings_of(y)


def from_json(raw):
    try:
        return ["\n\n".join(strings_of(json.loads(raw)))]
    except ValueError:
        return []


def from_quoted(raw):
    """Texts between quotes, of at least a few words: what is said and told."""
    said = (re.sub(r"<[^>]*>", "it", a or b).strip() for a, b in re.findall(r'`([^`]*)`|"([^"\n]*)"', raw))
    return ["\n\n".join(t for t in said if t.count(" ") >= 4)]


def from_wml(raw):
    said = (t.replace('""', '"').strip() for t in re.findall(r'_\s*"((?:[^"]|"")*)"', raw))
    return ["\n\n".join(re.sub(r"<[^>]*>", "", t) for t in said if t.count(" ") >= 4)]


def from_dict(raw):
    """An entry begins at a line that is not indented."""
    return [re.sub(r"\n+(?=\S)", "\n\n", re.sub(r"[ \t]+\n", "\n", raw))]


KINDS = {"text": lambda raw: [raw], "html": from_html, "pod": from_pod, "man": from_man, "json": from_json, "quoted": from_quoted,
         "wml": from_wml, "dict": from_dict, "fortunes": lambda raw: [raw.replace("\n%\n", "\n\n")]}


def sword_texts(files):
    """A commentary of the SWORD project: blocks of zlib, NAME.bzs says where each is."""
    for path, index in sorted(files.items()):
        if path.endswith(".bzs"):
            blocks = files[path[:-1] + "z"]
            for at in range(0, len(index) - 11, 12):
                start, size = (int.from_bytes(index[at + i:at + i + 4], "little") for i in (0, 4))
                if size:
                    yield path, from_html(zlib.decompress(blocks[start:start + size]).decode("utf-8", "replace"))[0]


# --- One package ------------------------------------------------------------------------------------------

COMMON = frozenset("the of and to a in is that it for as with be this are on or by an from not you at which can will if was have has "
                   "but they his he their all one when your its were there we i him my she her who no so them what".split())
SKIPPED = re.compile(r"changelog|copyright|NEWS|README\.Debian|/genindex|/search\.|/_static/|/_images/|-index\.html|/index-all|/doc-index|"
                     r"\.(de|es|fr|ja|ko|tr|pt-br|zh-cn|da|ru)(\.|$)|/(de|es|fr|ja|ko|ru|it|pt|zh|nl|pl)(_[A-Z]+)?/")


def is_prose(text):
    words = re.findall(r"[A-Za-z]+", text)
    plain = sum(c.isalpha() and c.isascii() or c in " \n" for c in text)
    return (len(words) >= 30 and plain >= 0.72 * len(text) and
            sum(w.lower() in COMMON for w in words) >= 0.17 * len(words))


def chunks(text, size=6000):
    """As demo/fetch-corpora's: at empty lines, at most about `size` characters."""
    now = ""
    for p in text.split("\n\n"):
        if now and len(now) + len(p) > size:
            yield now
            now = ""
        now += ("\n\n" if now else "") + p
    if now.strip():
        yield now


def read_package(deb, kind, pattern):
    """(path, text) of the files that the pattern names, in the order of their paths' hashes."""
    wanted, files = re.compile(pattern), {}
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as p:
        with tarfile.open(fileobj=p.stdout, mode="r|") as tar:
            for m in tar:
                if m.isfile() and wanted.search(m.name) and not SKIPPED.search(m.name):
                    files[m.name] = zlib.compress(tar.extractfile(m).read(), 1)
    if kind == "sword":
        yield from sword_texts({k: zlib.decompress(v) for k, v in files.items()})
        return
    for path in sorted(files, key=lambda x: hashlib.sha256(x.encode()).digest()):
        raw = zlib.decompress(files[path])
        if path.endswith((".gz", ".dz")):
            raw = gzip.decompress(raw)
        for text in KINDS[kind](raw.decode("utf-8", "replace")):
            yield path, text


def without_boilerplate(texts):
    """Lines that stand in many of a package's files are its frame: navigation, notices."""
    seen = {}
    for _, text in texts:
        for line in set(text.split("\n")):
            if len(line) > 3:
                seen[line] = seen.get(line, 0) + 1
    most = max(8, len(texts) // 25)
    for path, text in texts:
        text = "\n".join(line.rstrip() for line in text.split("\n") if seen.get(line, 0) <= most)
        yield path, re.sub(r"\n{3,}", "\n\n", text).strip()


def download(package, folder):
    found = glob.glob(f"{folder}/{package}_*.deb")
    if not found:
        root = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
        done = subprocess.run(["apt-get", "download", "-q", *root, package], cwd=folder, capture_output=True, text=True, check=False)
        found = glob.glob(f"{folder}/{package}_*.deb")
        if done.returncode or not found:
            raise SystemExit(f"broad.py: cannot download the Debian package {package}: {done.stderr.strip()}")
    return found[0]


def make_texts(package, kind, pattern, most, work):
    """WORK/texts/PACKAGE.jsonl: the package's documents; what is there is whole."""
    out = f"{work}/texts/{package}.jsonl"
    if os.path.exists(out):
        return package
    deb = download(package, f"{work}/packages")
    texts, size = [], 0
    for path, text in read_package(deb, kind, pattern):
        texts.append((path, text))
        size += len(text)
        if size > 1.6e6 * most:  # what is dropped later has its room
            break
    written = 0
    with open(out + ".part", "w", encoding="utf-8") as f:
        for path, text in without_boilerplate(texts):
            for part, c in enumerate(chunks(text)):
                if 200 <= len(c) <= 20000 and written <= 1e6 * most and is_prose(c):
                    f.write(json.dumps({"source": f"{package}:{path}", "part": part, "text": c}, ensure_ascii=False) + "\n")
                    written += len(c)
    os.rename(out + ".part", out)
    os.remove(deb)
    print(f"      {package}: {written / 1e6:.1f} million characters", file=sys.stderr, flush=True)
    return package


# --- What is an owner's -----------------------------------------------------------------------------------

RUN = 13  # words


def runs(text):
    words = re.findall(r"[^\W_]+", text.lower())
    return (hash(" ".join(words[i:i + RUN])) for i in range(len(words) - RUN + 1))


def rows(path):
    with gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8") as f:
        yield from map(json.loads, f)


def held_out(name):
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 20 == 0


def closed_runs(corpora):
    """Every 13 words in a row of the owners' documents and of the public held-out ones."""
    closed = set()
    for path in sorted(glob.glob(f"{corpora}/*.jsonl.gz")):
        public = os.path.basename(path).startswith("public.")
        for row in rows(path):
            if not public or held_out(row["id"]):
                closed.update(runs(row["text"]))
    return closed


def lines_of(text):
    return [hash(line) for line in text.split("\n") if len(line) >= 30]


def assemble(corpora, work):
    closed = closed_runs(corpora)
    print(f"      {len(closed)} runs of {RUN} words are the owners' or held out", file=sys.stderr, flush=True)
    seen, kept, counts = set(), [], {"overlap": 0, "repeated": 0, "kept": 0}
    for row in rows(f"{corpora}/public.jsonl.gz"):
        seen.update(lines_of(row["text"]))
    for package, *_ in PACKAGES:
        for n, row in enumerate(rows(f"{work}/texts/{package}.jsonl")):
            lines = lines_of(row["text"])
            if lines and 2 * sum(x in seen for x in lines) >= len(lines):
                counts["repeated"] += 1
                continue
            seen.update(lines)
            if any(x in closed for x in runs(row["text"])):
                counts["overlap"] += 1
                continue
            counts["kept"] += 1
            kept.append((hashlib.sha256(f"{package}/{n}".encode()).hexdigest(), {"id": f"{package}/{n}", **row}))
    kept.sort(key=lambda x: x[0])
    with gzip.open(f"{work}/broad.part", "wt", encoding="utf-8", compresslevel=3) as f:
        for _, row in kept:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
    size = sum(len(row["text"].encode()) for _, row in kept)
    with open(f"{work}/broad.json", "w", encoding="utf-8") as f:
        json.dump({"documents": len(kept), "bytes": size, "left_out_for_an_owner": counts["overlap"], "left_out_as_repeated": counts["repeated"],
                   "packages": [p for p, *_ in PACKAGES]}, f, indent=1)
    os.rename(f"{work}/broad.part", f"{work}/broad.jsonl.gz")
    print(f"      broad corpus: {len(kept)} documents, {size / 1e6:.0f} MB; left out: {counts['overlap']} for an owner's or held-out "
          f"words, {counts['repeated']} as repeated", file=sys.stderr)


def main():
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    corpora, work = sys.argv[1:]
    if os.path.exists(f"{work}/broad.jsonl.gz"):
        return
    if not os.path.exists(f"{corpora}/public.jsonl.gz"):
        raise SystemExit(f"broad.py: {corpora} has no public.jsonl.gz; demo/fetch-corpora makes it")
    for folder in ("packages", "texts"):
        os.makedirs(f"{work}/{folder}", exist_ok=True)
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        for done in [pool.submit(make_texts, *p, work) for p in PACKAGES]:
            done.result()
    assemble(corpora, work)


if __name__ == "__main__":
    main()
