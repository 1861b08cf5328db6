"""The C chat templates against jinja2, on random conversations: a server is given each template of
tests/vectors/chat as its checkpoint's own, recognizes it, and renders."""
import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import urllib.request

from common import BINARY, ROOT

MODEL = os.path.join(ROOT, "demo", "model")
spec = importlib.util.spec_from_file_location("make_chat", os.path.join(ROOT, "tests", "vectors", "chat", "make.py"))
vectors = importlib.util.module_from_spec(spec)
spec.loader.exec_module(vectors)
PIECES = ["Hello", " ", "\n", "  \n", "{{ x }}", "{% if %}", "<|im_end|>", "<|endoftext|>", "'", '"', "\\", "ä", "中文", "😀",
          "<think>", "</think>", "user", "assistant\n", "", "\t", "<|user|>", "E", "B", "\u00a0", "\u2028"]


def conversation():
    roles = ["user", "assistant", "system"] if random.random() < 0.3 else ["user", "assistant"]
    turns = [{"role": random.choice(roles), "content": "".join(random.choices(PIECES, k=random.randrange(0, 6)))}
             for _ in range(random.randrange(1, 7))]
    if random.random() < 0.4:
        turns.insert(0, {"role": "system", "content": "".join(random.choices(PIECES, k=3))})
    return turns


def checkpoint(folder, number, text, bos, eos):
    path = os.path.join(folder, f"checkpoint{number}")
    os.mkdir(path)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        os.symlink(os.path.join(MODEL, name), os.path.join(path, name))
    with open(os.path.join(path, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        json.dump({"bos_token": bos, "eos_token": eos}, file)
    with open(os.path.join(path, "chat_template.jinja"), "w", encoding="utf-8") as file:
        file.write(text)
    with open(os.path.join(path, "federation.yaml"), "w", encoding="utf-8") as file:
        file.write(f"model: {path}\n")
    return path


def post(address, path, body):
    request = urllib.request.Request(address + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def test_random_conversations_render_as_jinja2_does(folder, seed):
    for number, (label, _, text, bos, _) in enumerate(vectors.TEMPLATES):
        bos = bos and "<|endoftext|>"  # the demo's tokenizer has no other
        path = checkpoint(folder, number, text, bos, "<|endoftext|>")
        server = subprocess.Popen([BINARY, "serve", path, "--listen", "127.0.0.1:0", "--threads", "1", "--quiet"],
                                  stdout=subprocess.PIPE, text=True)
        try:
            address = re.search(r"http://\S+", server.stdout.readline()).group()
            for _ in range(60):
                turns, generate = conversation(), random.random() < 0.5
                ours = post(address, "/tokenize", {"messages": turns, "add_generation_prompt": generate})["tokens"]
                got = post(address, "/detokenize", {"tokens": ours})["prompt"]
                want = vectors.render(text, turns, bos or "", "<|endoftext|>", generate)
                assert got == want, f"{label}: {turns}: ours {got!r}, jinja2's {want!r}"
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


def test_the_stored_renderings_are_what_the_installed_jinja2_makes(folder, seed):
    path = os.path.join(ROOT, "tests", "vectors", "chat", "chat.json")
    with open(path, encoding="utf-8") as file:
        stored = json.load(file)
    for one in stored["templates"]:
        for rendering in one["renderings"]:
            assert rendering["rendered"] == vectors.render(one["template"], rendering["messages"], one["bos"] or "",
                                                           one["eos"], rendering["add_generation_prompt"]), one["label"]
    for piece in stored["pieces"]:
        assert piece["rendered"] == vectors.render(piece["template"], stored["piece_messages"], "<s>", "</s>", True), piece
