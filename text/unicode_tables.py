#!/usr/bin/env python3
"""Writes unicode_tables.c and unicode_case.c: what the Unicode tables inside Hugging Face's
`tokenizers` say, read out of the library itself by asking it about every code point.

Its parts were built against different versions of Unicode (the regex engine, the Rust standard
library, the normalizer, the punctuation tables), and so no single published table agrees with
all of them. Usage: python3 -m pip install tokenizers; python3 text/unicode_tables.py
"""
import os
import unicodedata

from tokenizers import Regex, __version__, normalizers, pre_tokenizers

HERE = os.path.dirname(os.path.abspath(__file__))
FULL = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
ALL = "".join(map(chr, FULL))

CATEGORIES = "Cn Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cs".split()
SCRIPTS = """Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki
Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee Chorasmian
Common Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan
Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Garay Georgian Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi
Gurmukhi Gurung_Khema Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inherited
Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi
Khitan_Small_Script Khmer Khojki Khudawadi Kirat_Rai Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian
Mahajani Makasar Malayalam Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui
Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean Nag_Mundari Nandinagari
New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Ol_Onal Old_Hungarian Old_Italic Old_North_Arabian
Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage Osmanya Pahawh_Hmong Palmyrene
Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada Shavian Siddham SignWriting
Sinhala Sogdian Sora_Sompeng Soyombo Sundanese Sunuwar Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet
Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Todhri Toto Tulu_Tigalari Ugaritic Vai Vithkuqi
Wancho Warang_Citi Yezidi Yi Zanabazar_Square""".split()


def matched(pattern):
    """Code points that the regex engine's character pattern matches."""
    split = pre_tokenizers.Split(Regex(pattern + "+"), "removed", invert=True)
    points = set()
    for _, (start, end) in split.pre_tokenize_str(ALL):
        points.update(FULL[start:end])
    return points


def where(test):
    return {c for c in FULL if test(chr(c))}


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def fill(items):
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > 119:
            lines.append(line)
            line = "   "
        line += " " + item + ","
    return "\n".join(lines + [line])


def runs_table(name, kind_of, shift):
    """Runs of code points of one kind: start << shift | kind."""
    items, last = [], None
    for c in FULL:
        kind = kind_of.get(c, 0)
        if kind != last:
            items.append("0x%X" % (c << shift | kind))
            last = kind
    return "const uint32_t %s[] = {\n%s\n};\nconst size_t %s_count = %d;\n" % (name, fill(items), name, len(items))


def set_table(name, points):
    items = ["{0x%X, 0x%X}" % tuple(r) for r in ranges(points)]
    return "const ft_range32 %s[] = {\n%s\n};\nconst size_t %s_count = %d;\n" % (name, fill(items), name, len(items))


def mapping_table(name, pairs):
    """Runs {first, last, step, delta} of c -> c + delta."""
    out = []
    for c, to in sorted(pairs):
        if out:
            first, last, step, delta = out[-1]
            gap = c - last
            if to - c == delta and gap <= 2 and (step == 0 or step == gap):
                out[-1] = (first, c, gap, delta)
                continue
        out.append((c, c, 0, to - c))
    items = ["{0x%X, 0x%X, %d, %d}" % (f, l, s or 1, d) for f, l, s, d in out]
    return "const ft_case_run %s[] = {\n%s\n};\nconst size_t %s_count = %d;\n" % (name, fill(items), name, len(items))


def fold_orbits(lower):
    """c -> least code point that (?i:c) matches too."""
    cased = sorted(c for c in FULL if chr(c).lower() != chr(c) or chr(c).upper() != chr(c) or c in lower
                   or chr(c).casefold() != chr(c) or c in set(lower.values()))
    text = "\n".join(map(chr, cased))
    pairs = []
    for c in cased:
        split = pre_tokenizers.Split(Regex("(?i:%s)" % chr(c)), "removed", invert=True)
        orbit = {ord(s) for s, _ in split.pre_tokenize_str(text)}
        assert c in orbit and all(x in cased for x in orbit), hex(c)
        if min(orbit) != c:
            pairs.append((c, min(orbit)))
    return pairs


def multi_folds():
    """Characters that fold to two or three others, as far as the engine agrees."""
    out = []
    for c in FULL:
        fold = chr(c).casefold()
        if len(fold) > 1:
            split = pre_tokenizers.Split(Regex("(?i:%s)" % fold), "removed", invert=True)
            if [s for s, _ in split.pre_tokenize_str("\n%s\n" % chr(c))] == [chr(c)]:
                out.append((c, [ord(x) for x in fold]))
            else:
                print("not folded: U+%04X" % c)
    return out


def normalizer_knows():
    """Code points with a decomposition or a combining class in the normalizer's own version of Unicode."""
    nfd, nfkd = normalizers.NFD(), normalizers.NFKD()
    known = where(lambda s: nfkd.normalize_str(s) != s or nfd.normalize_str(s) != s)
    for c in FULL:
        cls = unicodedata.combining(chr(c))
        if cls:
            other = "\u0345" if cls < 240 else "\u0334"
            text = "a" + other + chr(c) if cls < 240 else "a" + chr(c) + other
            if nfd.normalize_str(text) == unicodedata.normalize("NFD", text):
                known.add(c)
    return known


