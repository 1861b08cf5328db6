"""Exports loaded by numpy: docs/compliance.md's two lines as they stand there, and `audit export --format npy`.
Arguments: the server's address, flextrace, the folder with the federation."""

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request

import numpy

from common import run_tests

ADDRESS, FLEXTRACE, FOLDER = sys.argv[1:4]
DOCS = open(os.path.join(os.path.dirname(__file__), "../../docs/compliance.md"), encoding="utf-8").read()
HTTP_LINES, FILE_LINES = re.findall(r"```python\n(.*?)```", DOCS, re.S)


def ask(path, body=None):
    request = urllib.request.Request(ADDRESS + path, json.dumps(body).encode() if body else None, {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=300).read()


def flextrace(*arguments):
    subprocess.run([FLEXTRACE, *arguments], check=True, stdout=subprocess.DEVNULL)


TEXT = "In the beginning God created the heaven and the earth."
TRACE = json.loads(ask("/v1/traces", {"text": TEXT, "prompt": "He said: ", "routing": True, "store": True}))
FULL = json.loads(ask(f"/v1/traces/{TRACE['id']}?routing=full"))["routing"]


def weights_of(trace):
    """[tokens, layers, experts] out of the trace's JSON."""
    shape = trace["tokens"], trace["layers"], trace["top_k"]
    ids = numpy.frombuffer(base64.b64decode(trace["ids"]), "<i4").reshape(shape)
    weights = numpy.frombuffer(base64.b64decode(trace["weights"]), "<f4").reshape(shape)
    out = numpy.zeros((*shape[:2], len(trace["experts"])), numpy.float32)
    numpy.put_along_axis(out, ids.astype(int), weights, axis=2)
    return out


def the_two_lines_of_the_docs_load_routing_over_http():
    names = {}
    exec(HTTP_LINES.replace("http://127.0.0.1:8080", ADDRESS).replace("ID", TRACE["id"]), names)
    weights = names["weights"]
    assert weights.dtype == numpy.float32
    assert numpy.array_equal(weights, weights_of(FULL))
    sums = weights.sum(axis=2)  # of the chosen experts alone: below 1 where the model does not divide by it
    assert sums.min() > 0 and sums.max() <= 1 + FULL["top_k"] / 510 + 1e-6


def the_two_lines_of_the_docs_load_routing_from_a_file():
    with tempfile.TemporaryDirectory() as folder:
        flextrace("audit", "routing", os.path.join(FOLDER, "store"), TRACE["id"], "-o", os.path.join(folder, "routing.npy"))
        names, before = {}, os.getcwd()
        os.chdir(folder)
        try:
            exec(FILE_LINES, names)
        finally:
            os.chdir(before)
        assert numpy.array_equal(names["weights"], weights_of(FULL))


def every_array_of_an_export_loads_and_they_fit_together():
    with tempfile.TemporaryDirectory() as folder:
        flextrace("audit", "export", os.path.join(FOLDER, "store"), "--format", "npy", "-o", os.path.join(folder, "out"))
        load = lambda name: numpy.load(os.path.join(folder, "out", name), allow_pickle=False)
        tokens, offsets, created, shares = (load(f"{n}.npy") for n in ("tokens", "offsets", "created_ms", "shares"))
        with open(os.path.join(folder, "out", "ids.json"), encoding="utf-8") as file:
            ids = json.load(file)
        at = ids.index(TRACE["id"])
        assert len(offsets) == len(ids) + 1 and offsets[-1] == len(tokens) and len(created) == len(ids) == len(shares)
        assert list(tokens[offsets[at]:offsets[at + 1]]) == [t["id"] for t in TRACE["tokens"]]
        assert (numpy.diff(created.astype(numpy.int64)) >= 0).all()
        expected = [e["share"] for e in sorted(TRACE["experts"], key=lambda e: e["id"])]
        assert numpy.allclose(shares[at][:len(expected)], expected, atol=1e-6), (shares[at], expected)


run_tests("numpy", [the_two_lines_of_the_docs_load_routing_over_http, the_two_lines_of_the_docs_load_routing_from_a_file,
                    every_array_of_an_export_loads_and_they_fit_together])
