/* dom.js: elements and text for the other modules.
 *
 * Everything that comes from a model, a corpus or the server is untrusted: it reaches the
 * page as text nodes alone. No module uses innerHTML or builds markup from strings. */

/* el("p", {class: "hint", onclick: f}, "text", child, …): a new element. Keys that begin with
 * "on" are listeners, `data` is a dataset, the rest are attributes; null and false are left out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "data") Object.assign(node.dataset, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const byId = (id) => document.getElementById(id);

/* Control characters become their pictures (NUL is ␀), one for one, so that nothing hides;
 * the bidirectional controls, which could turn a line around its mark, become ⸱. */
export function visible(text) {
  return text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/\u007f/g, "\u2421")
    .replace(/[\u202a-\u202e\u2066-\u2069]/g, "\u2e31");
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en");
export const short = (n) => compact.format(n);
export const number = (n) => whole.format(n);
export const percent = (x) => (x > 0 && x < 0.005 ? "<1 %" : `${Math.round(x * 100)} %`);
export const plural = (n, one, many = one + "s") => `${number(n)} ${n === 1 ? one : many}`;
