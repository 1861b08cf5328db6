"""flextrace tokenize against Hugging Face tokenizers, on random text."""
import json
import os
import random
import unicodedata

from tokenizers import Tokenizer

from common import flextrace, tokenizer_folders

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
