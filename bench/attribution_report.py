"""bench/attribution's report: figures of the testing half, as one JSON object and as Markdown."""
import attribution_score as score

KINDS = {"one": "planted in one", "two": "planted in two", "paraphrase": "planted in one, said in other words", "none": "planted nowhere",
         "alike": "planted nowhere, like an owner's text", "public": "planted nowhere, like public text"}


def rate(k, n):
    return {"k": k, "n": n, "rate": score.ratio(k, n), "interval": score.wilson(k, n)}


def by_kind(spans, t):
    """Precision and recall of each evidence and the verdict, for each kind of text and all together."""
    out = []
    for kind in (*KINDS, None):
        chosen = [s for s in spans if kind in (None, s["kind"])]
        for evidence in score.EVIDENCE:
            n = score.tally(chosen, evidence, t)
            out.append({"kind": kind or "all", "evidence": evidence, "spans": n["spans"], "precision": rate(n["right"], n["named"]),
                        "recall": rate(n["found"], n["wanted"]), "false_spans": rate(n["spans_false"], n["spans"]),
                        "wrong_spans": rate(n["spans_wrong"], n["spans"]), "unheld_spans": rate(n["spans_unheld"], n["spans"]),
                        "texts_named": sum(a for a, _ in n["canaries"].values()),
                        "false_texts": rate(sum(f for _, f in n["canaries"].values()), len(n["canaries"]))})
    return out


def verbatim_spans(spans, t):
    """Spans with the verdict that their words give: whether exactly the owners that hold them are named, and whether
    every owner in whose corpus the text was planted is among them."""
    mine = [s for s in spans if score.judge(s, t)[0] == "verbatim" and score.judge(s, t)[1]]
    exact = sum(score.judge(s, t)[1] == set(s["holders"]) for s in mine)
    planted = [s for s in mine if s["planted"]]
    whole = sum(set(s["planted"]) <= score.judge(s, t)[1] for s in planted)
    return {"exact": rate(exact, len(mine)), "planted_named": rate(whole, len(planted))}


def influenced(spans, t):
    """Spans of planted texts that words leave open: the owner with most cause, with most routing, and chance; and each
    evidence's precision and recall at its thresholds."""
    open_ = score.to_be_influenced(spans, t)
    out = {"spans": len(open_), "canaries": len({s["canary"] for s in open_}), "chance": score.mean(map(score.chance, open_)),
           "advantage": score.advantage(open_), "advantage_interval": score.bootstrap(open_, score.advantage),
           "over_chance": score.over_chance(open_), "over_chance_interval": score.bootstrap(open_, score.over_chance)}
    left = [s for s in spans if not score.speaks(s, "verbatim", t)]
    for evidence in ("causal", "routing"):
        n = score.tally(left, evidence, t)
        out[evidence] = {"accuracy": score.accuracy(open_, evidence),
                         "accuracy_interval": score.bootstrap(open_, lambda some, e=evidence: score.accuracy(some, e)),
                         "precision": rate(n["right"], n["named"]), "recall": rate(n["found"], n["wanted"])}
    for evidence in ("uncaused", "verdict"):
        n = score.tally(left, evidence, t)
        out[evidence] = {"precision": rate(n["right"], n["named"]), "recall": rate(n["found"], n["wanted"])}
    return out


def memorised(generated):
    """How many canaries came out word for word over twelve words after the prompt, and how many words the same, by kind."""
    out = {}
    for row in generated:
        want, got = row["wanted"].split(), row["said"].split()
        same = next((i for i, (x, y) in enumerate(zip(want, got)) if x != y), min(len(want), len(got)))
        whole = same >= min(len(want), 12)
        n = out.setdefault(row["kind"], {"texts": 0, "whole": 0, "words": 0})
        n["texts"] += 1
        n["whole"] += whole
        n["words"] += same
    return out


def make(sets, half, generated, thresholds):
    """`half` of each canary: 0 chooses thresholds, 1 gives the figures."""
    learn = [{**s, "set": name} for name, spans in sets.items() for s in spans if half[s["canary"]] == 0]
    tests = {name: [s for s in spans if half[s["canary"]] == 1] for name, spans in sets.items()}
    chosen = score.calibrate(learn)
    out = {"thresholds": {"program": thresholds, "calibrated": chosen}, "memorised": memorised(generated),
           "calibrating": {"spans": len(learn), "canaries": len({s["canary"] for s in learn})}}
    for label, t in (("program", thresholds), ("calibrated", chosen)):
        out[label] = {name: {"by_kind": by_kind(spans, t), "verbatim": verbatim_spans(spans, t)} for name, spans in tests.items()}
        out[label]["forced"]["influenced"] = influenced(tests["forced"], t)
    return out