HEAD = """/* Generated by unicode_tables.py from tokenizers %s: do not edit. */
#include "text/unicode_internal.h"

/* clang-format off */
"""


def main():
    kind = {}
    for i, name in enumerate(CATEGORIES):
        if name not in ("Cn", "Cs"):
            kind.update((c, i) for c in matched(r"\p{%s}" % name))
    have = lambda *names: {c for c, k in kind.items() if CATEGORIES[k][: len(names[0])] in names}
    script = {}
    for i, name in enumerate(SCRIPTS):
        script.update((c, i + 1) for c in matched(r"\p{%s}" % name))
    letter, number, mark, punct = have("L"), have("N"), have("M"), have("P")
    alphabetic = matched(r"\p{Alphabetic}")
    space = matched(r"\s")
    ascii_punct = {c for c in range(128) if chr(c) in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"}
    assert matched(r"[[:punct:]]") == punct | have("S"), "punct"
    assert matched(r"[[:alnum:]]") == alphabetic | have("Nd"), "alnum"
    word = alphabetic | mark | have("Nd") | have("Pc")
    # Outside brackets the engine has its own idea of the first 256 code points.
    assert matched(r"[\w]") == word and matched(r"\w") == word | {0xB2, 0xB3, 0xB9, 0xBC, 0xBD, 0xBE}, "word"
    graph = set(FULL) - space - have("Cc") - {c for c in FULL if c not in kind}
    assert matched(r"[[:graph:]]") == graph and matched(r"[[:print:]]") == graph | have("Zs"), "graph"
    assert matched(r"[[:blank:]]") == have("Zs") | {9}, "blank"
    whitespace = pre_tokenizers.Whitespace()
    rust_word = where(lambda s: whitespace.pre_tokenize_str("a" + s) == [("a" + s, (0, 2))])
    assert rust_word == word | {0x200C, 0x200D}, "single_word"
    digits = pre_tokenizers.Digits(individual_digits=True)
    numeric = where(lambda s: len(digits.pre_tokenize_str("a" + s)) == 2)
    split = pre_tokenizers.Punctuation()
    punctuation = where(lambda s: len(split.pre_tokenize_str("a" + s)) == 2)
    strip = normalizers.StripAccents()
    accents = where(lambda s: strip.normalize_str(s) == "")
    with open(os.path.join(HERE, "unicode_tables.c"), "w") as f:
        f.write(HEAD % __version__)
        f.write("\n/* General category: start << 5 | index into ft_category_names. */\n")
        f.write(runs_table("ft_categories", kind, 5))
        f.write('const char *const ft_category_names[] = {\n%s\n};\nconst size_t ft_category_names_count = %d;\n'
                % (fill('"%s"' % n for n in CATEGORIES), len(CATEGORIES)))
        f.write("\n/* Script: start << 8 | index into ft_script_names; 0 is Unknown. */\n")
        f.write(runs_table("ft_scripts", script, 8))
        f.write('const char *const ft_script_names[] = {\n%s\n};\nconst size_t ft_script_names_count = %d;\n'
                % (fill('"%s"' % n for n in ["Unknown"] + SCRIPTS), len(SCRIPTS) + 1))
        f.write("\n/* What distinguishes a property from a sum of categories: its members outside the sum, and\n"
                " * the sum's outside it. */\n")
        f.write(set_table("ft_alphabetic_or_l_nl", alphabetic ^ (letter | have("Nl"))))
        f.write(set_table("ft_uppercase_or_lu", matched(r"\p{Uppercase}") ^ have("Lu")))
        f.write(set_table("ft_lowercase_or_ll", matched(r"\p{Lowercase}") ^ have("Ll")))
        f.write(set_table("ft_numeric_or_n", numeric ^ number))
        f.write(set_table("ft_punctuation_or_p", punctuation ^ (punct | ascii_punct)))
        f.write(set_table("ft_accents_or_m", accents ^ mark))
        f.write("\n/* Has a decomposition or a combining class for the normalizer. */\n")
        f.write(set_table("ft_normalizer_knows", normalizer_knows()))
    lowercase = normalizers.Lowercase()
    lower = {c: lowercase.normalize_str(chr(c)) for c in FULL if lowercase.normalize_str(chr(c)) != chr(c)}
    assert [hex(c) for c, s in lower.items() if len(s) > 1] == ["0x130"] and lower[0x130] == "i\u0307"
    lower = {c: ord(s) for c, s in lower.items() if len(s) == 1}
    with open(os.path.join(HERE, "unicode_case.c"), "w") as f:
        f.write(HEAD % __version__)
        f.write("\n/* Lower case, one to one; U+0130 alone becomes two. */\n")
        f.write(mapping_table("ft_lower_runs", lower.items()))
        f.write("\n/* To the least character that is equal but for case. */\n")
        f.write(mapping_table("ft_fold_runs", fold_orbits(lower)))
        f.write("\n/* Characters equal, but for case, to several. */\n")
        items = ["{0x%X, {%s}}" % (c, ", ".join("0x%X" % x for x in to)) for c, to in multi_folds()]
        f.write("const ft_multi_fold ft_multi_folds[] = {\n%s\n};\nconst size_t ft_multi_folds_count = %d;\n"
                % (fill(items), len(items)))


main()
