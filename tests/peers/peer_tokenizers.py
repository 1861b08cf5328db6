"""flextrace tokenize against Hugging Face tokenizers, on random text."""
import json
import os
import random
import subprocess
import unicodedata

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from common import BINARY, flextrace, tokenizer_folders

WORDS = ["the", "Hello", "don't", "I'LL", "WE'RE", "café", "naïve", "straße", "Москва", "日本語", "한국어", "हिन्दी", "ไทย",
         "e\u0301", "\u00a0", "\u3000", "\u200b", "\u2028", "1234567", "3.14", "½", "Ⅷ", "٣", "🙂", "👩‍👩‍👧", "\r\n", "\n\n\n",
         "\t", "   ", "...", "!?", "'ſ", "ſ", "K", "ǅ", "\u0345", "_", "a_b", "foo(bar)", "http://x.y/z?q=1", "\x00", "\x7f",
         "<|endoftext|>", "<|pad|>", "<mask>", "<sep>", "<|im_start|>", "<|im_end|>", "ﬁ", "Å", "\u1e9b\u0323"]


def random_text():
    parts = []
    for _ in range(random.randrange(1, 25)):
        kind = random.random()
        if kind < 0.6:
            parts.append(random.choice(WORDS))
        elif kind < 0.75:
            parts.append(chr(random.choice([random.randrange(0x20, 0x7f), random.randrange(0xa0, 0x3000),
                                            random.randrange(0x3000, 0xd800), random.randrange(0xe000, 0x10000),
                                            random.randrange(0x10000, 0x20000), random.randrange(0xe0000, 0xe0200)])))
        else:
            parts.append("".join(random.choice("abcdefgh IJK'.,\n0123") for _ in range(random.randrange(1, 12))))
        if random.random() < 0.5:
            parts.append(random.choice([" ", " ", "  ", "\n", " \n", "\t"]))
    return "".join(parts)


def byte_offsets(text, offsets):
    at = [0]
    for character in text:
        at.append(at[-1] + len(character.encode("utf-8")))
    return [[at[a], at[b]] for a, b in offsets]


def compare(path, texts):
    peer = Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
    has_normalizer = json.load(open(os.path.join(path, "tokenizer.json"), encoding="utf-8")).get("normalizer") is not None
    ours = flextrace("tokenize", "-t", path, rows=[{"text": t} for t in texts])
    for text, answer in zip(texts, ours):
        encoded = peer.encode(text, add_special_tokens=False)
        assert answer.get("ids") == encoded.ids, f"{path}: {text!r}: ours {answer}, theirs {encoded.ids}"
        if not has_normalizer or unicodedata.normalize("NFC", text) == text:
            want = byte_offsets(text, encoded.offsets)
            assert answer["offsets"] == want, f"{path}: {text!r}: offsets {answer['offsets']}, theirs {want}"
    ids = [[random.randrange(0, peer.get_vocab_size() + 3) for _ in range(random.randrange(0, 30))] for _ in texts]
    decoded = flextrace("tokenize", "-t", path, "--decode", rows=[{"ids": i} for i in ids])
    for row, answer in zip(ids, decoded):
        want = peer.decode(row, skip_special_tokens=False)
        assert answer["text"] == want, f"{path}: {row}: ours {answer['text']!r}, theirs {want!r}"


def test_random_texts_encode_and_decode_as_in_tokenizers(folder, seed):
    for path in tokenizer_folders():
        compare(path, [random_text() for _ in range(1500)])


