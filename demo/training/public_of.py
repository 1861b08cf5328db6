#!/usr/bin/env python3
"""demo/training/public_of.py MODEL WORK: a public model that is there, for demo/train-demo --public MODEL.

MODEL is a merged model such as demo/model, whose expert 0 and shared tensors are the public model's, bit for bit.
  WORK/start/model.safetensors   the dense public model
  WORK/start/trained.json        how it was trained, as MODEL/eval.json tells"""
import json
import os
import struct
import sys


def read_tensors(path):
    """{name: (entry of the header, bytes)}"""
    with open(path, "rb") as f:
        (size,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(size))
        body = f.read()
    return {name: (t, body[slice(*t["data_offsets"])]) for name, t in header.items() if name != "__metadata__"}


def write_tensors(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (entry, data) in tensors.items():
        header[name] = {"dtype": entry["dtype"], "shape": entry["shape"], "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".part", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, data in tensors.values():
            f.write(data)
    os.rename(path + ".part", path)


def main():
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    model, work = sys.argv[1:]
    public = {}
    for name, tensor in sorted(read_tensors(f"{model}/model.safetensors").items()):
        if ".mlp.gate." not in name and (".mlp.experts." not in name or ".mlp.experts.0." in name):
            public[name.replace(".mlp.experts.0.", ".mlp.")] = tensor
    with open(f"{model}/eval.json", encoding="utf-8") as f:
        trained = json.load(f)["training"]["public"]
    write_tensors(f"{work}/start/model.safetensors", public)
    with open(f"{work}/start/trained.json", "w", encoding="utf-8") as f:
        f.write(json.dumps(trained) + "\n")


if __name__ == "__main__":
    main()
