"""The arithmetic of bench/attribution, on spans made by hand. python3 tests/check_attribution.py"""
import itertools
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))
import attribution_corpora as corpora
import attribution_score as score

T = score.DEFAULTS


def owner(count=0, share=0.25, loss=0.0, public=False, usual=0.25):
    return {"public": public, "count": count, "share": share, "usual": usual, "loss": loss}


def span(canary="c", planted=(), holders=(), public_holds=False, length=10, nats=60, public=None, **owners):
    everyone = {"public": owner(public=True), "a": owner(), "b": owner(), "c": owner(), **owners}
    if public:
        everyone["public"] = public
    return {"canary": canary, "kind": "one", "planted": list(planted), "like": [], "holders": list(holders), "public_holds": public_holds,
            "length": length, "nats": nats, "owners": everyone}


class Rule(unittest.TestCase):
    def test_words_decide_first_and_the_public_corpus_takes_them(self):
        self.assertEqual(score.judge(span(a=owner(3), b=owner(loss=90, share=0.9)), T), ("verbatim", {"a"}))
        self.assertEqual(score.judge(span(a=owner(3), c=owner(1)), T), ("verbatim", {"a", "c"}))
        self.assertEqual(score.judge(span(a=owner(3), public=owner(1, public=True)), T), ("verbatim", set()))

    def test_a_short_or_probable_span_is_not_decided_by_its_words(self):
        for some in (span(length=5, a=owner(3)), span(nats=39.9, a=owner(3))):
            self.assertEqual(score.judge(some, T), (None, set()))

    def test_cause_decides_where_it_was_asked_for_and_needs_more_than_the_usual_weight(self):
        self.assertEqual(score.judge(span(a=owner(share=0.3, loss=3)), T), ("causal", {"a"}))
        self.assertEqual(score.judge(span(a=owner(share=0.25, loss=3)), T), (None, set()))
        self.assertEqual(score.judge(span(a=owner(share=0.3, loss=2.9)), T), (None, set()))
        self.assertEqual(score.judge(span(length=11, a=owner(share=0.3, loss=3)), T), (None, set()))
        self.assertEqual(score.judge(span(a=owner(share=0.9, loss=1)), T), (None, set()))
        unasked = {n: owner(loss=None, share=s) for n, s in (("a", 0.9), ("b", 0.2), ("c", 0.2))}
        self.assertEqual(score.judge(span(public=owner(public=True, loss=None), **unasked), T), ("routing", {"a"}))

    def test_words_of_the_public_corpus_are_laid_to_nobody_else(self):
        s = span(nats=20, a=owner(share=0.9, loss=9), public=owner(1, public=True))
        self.assertEqual(score.judge(s, T), (None, set()))
        s["owners"]["public"]["loss"] = 9
        s["owners"]["public"]["share"] = 0.5
        self.assertEqual(score.judge(s, T), ("causal", set()))

    def test_words_of_some_owners_corpora_are_laid_to_no_other_owner(self):
        s = span(nats=20, a=owner(share=0.9, loss=9), b=owner(1))
        self.assertEqual(score.judge(s, T), (None, set()))
        s["owners"]["a"]["count"] = 2
        self.assertEqual(score.judge(s, T), ("causal", {"a"}))
        s["owners"]["a"]["count"] = None  # no index to look into
        self.assertEqual(score.judge(s, T), ("causal", {"a"}))
        s["owners"]["a"]["count"] = s["owners"]["b"]["count"] = 0
        self.assertEqual(score.judge(s, T), ("causal", {"a"}))

    def test_each_evidence_alone_names_by_itself(self):
        s = span(a=owner(2), b=owner(share=0.8), c=owner(loss=9, share=0.1))
        self.assertEqual([score.named(s, e, T) for e in score.EVIDENCE], [{"a"}, {"b"}, {"c"}, {"a"}, {"a"}])
        s = span(b=owner(share=0.8), c=owner(loss=9, share=0.3))
        self.assertEqual((score.named(s, "uncaused", T), score.named(s, "verdict", T)), ({"b"}, {"c"}))


class Tally(unittest.TestCase):
    def test_precision_recall_and_false_names_are_counted_by_owner_span_and_text(self):
        spans = [span("x", ["a"], a=owner(loss=9)),                           # right
                 span("x", ["a", "b"], a=owner(loss=9), c=owner(loss=9)),      # one right, one false, one missed
                 span("y", [], b=owner(loss=9)),                               # false
                 span("z", ["a"], public_holds=True),                          # nobody need be named
                 span("z", ["a"])]                                             # missed
        n = score.tally(spans, "causal", T)
        self.assertEqual([n[k] for k in ("spans", "named", "right", "wanted", "found", "spans_false")], [5, 4, 2, 4, 2, 2])
        self.assertEqual(n["canaries"], {"x": [True, True], "y": [False, True], "z": [False, False]})

    def test_text_like_an_owners_is_falsely_but_not_wrongly_its(self):
        s = {**span(b=owner(loss=9)), "like": ["b"]}
        for some, wrong in ((s, 0), ({**s, "like": ["a"]}, 1)):
            n = score.tally([some], "causal", T)
            self.assertEqual((n["right"], n["spans_false"], n["spans_wrong"]), (0, 1, wrong))

    def test_a_false_name_may_be_of_an_owner_that_holds_the_words(self):
        for holders, unheld in (([], 1), (["b"], 0), (["a"], 1)):
            n = score.tally([span(planted=["c"], holders=holders, b=owner(loss=9))], "causal", T)
            self.assertEqual((n["spans_false"], n["spans_unheld"]), (1, unheld))
        self.assertEqual(score.tally([span(planted=["b"], b=owner(loss=9))], "causal", T)["spans_unheld"], 0)

    def test_words_that_a_corpus_holds_are_named_rightly_and_a_cause_there_is_not(self):
        s = span(planted=[], holders=["a"], a=owner(1, loss=9, share=0.5))
        self.assertEqual([score.tally([s], e, T)["right"] for e in score.EVIDENCE], [1, 0, 0, 1, 1])

    def test_the_strongest_owner_is_found_and_ties_name_nobody(self):
        s = span(planted=["b"], a=owner(share=0.9), b=owner(loss=0.1), public=owner(public=True, loss=50))
        self.assertEqual(score.top_one(s, "causal"), "b")
        self.assertEqual(score.top_one(s, "routing"), "a")
        self.assertIsNone(score.top_one(span(), "causal"))
        self.assertAlmostEqual(score.chance(s), 1 / 3)
        self.assertEqual(score.advantage([s]), 1)
        self.assertAlmostEqual(score.over_chance([s]), 2 / 3)


