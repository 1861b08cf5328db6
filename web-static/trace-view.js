/* trace-view.js: the text itself, token by token, with its spans.
 *
 * A token's underline is the expert with the largest share of mixing weight in the pass that wrote it
 * (or, in a text from elsewhere, would have). A tinted span stands word for word in its owner's corpus
 * and is a button. Where spans overlap, the later one begins where it begins, and selecting either
 * shows the whole of it. While text streams in, pieces are appended; spans that come, go or change draw
 * the text anew, once a frame. */
import { el, percent, visible } from "./dom.js";

/* The expert that did most, and how much: [id, share], or null for a token nothing wrote. */
function dominant(shares) {
  if (!shares) return null;
  let best = 0;
  for (let e = 1; e < shares.length; e++) if (shares[e] > shares[best]) best = e;
  return shares[best] > 0 ? [best, shares[best]] : null;
}

const mean = (rows) => {
  const known = rows.filter(Boolean);
  if (!known.length) return null;
  return known[0].map((_, e) => known.reduce((sum, row) => sum + row[e], 0) / known.length);
};

/* Pieces of a finished trace. Offsets count characters (code points), JavaScript's count UTF-16
 * units; a token that only finishes a character has no text of its own and joins its neighbour. */
export function piecesOf(trace) {
  const characters = Array.from(trace.response.text);
  const pieces = [];
  let at = 0;
  trace.tokens.forEach((token, t) => {
    const end = Math.max(at, token.end_char);
    const text = characters.slice(at, end).join("");
    at = end;
    const last = pieces.at(-1);
    if (!text && last) {
      last.end = t + 1;
      last.rows.push(token.shares);
    } else pieces.push({ text, start: t, end: t + 1, rows: [token.shares] });
  });
  for (const piece of pieces) piece.shares = mean(piece.rows);
  return pieces;
}

