"""A receipt checked by others than us: PyCA cryptography, securesystemslib's DSSE, openssl, and by hand.
Arguments: the server's address, flextrace, the folder with signing.pem and scripture.index."""

import base64
import hashlib
import hmac
import json
import os
import struct
import subprocess
import sys
import tempfile
import urllib.request

from cryptography.hazmat.primitives import serialization
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from common import run_tests

ADDRESS, FLEXTRACE, FOLDER = sys.argv[1:4]


def ask(path, body=None):
    request = urllib.request.Request(ADDRESS + path, json.dumps(body).encode() if body else None, {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=300).read()


def bytes_of(text):
    return base64.b64decode(text, validate=True)


TEXT = "In the beginning God created the heaven and the earth."
trace = json.loads(ask("/v1/traces", {"text": TEXT, "prompt": "He said: ", "routing": True, "store": True}))
answer = json.loads(ask("/v1/completions", {"model": "demo", "prompt": "And it came", "max_tokens": 12, "seed": 3, "stop": ["zzz"],
                                            "flextrace": {"trace": True, "without": ["public"]}}))
choice = answer["choices"][0]
RECEIPT = ask(f"/v1/traces/{trace['id']}/receipt")
GENERATED = ask(f"/v1/traces/{choice['flextrace']['trace_id']}/receipt")
KEYS = json.loads(ask("/v1/keys"))["data"]


def pae(envelope):
    kind, body = envelope["payloadType"].encode(), bytes_of(envelope["payload"])
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)


def cryptography_verifies_it():
    key = serialization.load_pem_public_key(KEYS[0]["public_key"].encode())
    for text in (RECEIPT, GENERATED):
        envelope = json.loads(text)
        key.verify(bytes_of(envelope["signatures"][0]["sig"]), pae(envelope))
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert hashlib.sha256(der).hexdigest() == KEYS[0]["keyid"] == envelope["signatures"][0]["keyid"]


def securesystemslib_verifies_it():
    envelope = Envelope.from_dict(json.loads(RECEIPT))
    keyid = KEYS[0]["keyid"]
    raw = serialization.load_pem_public_key(KEYS[0]["public_key"].encode()).public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    key = SSlibKey(keyid, "ed25519", "ed25519", {"public": raw.hex()})
    assert keyid in envelope.verify([key], 1)


def openssl_reads_the_keys_and_verifies():
    for options in (["-in", f"{FOLDER}/signing.pem"], ["-pubin", "-in", f"{FOLDER}/signing.pem.pub"]):
        shown = subprocess.run(["openssl", "pkey", "-noout", "-text", *options], capture_output=True, text=True, check=True)
        assert "ED25519" in shown.stdout, shown.stdout
    assert os.stat(f"{FOLDER}/signing.pem").st_mode & 0o7777 == 0o600
    envelope = json.loads(RECEIPT)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("signed", pae(envelope)), ("sig", bytes_of(envelope["signatures"][0]["sig"]))):
            with open(f"{folder}/{name}", "wb") as f:
                f.write(content)
        done = subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", f"{FOLDER}/signing.pem.pub", "-rawin",
                               "-in", f"{folder}/signed", "-sigfile", f"{folder}/sig"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def the_subject_is_the_text_that_the_client_got():
    statement = json.loads(bytes_of(json.loads(GENERATED)["payload"]))
    digests = {s["name"]: s["digest"]["sha256"] for s in statement["subject"]}
    assert digests["output"] == hashlib.sha256(choice["text"].encode()).hexdigest()
    ids = statement["predicate"]["outputTokenIds"]
    assert digests["output-token-ids"] == hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "urn:flextrace:predicate:generation:v1"


def opt_outs_stand_in_it():
    predicate = json.loads(bytes_of(json.loads(GENERATED)["payload"]))["predicate"]
    assert predicate["without"] == ["public"]
    assert [x["owner"] for x in predicate["experts"] if not x["active"]] == ["public"]
    assert [s["share"] for s in predicate["routing"]["shares"] if s["owner"] == "public"] == [0]


def the_digest_of_routing_is_over_its_exact_values():
    stored = json.loads(ask(f"/v1/traces/{trace['id']}?routing=full"))
    stated = json.loads(bytes_of(json.loads(RECEIPT)["payload"]))["predicate"]["routing"]
    assert stated["digest"] == stored["provenance"]["routing"]["digest"]
    routing = trace["routing"]  # as the answer had it, before anything was stored
    exact = bytes_of(routing["ids"]) + bytes_of(routing["weights"])
    assert stated["digest"] == "sha256:" + hashlib.sha256(exact).hexdigest()
    assert stated["shape"] == [routing["tokens"], routing["layers"], routing["top_k"]]


def an_owner_opens_its_documents_by_hand():
    predicate = json.loads(bytes_of(json.loads(RECEIPT)["payload"]))["predicate"]
    salt = json.loads(ask(f"/v1/traces/{trace['id']}/receipt/salt?owner=scripture"))["salt"]
    opened = {"hmac-sha256:" + hmac.new(bytes.fromhex(salt), name.encode(), "sha256").hexdigest() for name in ("gen-1", "gen-2")}
    stated = {d["digest"] for s in predicate["spans"] for d in s["documents"] if d["owner"] == "scripture"}
    assert stated and stated <= opened
    assert "gen-1" not in json.dumps(predicate) and "God" not in json.dumps(predicate)


def a_receipt_of_another_makes_is_verified():
    """An envelope that Python signed, with the URL-safe alphabet and a second signature."""
    key = serialization.load_pem_private_key(open(f"{FOLDER}/signing.pem", "rb").read(), None)
    envelope = json.loads(RECEIPT)
    encode = lambda b: base64.urlsafe_b64encode(b).decode()  # noqa: E731
    envelope = {"x": 1, "signatures": [{"sig": encode(bytes(64)), "keyid": "0"}, {"sig": encode(key.sign(pae(envelope)))}],
                "payloadType": envelope["payloadType"], "payload": encode(bytes_of(envelope["payload"]))}
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/r.json", "w", encoding="utf-8") as f:
            json.dump(envelope, f, indent=2)
        done = subprocess.run([FLEXTRACE, "receipt", "verify", f"{folder}/r.json", "--key", f"{FOLDER}/signing.pem.pub", "-i",
                               f"{FOLDER}/scripture.index", "--json"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(done.stdout)
        assert found["valid"] and found["owners"][0]["same_state"] and found["owners"][0]["confirmed"] > 0, found


run_tests("receipt", [cryptography_verifies_it, securesystemslib_verifies_it, openssl_reads_the_keys_and_verifies,
                      the_subject_is_the_text_that_the_client_got, opt_outs_stand_in_it, the_digest_of_routing_is_over_its_exact_values,
                      an_owner_opens_its_documents_by_hand, a_receipt_of_another_makes_is_verified])