class Intervals(unittest.TestCase):
    def test_wilson_gives_published_values(self):
        for (k, n), (low, high) in (((0, 10), (0, 0.2775)), ((1, 10), (0.0179, 0.4042)), ((5, 10), (0.2366, 0.7634)),
                                    ((10, 10), (0.7225, 1)), ((81, 263), (0.2553, 0.3662))):
            self.assertAlmostEqual(score.wilson(k, n)[0], low, 4)
            self.assertAlmostEqual(score.wilson(k, n)[1], high, 4)

    def test_whole_texts_are_drawn(self):
        one_text = [span("x", ["a"], a=owner(loss=9)), span("x", ["a"], b=owner(loss=9))]
        self.assertEqual(score.bootstrap(one_text, lambda s: score.accuracy(s, "causal"), 50), (0.5, 0.5))
        texts = [span(str(i), ["a"], **{"a" if i % 2 else "b": owner(loss=9)}) for i in range(40)]
        low, high = score.bootstrap(texts, lambda s: score.accuracy(s, "causal"), 500)
        self.assertTrue(0.3 < low < 0.45 and 0.55 < high < 0.7, (low, high))


class Thresholds(unittest.TestCase):
    def test_each_kind_and_owner_is_halved(self):
        half = score.halves([(f"{k}{o}{i}", k, [o]) for k in "xy" for o in "ab" for i in range(4)])
        self.assertEqual([sum(half[f"{k}{o}{i}"] for i in range(4)) for k in "xy" for o in "ab"], [2, 2, 2, 2])

    def test_the_most_is_found_that_the_limit_on_false_names_allows(self):
        planted = [span(f"p{i}", ["a"], nats=20, a=owner(0, share=0.3, loss=2 + i / 10)) for i in range(50)]
        nobodys = [span(f"n{i}", [], nats=20, b=owner(0, share=0.3, loss=i / 20)) for i in range(150)]
        everything, names = planted + nobodys, ("causal_nats", "causal_nats_per_token")
        t = score.calibrate(everything, limit=0.06)
        n = score.tally(everything, "verdict", t)
        self.assertLessEqual(n["spans_false"], 12)
        for values in itertools.product(*(score.STEPS[x] for x in names)):
            other = score.tally(everything, "verdict", {**T, **dict(zip(names, values))})
            self.assertTrue(other["spans_false"] > 12 or other["found"] <= n["found"], values)

    def test_words_held_by_chance_count_against_the_words_thresholds(self):
        spans = [span(f"p{i}", ["a"], holders=["a"], nats=50, length=8, a=owner(2)) for i in range(20)]
        spans += [span(f"n{i}", [], holders=["b"], nats=24, length=8, b=owner(2)) for i in range(20)]
        t = score.calibrate(spans)
        self.assertTrue(25 <= t["verbatim_nats"] <= 50, t)


class Canaries(unittest.TestCase):
    COUNTS = {"one": 3, "two": 2, "paraphrase": 3, "none": 4}

    def test_the_same_seed_gives_the_same_and_no_text_twice(self):
        made = corpora.canaries(5, self.COUNTS)
        self.assertEqual(made, corpora.canaries(5, self.COUNTS))
        self.assertEqual(len({c["text"] for c in made} | set(corpora.decoys(6, 100))), len(made) + 100)

    def test_a_paraphrase_has_all_facts_and_other_words(self):
        for c in corpora.canaries(7, self.COUNTS):
            if c["kind"] == "paraphrase":
                names = {w.strip(".,;") for w in c["text"].split()[1:] if w[0].isupper() or w[0].isdigit()} - {"In", "Its", "It", "On", "The", "They", "Nobody"}
                self.assertTrue(all(n in c["said"] for n in names), (names, c))
                shared = set(zip(c["text"].split(), c["text"].split()[1:], c["text"].split()[2:], c["text"].split()[3:]))
                again = set(zip(c["said"].split(), c["said"].split()[1:], c["said"].split()[2:], c["said"].split()[3:]))
                self.assertLessEqual(len(shared & again), 5, c)

    def test_planted_owners_are_as_many_as_the_kind_says(self):
        for c in corpora.canaries(8, self.COUNTS):
            self.assertEqual(len(c["planted"]), {"one": 1, "two": 2, "paraphrase": 1, "none": 0}[c["kind"]])


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    wrong = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - wrong - len(result.skipped)} passed, {wrong} failed, {len(result.skipped)} skipped")
    sys.exit(wrong > 0)
