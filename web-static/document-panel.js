/* document-panel.js: what stands behind a span (its owners, routing and documents), and the
 * overview of all documents of a trace. A panel beside the text; on a phone, a sheet at the bottom.
 *
 * Documents are untrusted: their text, ids, sources and metadata are text nodes, never markup or links. */
import { byId, el, number, percent, plural, visible } from "./dom.js";

const BARS = { high: 3, medium: 2, low: 1 };

function relevance(word) {
  const bars = el("span", { class: "relevance-bars", "aria-hidden": "true" });
  for (let i = 1; i <= 3; i++) bars.append(el("i", { class: i <= (BARS[word] ?? 0) ? "on" : null }));
  return el("span", { class: "relevance" }, bars, `${word} relevance`);
}

const times = (n) => (n === 1 ? "once" : n === 2 ? "twice" : `${number(n)} times`);

/* The snippet with its match marked; offsets count characters (code points). */
function snippet(doc) {
  const characters = Array.from(doc.snippet ?? "");
  const part = (from, to) => visible(characters.slice(from, to).join(""));
  let { match_start_char: from, match_end_char: to } = doc;
  while (from < to && /\s/.test(characters[from])) from++; /* a match often begins with its word's space */
  while (to > from && /\s/.test(characters[to - 1])) to--;
  return el("blockquote", { class: "snippet", dir: "auto" }, part(0, from), el("mark", {}, part(from, to)), part(to));
}

function metadata(doc) {
  const rows = Object.entries(doc.metadata ?? {}).filter(([key]) => key !== "source");
  if (!rows.length) return null;
  const list = el("dl");
  for (const [key, value] of rows) list.append(el("dt", {}, visible(key)), el("dd", {}, visible(typeof value === "string" ? value : JSON.stringify(value))));
  return el("details", { class: "metadata" }, el("summary", {}, "Metadata"), list);
}