# --- Markdown -----------------------------------------------------------------------------


def percent(x):
    return "-" if x is None else f"{100 * x:.1f} %"


def shown(r):
    return "-" if not r["n"] else f"{percent(r['rate'])} ({r['k']}/{r['n']})"


def between(interval):
    return "-" if interval[0] is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"


def pair(row):
    """Precision and recall as one cell."""
    return f"{shown(row['precision'])}; {shown(row['recall'])}" if row["recall"]["n"] else shown(row["precision"])


def kinds_table(rows, kinds):
    lines = ["| text | verbatim alone | routing alone | causal alone | verdict without cause | verdict |", "|---|---|---|---|---|---|"]
    for kind in kinds:
        cells = {r["evidence"]: pair(r) for r in rows if r["kind"] == kind}
        lines.append(f"| {KINDS.get(kind, '**all**')} | " + " | ".join(cells[e] for e in score.EVIDENCE) + " |")
    return lines


def false_table(rows, kinds):
    lines = ["| text | routing alone | causal alone | verdict without cause | verdict | verdict, 95 % | verdict, not even like that owner's | verdict, its words not held | 95 % | texts, verdict |", "|---|---|---|---|---|---|---|---|---|---|"]
    for kind in kinds:
        cells = {r["evidence"]: r for r in rows if r["kind"] == kind}
        v = cells["verdict"]
        lines.append(f"| {KINDS.get(kind, '**all**')} | {shown(cells['routing']['false_spans'])} | {shown(cells['causal']['false_spans'])} | {shown(cells['uncaused']['false_spans'])} | "
                     f"{shown(v['false_spans'])} | {between(v['false_spans']['interval'])} | {shown(v['wrong_spans'])} | {shown(v['unheld_spans'])} | "
                     f"{between(v['unheld_spans']['interval'])} | {shown(v['false_texts'])} |")
    return lines


def markdown(report):
    t = report["thresholds"]
    lines = ["| threshold | program | calibrated |", "|---|---|---|"]
    lines += [f"| `{n}` | {v:g} | {t['calibrated'][n]:g} |" for n, v in t["program"].items()]
    lines += ["", "Generated from the first eight words: " + "; ".join(
        f"{KINDS[k]}: {n['whole']} of {n['texts']} go on word for word for twelve words (mean {n['words'] / n['texts']:.1f})" for k, n in report["memorised"].items()) + "."]
    for label in ("program", "calibrated"):
        r = report[label]
        everything, made = (*KINDS, "all"), ("one", "two", "none", "all")
        lines += ["", f"### Thresholds: {label}", "", "Precision; recall, of texts as they stand:", ""]
        lines += kinds_table(r["forced"]["by_kind"], everything)
        lines += ["", "The same, of what was generated:", "", *kinds_table(r["generated"]["by_kind"], made)]
        lines += ["", "Spans that name an owner whose corpus does not hold them:", "", *false_table(r["forced"]["by_kind"], everything)]
        lines += ["", "The same, of what was generated:", "", *false_table(r["generated"]["by_kind"], made)]
        for name in ("forced", "generated"):
            v = r[name]["verbatim"]
            lines += ["", f"Spans with the verdict of their words, {'of texts as they stand' if name == 'forced' else 'generated'}: exactly the owners that hold the words: {shown(v['exact'])}, {between(v['exact']['interval'])}; "
                      f"all owners of the planted text named: {shown(v['planted_named'])}."]
        i = r["forced"]["influenced"]
        lines += ["", f"Spans of planted texts that words leave open: {i['spans']} in {i['canaries']} texts.", "",
                  "| | strongest owner is right | 95 % | precision | recall |", "|---|---|---|---|---|"]
        for e in ("causal", "routing"):
            lines.append(f"| {e} | {percent(i[e]['accuracy'])} | {between(i[e]['accuracy_interval'])} | {shown(i[e]['precision'])} | {shown(i[e]['recall'])} |")
        for e, what in (("uncaused", "verdict without cause"), ("verdict", "verdict")):
            lines.append(f"| {what} | | | {shown(i[e]['precision'])} | {shown(i[e]['recall'])} |")
        lines += [
                  f"| chance | {percent(i['chance'])} | | | |",
                  "", f"Cause over routing: {percent(i['advantage'])} ({between(i['advantage_interval'])}); over chance: "
                  f"{percent(i['over_chance'])} ({between(i['over_chance_interval'])})."]
    return "\n".join(lines) + "\n"