export class TraceView {
  /* onSelect(span, element) when a span is opened. */
  constructor(container, owners, onSelect) {
    this.container = container;
    this.owners = owners;
    this.onSelect = onSelect;
    container.addEventListener("click", (event) => {
      if (window.getSelection().isCollapsed) this.#open(event.target.closest(".span")); /* not after selecting text */
    });
    container.addEventListener("keydown", (event) => this.#key(event));
    this.clear();
  }

  clear() {
    this.prompt = "";
    this.apart = false; /* the prompt on lines of its own: the text does not continue it */
    this.pieces = [];
    this.spans = [];
    this.selected = null;
    this.container.replaceChildren();
  }

  /* ---- streaming ---- */

  begin(prompt) {
    this.clear();
    this.prompt = prompt;
    this.#draw();
  }
  /* rows: the shares of the tokens of `text`; pieces: each token's part of it, where the server says. */
  append(text, rows, pieces) {
    if (pieces?.length === rows.length && rows.length > 1 && pieces.join("") === text)
      return pieces.forEach((piece, i) => this.append(piece, [rows[i]]));
    const start = this.pieces.at(-1)?.end ?? 0;
    const piece = { text, start, end: start + rows.length, shares: mean(rows) };
    this.pieces.push(piece);
    if (!this.pending) this.container.append(this.#token(piece));
  }
  /* The server's add, replace and remove. */
  change(operations) {
    for (const { op, ...span } of operations) {
      this.spans = this.spans.filter((other) => other.id !== span.id);
      if (op !== "remove") this.spans.push(span);
    }
    this.spans.sort((a, b) => a.start - b.start || a.end - b.end);
    this.pending ??= requestAnimationFrame(() => {
      this.pending = null;
      this.#draw();
    });
  }
  get length() {
    return this.pieces.at(-1)?.end ?? 0;
  }
  /* Each expert's share of the text so far. */
  get shares() {
    return mean(this.pieces.map((piece) => piece.shares));
  }
  get text() {
    return this.pieces.map((piece) => piece.text).join("");
  }

  /* ---- a finished trace ---- */

  show(trace) {
    if (this.pending) cancelAnimationFrame(this.pending);
    this.pending = null;
    this.prompt = trace.prompt?.text ?? "";
    this.apart = !trace.finish_reason;
    this.pieces = piecesOf(trace);
    this.spans = trace.spans.map((span, id) => ({ ...span, id }));
    this.selected = null;
    this.#draw();
  }

  /* Outlines a span; null for none. */
  select(span) {
    this.selected = span;
    for (const node of this.container.querySelectorAll(".token")) {
      const t = Number(node.dataset.token);
      node.classList.toggle("chosen", span !== null && t >= span.start && t < span.end);
    }
    for (const node of this.container.querySelectorAll(".span")) {
      const here = span !== null && node.dataset.span === String(span.id);
      node.setAttribute("aria-expanded", String(here));
      if (here) this.#rove(node);
    }
  }
  element(span) {
    return [...this.container.querySelectorAll(".span")].find((node) => node.dataset.span === String(span.id));
  }
  /* Points at one token (the heatmap's focus); null takes the pointer away. */
  point(token) {
    this.container.querySelector(".pointed")?.classList.remove("pointed");
    if (token === null) return;
    const piece = this.pieces.findLast((candidate) => candidate.start <= token);
    if (piece) this.container.querySelector(`.token[data-token="${piece.start}"]`)?.classList.add("pointed");
  }

  /* ---- drawing ---- */

  #token(piece) {
    const top = dominant(piece.shares);
    const node = el("span", { class: "token", data: { token: piece.start } }, visible(piece.text));
    if (top && piece.text.trim()) {
      const name = this.owners.ofExpert(top[0]);
      node.className = `token routed ${this.owners.mark(name)}`;
      node.style.setProperty("--strength", (0.35 + 0.65 * top[1]).toFixed(2));
      node.title = piece.shares
        .map((share, e) => [share, this.owners.ofExpert(e)])
        .filter(([share]) => share >= 0.005)
        .sort((a, b) => b[0] - a[0])
        .map(([share, owner]) => `${owner} ${percent(share)}`)
        .join(", ");
    }
    return node;
  }

  #draw() {
    const focused = this.container.contains(document.activeElement) ? document.activeElement.dataset.span : null;
    const nodes = [];
    if (this.prompt) nodes.push(el("span", { class: "prompt" }, el("span", { class: "sr" }, "Prompt: "), visible(this.prompt)));
    let open = null;
    for (let piece of this.pieces) {
      const span = this.spans.findLast((s) => piece.start < s.end && piece.end > s.start) ?? null;
      if (span && open?.span === span) open.node.append(this.#token(piece));
      else if (span) {
        const first = span.owners[0] ?? "";
        const text = piece.text.trimStart(); /* the space before a span's first word is not tinted */
        if (text && text !== piece.text) {
          nodes.push(piece.text.slice(0, piece.text.length - text.length));
          piece = { ...piece, text };
        }
        const node = el(
          "span",
          {
            class: `span ${this.owners.mark(first)}`,
            role: "button",
            tabindex: "-1",
            "aria-expanded": "false",
            "aria-roledescription": "span",
            data: { span: String(span.id) },
          },
          this.#token(piece),
        );
        nodes.push(node);
        open = { span, node };
      } else {
        nodes.push(this.#token(piece));
        open = null;
      }
    }
    this.container.replaceChildren(...nodes);
    this.container.classList.toggle("apart", this.apart);
    const buttons = [...this.container.querySelectorAll(".span")];
    for (const node of buttons) {
      const span = this.spans.find((candidate) => String(candidate.id) === node.dataset.span);
      node.setAttribute("aria-label", `${node.textContent.trim()}: stands in ${span.owners.join(", ") || "a corpus"}`);
      const owners = span.owners.map((owner) => this.owners.abbreviation(owner)).join(" ");
      node.append(el("sup", { class: "tag", "aria-hidden": "true", data: { owners } })); /* drawn by CSS: no part of the text */
    }
    if (buttons.length) buttons[0].tabIndex = 0;
    if (focused !== null) buttons.find((node) => node.dataset.span === focused)?.focus();
    if (this.selected) this.select(this.spans.find((s) => s.start === this.selected.start) ?? null);
  }

  /* ---- keyboard ---- */

  #rove(node) {
    for (const other of this.container.querySelectorAll(".span")) other.tabIndex = other === node ? 0 : -1;
  }
  #open(node) {
    if (!node) return;
    const span = this.spans.find((candidate) => String(candidate.id) === node.dataset.span);
    this.#rove(node);
    this.onSelect(span, node);
  }
  #key(event) {
    const node = event.target.closest(".span");
    if (!node) return;
    const all = [...this.container.querySelectorAll(".span")];
    const at = all.indexOf(node);
    const to = {
      ArrowRight: Math.min(at + 1, all.length - 1),
      ArrowDown: Math.min(at + 1, all.length - 1),
      ArrowLeft: Math.max(at - 1, 0),
      ArrowUp: Math.max(at - 1, 0),
      Home: 0,
      End: all.length - 1,
    }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      this.#rove(all[to]);
      all[to].focus();
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#open(node);
    }
  }
}