export class DocumentPanel {
  /* onClose(), onStep(-1 | 1), onDocument(span number) */
  constructor(owners, { onClose, onStep, onDocument }) {
    this.owners = owners;
    this.node = byId("panel");
    this.overview = byId("overview");
    this.onClose = onClose;
    this.onStep = onStep;
    this.onDocument = onDocument;
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.isOpen) {
        event.preventDefault();
        this.close();
      }
    });
  }

  get isOpen() {
    return !this.node.hidden;
  }

  /* span as in docs/trace.md; while text still streams it has owners but no docs yet. */
  open(span, text, trace) {
    const docs = span.docs;
    this.node.replaceChildren(
      el(
        "header",
        {},
        el("h2", { id: "panel-title" }, "Word for word"),
        el("div", { class: "panel-buttons" },
          el("button", { type: "button", class: "button quiet", "aria-label": "Previous span", onclick: () => this.onStep(-1) }, "←"),
          el("button", { type: "button", class: "button quiet", "aria-label": "Next span", onclick: () => this.onStep(1) }, "→"),
          el("button", { type: "button", class: "button quiet", "aria-label": "Close", onclick: () => this.close() }, "✕"),
        ),
      ),
      el("div", { class: "panel-body" }, ...this.#body(span, text, docs, trace)),
    );
    this.overview.hidden = true;
    this.node.hidden = false;
    this.node.scrollTop = 0;
    this.node.focus({ preventScroll: true });
  }

  close() {
    if (!this.isOpen) return;
    this.node.hidden = true;
    this.node.replaceChildren();
    this.overview.hidden = this.overview.querySelector("li") === null;
    this.onClose();
  }

  #body(span, text, docs, trace) {
    const counts = Object.entries(span.owner_counts ?? {}).sort((a, b) => b[1] - a[1]);
    const found = counts.length ? counts : span.owners.map((owner) => [owner, null]);
    const parts = [
      el("p", { class: "quote", dir: "auto" }, visible(text.trim())),
      el(
        "p",
        { class: "found" },
        ...found.map(([owner, count]) => this.#owner(owner, count === null ? "" : ` × ${number(count)}`)),
      ),
    ];
    const facts = [plural(span.end - span.start, "token")];
    if (Number.isFinite(span.count)) facts.push(`${times(span.count)} in all corpora`);
    if (Number.isFinite(span.unigram_logprob_sum)) facts.push(`unigram log-probability ${span.unigram_logprob_sum.toFixed(1).replace("-", "−")}`);
    parts.push(el("p", { class: "facts" }, facts.join(" · ")));
    if (span.verdict) parts.push(this.#verdict(span));
    if (span.evidence) parts.push(el("h3", {}, "Evidence"), this.#evidence(span.evidence));
    if (span.shares) parts.push(el("h3", {}, trace && !trace.finish_reason ? "Experts at work as it was read" : "Experts at work while it was written"), this.#shares(span.shares, trace));
    if (!docs) parts.push(el("p", { class: "hint" }, "Its documents come when the text is complete."));
    else {
      parts.push(el("h3", {}, docs.length === 1 ? "One document" : plural(docs.length, "document")));
      if (span.count > docs.length && docs.length) parts.push(el("p", { class: "hint" }, "Those closest to prompt and text."));
      parts.push(el("ol", { class: "documents" }, ...docs.map((doc) => this.#document(doc))));
    }
    return parts;
  }

  #verdict(span) {
    const named = (span.verdict_owners ?? []).map((name) => this.#owner(name));
    return el("p", { class: "verdict", title: span.verdict_rule ?? "" }, el("strong", {}, span.verdict), ...named);
  }

  /* One line for each owner that something speaks for: what its corpus holds, its expert's share against the usual
   * one, what the span loses without the expert. */
  #evidence(evidence) {
    const list = el("ul", { class: "evidence" });
    for (const { owner, verbatim, routing, causal } of evidence) {
      const facts = [];
      if (verbatim?.count) facts.push(`word for word × ${number(verbatim.count)}`);
      else if (verbatim?.length > 1) facts.push(`${plural(verbatim.length, "token")} of it`);
      if (routing && routing.share >= 0.005) facts.push(`share ${percent(routing.share)}${routing.usual === null ? "" : `, usually ${percent(routing.usual)}`}`);
      if (causal) facts.push(`${causal.loss.toFixed(1).replace("-", "−")} nats less without it`);
      if (facts.length) list.append(el("li", {}, this.#owner(owner), ` ${facts.join(" · ")}`));
    }
    return list;
  }

  #owner(name, suffix = "") {
    return el("span", { class: `owner-name ${this.owners.mark(name)}` }, el("i", { class: "swatch", "aria-hidden": "true" }, this.owners.abbreviation(name)), `${name}${suffix}`);
  }

  #shares(shares, trace) {
    const list = el("ul", { class: "shares" });
    const out = new Set((trace?.experts ?? []).filter((expert) => expert.state === "opted_out").map((expert) => expert.id));
    shares
      .map((share, id) => ({ share, id, name: this.owners.ofExpert(id) }))
      .filter(({ share, id }) => share >= 0.005 || out.has(id))
      .sort((a, b) => b.share - a.share)
      .forEach(({ share, id, name }) => {
        const bar = el("i", { class: this.owners.mark(name) });
        bar.style.setProperty("width", `${(share * 100).toFixed(2)}%`);
        list.append(el("li", {}, el("span", { class: "name" }, name), el("span", { class: "meter", "aria-hidden": "true" }, bar), el("span", { class: "share" }, out.has(id) ? "out" : percent(share))));
      });
    return list;
  }

  #document(doc) {
    return el(
      "li",
      { class: `document ${this.owners.mark(doc.owner)}`, data: { owner: doc.owner } },
      el("h4", { dir: "auto" }, visible(doc.source ?? doc.id ?? "document")),
      el("p", { class: "facts" }, this.#owner(doc.owner), relevance(doc.relevance)),
      snippet(doc),
      el("p", { class: "facts" }, el("span", { class: "id" }, visible(doc.id ?? "")),
        ` · token ${number(doc.position)} of ${number(doc.length)}`, Number.isFinite(doc.score) ? ` · BM25 ${doc.score.toFixed(1)}` : ""),
      metadata(doc),
    );
  }

  /* All documents of a trace, best first; without a trace, a word on them or nothing. */
  showOverview(trace, hint = null) {
    const items = (trace?.documents ?? []).map((doc) =>
      el("li", {},
        el("button", { type: "button", class: `overview-row ${this.owners.mark(doc.owner)}`, onclick: () => this.onDocument(doc.spans[0]) },
          el("span", { class: "source", dir: "auto" }, visible(doc.source ?? doc.id)),
          el("span", { class: "facts" }, this.#owner(doc.owner), relevance(doc.relevance), el("span", { class: "id" }, visible(doc.id ?? "")),
            doc.spans.length > 1 && el("span", {}, plural(doc.spans.length, "span"))),
        ),
      ),
    );
    byId("overview-list").replaceChildren(...items);
    byId("overview-title").textContent = items.length ? plural(items.length, "document") : "Documents";
    if (hint) byId("overview-list").append(el("li", { class: "hint" }, hint));
    this.overview.hidden = this.isOpen || this.overview.querySelector("li") === null;
  }
}
