/* heatmap.js: which experts were chosen for every token in every layer, and with what weight.
 *
 * A column is a token of the response, a row a layer; a cell stacks the chosen experts, each as
 * tall as its part of the mixing weight and as strong as the weight itself, and names the first.
 * Row t of the routing is the pass that read token t of prompt + response, so the pass that wrote
 * response token t is row prompt + t - 1; the first token of a text without prompt has none. */
import { byId, el, number, visible } from "./dom.js";

const PAGE = 96; /* columns at once: enough to look over, few enough to draw at once */

function decode(base64, view) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const data = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length >> 2 }, (_, i) => (view === "ids" ? data.getInt32(i * 4, true) : data.getFloat32(i * 4, true)));
}

export class Heatmap {
  /* onPoint(token | null) as the focus moves. */
  constructor(owners, onPoint) {
    this.owners = owners;
    this.onPoint = onPoint;
    this.table = byId("heatmap");
    this.readout = byId("readout");
    byId("page-back").addEventListener("click", () => this.#page(this.first - PAGE));
    byId("page-on").addEventListener("click", () => this.#page(this.first + PAGE));
    this.table.addEventListener("keydown", (event) => this.#key(event));
    this.table.addEventListener("focusin", (event) => this.#say(event.target.closest("td")));
    this.table.addEventListener("pointerover", (event) => this.#say(event.target.closest("td")));
    this.table.addEventListener("focusout", () => this.onPoint(null));
    this.table.addEventListener("pointerleave", () => this.onPoint(null));
    this.table.addEventListener("click", (event) => event.target.closest("td")?.focus());
  }

  clear() {
    byId("routing").hidden = true;
    this.table.replaceChildren();
  }

  show(trace) {
    const routing = trace.routing;
    if (!routing || !trace.tokens.length) return this.clear();
    this.tokens = trace.tokens;
    this.layers = routing.layers;
    this.k = routing.top_k;
    this.ids = decode(routing.ids, "ids");
    this.weights = decode(routing.weights, "weights");
    this.offset = (trace.prompt?.ids?.length ?? 0) - 1 - (routing.first ?? 0);
    this.rows = Math.min(routing.tokens, Math.floor(this.ids.length / (this.layers * this.k)));
    byId("routing-facts").textContent = `${number(this.layers)} layers, ${this.k} of ${routing.experts.length - (routing.without?.length ?? 0)} experts a token`;
    byId("routing").hidden = false;
    byId("heatmap-scroller").scrollLeft = 0;
    this.#page(0);
  }

  /* Brings a token's column into view. */
  reveal(token) {
    if (!this.tokens || byId("routing").hidden) return;
    if (token < this.first || token >= this.first + PAGE) this.#page(Math.floor(token / PAGE) * PAGE);
    const cell = this.table.querySelector(`td[data-token="${token}"]`);
    if (cell) byId("heatmap-scroller").scrollTo({ left: Math.max(0, cell.offsetLeft - 80) });
  }
  mark(span) {
    for (const head of this.table.querySelectorAll("th[data-token]"))
      head.classList.toggle("chosen", span !== null && head.dataset.token >= span.start && head.dataset.token < span.end);
  }

  /* [[owner, weight], …] of a token in a layer, heaviest first; empty for a first token, before which nothing was read. */
  #chosen(token, layer) {
    const row = token + this.offset;
    if (row < 0 || row >= this.rows) return [];
    const at = (row * this.layers + layer) * this.k;
    const list = [];
    for (let i = 0; i < this.k; i++) if (this.ids[at + i] >= 0) list.push([this.owners.ofExpert(this.ids[at + i]), this.weights[at + i]]);
    return list.sort((a, b) => b[1] - a[1]);
  }

  #page(first) {
    this.first = Math.max(0, Math.min(first, Math.floor((this.tokens.length - 1) / PAGE) * PAGE));
    const last = Math.min(this.first + PAGE, this.tokens.length);
    const head = el("tr", {}, el("th", { scope: "col", class: "corner" }, el("span", { class: "sr" }, "layer")));
    for (let t = this.first; t < last; t++)
      head.append(el("th", { scope: "col", data: { token: t }, title: `token ${t}` }, el("span", {}, visible(this.tokens[t].text.trim()) || "␣")));
    const body = el("tbody");
    for (let layer = 0; layer < this.layers; layer++) {
      const row = el("tr", {}, el("th", { scope: "row" }, String(layer)));
      for (let t = this.first; t < last; t++) row.append(this.#cell(t, layer));
      body.append(row);
    }
    body.querySelector("td")?.setAttribute("tabindex", "0");
    this.table.replaceChildren(el("thead", {}, head), body);
    byId("pager").hidden = this.tokens.length <= PAGE;
    byId("page-facts").textContent = `tokens ${this.first}–${last - 1} of ${number(this.tokens.length)}`;
    byId("page-back").disabled = this.first === 0;
    byId("page-on").disabled = last === this.tokens.length;
    this.readout.textContent = "Choose a cell for its experts and weights; arrow keys move.";
  }

  #cell(token, layer) {
    const chosen = this.#chosen(token, layer);
    const cell = el("td", { role: "gridcell", tabindex: "-1", data: { token, layer }, "aria-label": this.#sentence(token, layer, chosen) });
    const total = chosen.reduce((sum, [, weight]) => sum + weight, 0) || 1;
    const stack = el("div", { class: "stack" });
    for (const [owner, weight] of chosen) {
      const part = el("i", { class: this.owners.mark(owner), data: { owner } });
      part.style.setProperty("flex-grow", (weight / total).toFixed(4));
      part.style.setProperty("--weight", Math.min(1, weight).toFixed(3));
      stack.append(part);
    }
    if (chosen.length) stack.append(el("b", {}, this.owners.abbreviation(chosen[0][0])));
    cell.append(stack);
    return cell;
  }

  #sentence(token, layer, chosen = this.#chosen(token, layer)) {
    const what = chosen.map(([owner, weight]) => `${owner} ${weight.toFixed(2)}`).join(", ") || "no pass before it";
    return `“${visible(this.tokens[token].text)}”, token ${token}, layer ${layer}: ${what}`;
  }
  #say(cell) {
    if (!cell) return;
    this.readout.textContent = this.#sentence(Number(cell.dataset.token), Number(cell.dataset.layer));
    this.onPoint(Number(cell.dataset.token));
  }

  #key(event) {
    const cell = event.target.closest("td");
    if (!cell) return;
    let token = Number(cell.dataset.token);
    let layer = Number(cell.dataset.layer);
    const end = Math.min(this.first + PAGE, this.tokens.length) - 1;
    switch (event.key) {
      case "ArrowRight": token++; break;
      case "ArrowLeft": token--; break;
      case "ArrowDown": layer++; break;
      case "ArrowUp": layer--; break;
      case "Home": token = this.first; break;
      case "End": token = end; break;
      case "PageDown": token = Math.min(token + 10, this.tokens.length - 1); break;
      case "PageUp": token = Math.max(token - 10, 0); break;
      default: return;
    }
    event.preventDefault();
    if (token < 0 || token >= this.tokens.length || layer < 0 || layer >= this.layers) return;
    if (token < this.first || token > end) this.#page(Math.floor(token / PAGE) * PAGE);
    this.table.querySelector('td[tabindex="0"]')?.setAttribute("tabindex", "-1");
    const next = this.table.querySelector(`td[data-token="${token}"][data-layer="${layer}"]`);
    next.setAttribute("tabindex", "0");
    next.focus();
  }
}