def test_every_code_point_encodes_as_in_tokenizers(folder, seed):
    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and (c < 0x32000 or 0xE0000 <= c < 0xE0200)]
    for path in tokenizer_folders():
        texts = ["".join("x" + chr(c) + "1 " for c in points[i:i + 64]) for i in range(0, len(points), 64)]
        compare(path, texts)


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def variants(base):
    """The demo's tokenizer with one setting changed at a time: (what, file's content)."""
    def changed(**fields):
        copy = json.loads(json.dumps(base))
        copy.update(fields)
        return copy
    for prefix in (False, True):
        for regex in (False, True):
            yield f"ByteLevel prefix {prefix} regex {regex}", changed(pre_tokenizer={
                "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex})
    patterns = [{"Regex": r"\s+"}, {"Regex": r"\p{N}{1,3}|\p{L}+"}, {"String": "e"}, {"Regex": r"(?<=a)b|[[:punct:]]|\w+"},
                {"Regex": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"}]
    for pattern in patterns:
        for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
            for invert in (False, True):
                yield f"Split {pattern} {behavior} invert {invert}", changed(pre_tokenizer={"type": "Sequence", "pretokenizers": [
                    {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}, BYTE_LEVEL]})
    for extra in ({"type": "Digits", "individual_digits": True}, {"type": "Digits", "individual_digits": False},
                  {"type": "Whitespace"}, {"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"}):
        yield f"{extra}", changed(pre_tokenizer={"type": "Sequence", "pretokenizers": [extra, BYTE_LEVEL]})
    for normalizer in ({"type": "NFC"}, {"type": "NFD"}, {"type": "NFKC"}, {"type": "NFKD"}, {"type": "Lowercase"},
                       {"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "StripAccents"},
                       {"type": "Prepend", "prepend": "_"}, {"type": "Replace", "pattern": {"String": " "}, "content": "_"},
                       {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "b"},
                       {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]}):
        yield f"{normalizer}", changed(normalizer=normalizer)
    added = [dict(id=9000 + i, content=c, single_word=s, lstrip=l, rstrip=r, normalized=n, special=p)
             for i, (c, s, l, r, n, p) in enumerate([("<a>", False, True, False, False, True), ("<b>", False, False, True, True, False),
                                                      ("the", True, False, False, True, False), ("<c>", False, True, True, True, True),
                                                      ("é", False, False, False, True, False), ("the sea", False, False, False, False, False)])]
    for normalizer in (None, {"type": "NFC"}, {"type": "Lowercase"}):
        yield f"added tokens, {normalizer}", changed(added_tokens=base["added_tokens"] + added, normalizer=normalizer)
    yield "ignore_merges", changed(model={**base["model"], "ignore_merges": True})


def test_every_setting_agrees_or_is_refused_by_name(folder, seed):
    path = os.path.join(tokenizer_folders()[0], "tokenizer.json")
    base = json.load(open(path, encoding="utf-8"))
    texts = [random_text() for _ in range(120)] + ["<a> the <b>  sea the sea<c> other é É e\u0301 bathe the"]
    faults, refused = [], []
    for i, (what, content) in enumerate(variants(base)):
        variant = f"{folder}/{i}"
        os.makedirs(variant)
        json.dump(content, open(f"{variant}/tokenizer.json", "w", encoding="utf-8"))
        peer = Tokenizer.from_file(f"{variant}/tokenizer.json")
        given = "".join(json.dumps({"text": t}) + "\n" for t in texts)
        done = subprocess.run([BINARY, "tokenize", "-t", variant], input=given, capture_output=True, text=True)
        if done.returncode:
            refused.append(what)
            if done.returncode != 3 or "tokenizer.json" not in done.stderr:
                faults.append(f"{what}: exit {done.returncode}: {done.stderr.strip()}")
            continue
        for text, line in zip(texts, done.stdout.splitlines()):
            ids = json.loads(line).get("ids")
            want = peer.encode(text, add_special_tokens=False).ids
            if ids != want:
                faults.append(f"{what}: {text!r}: ours {ids}, theirs {want}")
                break
    print(f"    refused by name: {len(refused)}: {'; '.join(refused)}")
    assert not faults, "\n".join(faults)


PATTERNS = {"cl100k": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"}


def train_peer(split, size, least, texts):
    peer = Tokenizer(models.BPE())
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split == "gpt2")
    peer.pre_tokenizer = whole if split == "gpt2" else pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERNS[split]), "isolated"), whole])
    peer.decoder = decoders.ByteLevel()
    peer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=size, min_frequency=least, special_tokens=["<|endoftext|>", "<|pad|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return peer


def test_a_trained_tokenizer_is_that_of_their_trainer(folder, seed):
    # Latin words with suffixes: long enough a text for several hundred merges, and ties without number.
    stems = ["".join(random.choice("etaoinshrdlu") for _ in range(random.randrange(2, 7))) for _ in range(300)]
    def line():
        return " ".join(random.choice(stems) + random.choice(["", "", "s", "ing", "ed", "er's", ", ", ".\n", " 1234"])
                        for _ in range(40)) + random_text()
    texts = [line() for _ in range(200)]
    with open(f"{folder}/corpus.jsonl", "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"text": t}) + "\n" for t in texts)
    for split in ("cl100k", "qwen2", "gpt2"):
        out = f"{folder}/{split}"
        flextrace("tokenizer", "train", f"{folder}/corpus.jsonl", "--size", 900, "--split", split, "-o", out)
        theirs = json.loads(train_peer(split, 900, 2, texts).to_str())["model"]
        ours = json.load(open(f"{out}/tokenizer.json", encoding="utf-8"))["model"]
        pairs = [m if isinstance(m, list) else m.split(" ") for m in theirs["merges"]]
        mine = [m.split(" ") for m in ours["merges"]]
        assert mine == pairs, f"{split}: " + next(f"merge {i}: ours {a}, theirs {b}"
                                                  for i, (a, b) in enumerate(zip(mine + [None], pairs + [None])) if a != b)
        assert ours["vocab"] == theirs["vocab"], split
        compare(out, [random_text() for _ in range(300)] + texts[:20])
