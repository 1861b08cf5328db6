/* owners.js: who takes part: one row per owner with its switch, its mark and its share.
 *
 * An owner is known by three signs that never come alone: a colour, a line pattern (both CSS
 * classes of its slot) and an abbreviation. Slots follow the experts' numbers, so that an
 * owner keeps its colour whatever is switched off. */
import { byId, el, number, percent, plural, short } from "./dom.js";

const SLOTS = 8; /* colours .o0 … .o7; patterns .p0 … .p6: 56 pairs before one comes again */
const PATTERNS = 7;

/* The shortest beginnings (at least two letters) that tell all names apart. */
function abbreviate(names) {
  const result = new Map();
  for (const name of names) {
    let length = 2;
    while (length < name.length && names.some((other) => other !== name && other.startsWith(name.slice(0, length)))) length++;
    result.set(name, length > 4 ? name.slice(0, 3) + (names.indexOf(name) + 1) : name.slice(0, length));
  }
  return result;
}

export class Owners {
  /* owners: /v1/owners' data; experts: the model's meta.experts. onChange() after a switch. */
  constructor(owners, experts, onChange) {
    this.byExpert = new Map(experts.map((expert) => [expert.id, expert.owner ?? `expert ${expert.id}`]));
    for (const owner of owners) if (Number.isInteger(owner.expert)) this.byExpert.set(owner.expert, owner.name);
    const names = [...this.byExpert].sort((a, b) => a[0] - b[0]).map(([, name]) => name);
    for (const owner of owners) if (!names.includes(owner.name)) names.push(owner.name);
    this.names = names;
    this.short = abbreviate(names);
    this.rows = new Map();
    this.onChange = onChange;
    const known = new Map(owners.map((owner) => [owner.name, owner]));
    byId("owners").replaceChildren(...names.map((name) => this.#row(name, known.get(name))));
  }

  /* Classes of an owner's colour and pattern. */
  mark(name) {
    let slot = this.names.indexOf(name);
    if (slot < 0) slot = this.names.push(name) - 1;
    return `o${slot % SLOTS} p${slot % PATTERNS}`;
  }
  abbreviation(name) {
    return this.short.get(name) ?? name.slice(0, 3);
  }
  ofExpert(id) {
    return this.byExpert.get(id) ?? `expert ${id}`;
  }

  /* The owners that are switched off. */
  without() {
    return [...this.rows].filter(([, row]) => row.input && !row.input.checked).map(([name]) => name);
  }
  /* False when every expert is switched off; a dense model has none to switch. */
  anyLeft() {
    const inputs = [...this.rows.values()].map((row) => row.input).filter(Boolean);
    return !inputs.length || inputs.some((input) => input.checked);
  }

  /* Shares of `experts` (a trace's) and, per owner, the spans that stand in its corpus. */
  show(experts, spans, tokenCount) {
    const shares = new Map();
    for (const expert of experts ?? []) shares.set(expert.owner ?? this.ofExpert(expert.id), expert);
    for (const [name, row] of this.rows) {
      const expert = shares.get(name);
      const share = expert?.share ?? 0;
      const out = expert?.state === "opted_out";
      row.item.classList.toggle("out", out);
      row.bar.style.setProperty("width", `${(share * 100).toFixed(2)}%`);
      row.share.textContent = expert ? (out ? "out" : percent(share)) : "";
      row.item.dataset.share = expert ? share : "";
      const held = spans.filter((span) => span.owners.includes(name));
      const tokens = new Set();
      for (const span of held) for (let t = span.start; t < span.end; t++) tokens.add(t);
      row.spans.textContent = held.length ? `${plural(held.length, "span")}, ${percent(tokens.size / (tokenCount || 1))} of the text` : "";
    }
  }
  clearShares() {
    this.show([], [], 0);
  }

  #row(name, owner) {
    const hasExpert = [...this.byExpert.values()].includes(name);
    const counts = [];
    if (owner?.tokens) counts.push(`${short(owner.tokens)} tokens`);
    if (owner?.documents) counts.push(plural(owner.documents, "document"));
    const input = Number.isInteger(owner?.expert) /* an expert without a named owner cannot be opted out by name */
      ? el("input", { type: "checkbox", role: "switch", checked: true, "aria-label": `${name} takes part`, onchange: () => this.onChange() })
      : null;
    const bar = el("i", { class: this.mark(name) });
    const share = el("span", { class: "share" });
    const spans = el("span", { class: "spans" });
    const item = el(
      "li",
      { class: `owner ${this.mark(name)}`, data: { owner: name } },
      el(
        "label",
        {},
        el("span", { class: "swatch", "aria-hidden": "true" }, this.abbreviation(name)),
        el("span", { class: "name", title: owner?.description ?? null }, name),
        share,
        input,
      ),
      el("div", { class: "meter", "aria-hidden": "true" }, bar),
      el("p", { class: "counts", title: owner?.tokens ? `${number(owner.tokens)} tokens` : null }, counts.join(" · ") || (hasExpert ? "no index" : ""), spans),
    );
    this.rows.set(name, { item, input, bar, share, spans });
    return item;
  }
}
