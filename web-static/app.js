/* app.js: joins the page's parts: modes and forms, generation, chat and tracing, what is shown, and the
 * address (#trc_… opens a stored trace). The parts do not know each other; only this file does. */
import * as api from "./api.js";
import { byId, el, number, percent, plural, visible } from "./dom.js";
import { DocumentPanel } from "./document-panel.js";
import { Heatmap } from "./heatmap.js";
import { Owners } from "./owners.js";
import { TraceView } from "./trace-view.js";

const state = {
  model: null, /* id of /v1/models' first */
  trace: null, /* the trace that is shown */
  busy: null, /* AbortController of what runs */
  retry: null, /* what "Try again" does */
  talk: [], /* the conversation: {role, content}, answers with `nodes`, as they were coloured */
};
let owners, view, panel, heatmap;

/* ---- what the page says ---- */

const announce = (text) => (byId("live").textContent = text);

function setState(name, text) {
  byId("state").dataset.state = name;
  byId("state-text").textContent = text;
}

function showProblem(error, retry) {
  byId("problem-title").textContent = error.title ?? "Something went wrong in the page";
  byId("problem-detail").textContent = error.message;
  byId("retry").hidden = !retry;
  state.retry = retry;
  byId("problem").hidden = false;
  if (error.status === 0 && error instanceof api.ApiError) setState("offline", "offline");
}
const hideProblem = () => (byId("problem").hidden = true);

/* While something runs: form off, skeleton or stream on. Returns the signal that Stop aborts. */
function begin(title) {
  state.busy?.abort();
  state.busy = new AbortController();
  state.trace = null;
  hideProblem();
  view.select(null);
  panel.close();
  panel.showOverview(null, "They come when the text is complete.");
  heatmap.clear();
  owners.clearShares();
  view.clear();
  byId("result").hidden = false;
  byId("result").setAttribute("aria-busy", "true");
  byId("result-title").textContent = title;
  byId("result-facts").textContent = "";
  byId("copy-link").hidden = byId("reading-hint").hidden = byId("empty").hidden = true;
  byId("response").classList.add("waiting");
  byId("talk").hidden = true;
  byId("trace").disabled = byId("generate").disabled = byId("send").disabled = byId("forget").disabled = true;
  return state.busy.signal;
}
function end() {
  state.busy = null;
  byId("result").setAttribute("aria-busy", "false");
  byId("response").classList.remove("waiting", "streaming");
  const atStop = document.activeElement === byId("stop");
  const writes = byId("stop").nextElementSibling;
  byId("stop").hidden = true;
  byId("generate").hidden = byId("send").hidden = false;
  byId("trace").disabled = byId("forget").disabled = false;
  updateAdvice();
  if (atStop) writes.focus();
}
function showEmpty(text) {
  byId("empty").textContent = text;
  byId("empty").hidden = false;
}

/* Runs one job at a time; a newer one takes the place of an older, errors are shown with a retry. */
async function run(title, job) {
  const signal = begin(title);
  const mine = state.busy;
  try {
    await job(signal);
  } catch (error) {
    if (state.busy !== mine) return;
    if (error.name !== "AbortError") {
      if (!(error instanceof api.ApiError)) console.error(error);
      showProblem(error, () => run(title, job));
      announce("");
    }
    if (!view.pieces.length) byId("result").hidden = true;
    panel.showOverview(null);
  } finally {
    if (state.busy === mine) end();
  }
}

/* ---- a finished trace ---- */

function coverage(trace) {
  const covered = new Set();
  for (const span of trace.spans) for (let t = span.start; t < span.end; t++) covered.add(t);
  return covered.size / (trace.tokens.length || 1);
}

function show(trace, title) {
  state.trace = trace;
  view.show(trace);
  heatmap.show(trace);
  owners.show(trace.experts, trace.spans, trace.tokens.length);
  panel.showOverview(trace);
  byId("result-title").textContent = title;
  const facts = [plural(trace.tokens.length, "token"), plural(trace.spans.length, "span")];
  if (trace.spans.length) facts.push(`${percent(coverage(trace))} word for word`);
  if (Number.isFinite(trace.parameters?.seed)) facts.push(`seed ${trace.parameters.seed}`);
  if (trace.without?.length) facts.push(`without ${trace.without.join(", ")}`);
  byId("result-facts").textContent = facts.join(" · ");
  byId("copy-link").hidden = !trace.id;
  byId("reading-hint").hidden = !trace.spans.length;
  if (!trace.tokens.length) showEmpty("The model ended its text at once; there is nothing to trace.");
  else if (!trace.spans.length) showEmpty("No span of this text stands in an owner’s corpus. The underlines still show which experts were at work.");
  if (trace.id) history.replaceState(null, "", `#${trace.id}`);
  else if (location.hash) history.replaceState(null, "", location.pathname);
  announce(`${title}: ${facts.join(", ")}.`);
}

function openSpan(span) {
  if (!span) return;
  const current = state.trace?.spans[span.id];
  view.select(span);
  heatmap.mark(span);
  heatmap.reveal(span.start);
  const text = current?.text ?? view.pieces.filter((p) => p.start < span.end && p.end > span.start).map((p) => p.text).join("");
  panel.open(span, text, state.trace);
  if (matchMedia("(max-width: 52rem)").matches) view.element(span)?.scrollIntoView({ block: "start" }); /* above the sheet */
}
function stepSpan(by) {
  const at = view.spans.indexOf(view.selected);
  const next = view.spans[(at + by + view.spans.length) % view.spans.length];
  if (next) {
    view.element(next)?.scrollIntoView({ block: "nearest" });
    openSpan(next);
  }
}

/* ---- generate ---- */

/* A settings field as a number; empty is left to the server, anything else it judges. */
function setting(id) {
  const text = byId(id).value.trim();
  if (text === "") return undefined;
  const value = Number(text);
  if (Number.isNaN(value)) throw new api.ApiError("A setting is not a number", `${byId(id).labels[0].textContent.trim()}: “${text}”.`, 400);
  return value;
}

/* Streams what `body` asks for into the text, and shows its trace. `prompt` is what stands before it on
 * the page; what is stopped is kept, and traced as `context` and text. */
async function write(signal, title, body, prompt, context) {
  const without = owners.without();
  body = { model: state.model, ...body, flextrace: { without, trace: true, store: true } };
  for (const id of ["max_tokens", "temperature", "top_p", "top_k", "seed"]) body[id] = setting(id);
  byId("stop").nextElementSibling.hidden = true;
  byId("stop").hidden = false;
  byId("stop").focus();
  view.begin(prompt);
  byId("response").classList.add("streaming");
  announce("Generating.");
  let last = null;
  let unread = "";
  try {
    await api.complete(body, signal, (chunk) => {
      const extra = chunk.flextrace ?? {};
      for (const choice of chunk.choices ?? []) {
        const text = choice.text ?? choice.delta?.content ?? "";
        if (text || extra.shares?.length) view.append(text, extra.shares ?? [], extra.pieces);
        unread += text;
        if (choice.finish_reason) last = extra;
      }
      if (extra.spans && !extra.trace_id) view.change(extra.spans);
      byId("result-facts").textContent = plural(view.length, "token");
      const experts = view.shares?.map((share, id) => ({ id, share, state: without.includes(owners.ofExpert(id)) ? "opted_out" : "active" }));
      owners.show(experts, view.spans, view.length);
      const sentence = unread.lastIndexOf(".") + 1; /* read out whole sentences, not tokens */
      if (sentence) announce(unread.slice(0, sentence));
      unread = unread.slice(sentence);
    });
  } catch (error) {
    if (error.name !== "AbortError" || state.busy?.signal !== signal || !view.text) throw error;
    const text = view.text; /* stopped: what there is gets traced */
    show(onPage(await api.postTrace({ text, prompt: context, without }), prompt), `${title}, stopped`);
    return;
  }
  const opened = view.selected;
  const trace = last?.trace_id /* none where the server keeps no traces */
    ? await api.getTrace(last.trace_id)
    : await api.postTrace({ text: view.text, prompt: context, without }, signal, false);
  show(onPage(trace, prompt), title);
  const same = opened && view.spans.find((span) => span.start === opened.start);
  if (same) openSpan(same);
}
/* A chat's prompt is the whole conversation with its marks: the page shows it turn by turn instead. */
const onPage = (trace, prompt) => ({ ...trace, prompt: { ...trace.prompt, text: prompt } });

function generate() {
  const prompt = byId("prompt").value;
  run("Generated text", (signal) => write(signal, "Generated text", { prompt }, prompt, prompt));
}

/* ---- chat ---- */

function drawTalk(turns) {
  byId("talk").replaceChildren(
    ...turns.map(({ role, content, nodes }) =>
      el("li", { class: `turn ${role}`, dir: "auto" }, el("span", { class: "sr" }, role === "user" ? "You: " : "Answer: "),
        ...(nodes?.map((node) => node.cloneNode(true)) ?? [visible(content)]))),
  );
  byId("talk").hidden = !turns.length;
  byId("forget").hidden = !turns.length;
}

function chat() {
  const content = byId("message").value.trim();
  const before = state.talk;
  const turns = [...before, { role: "user", content }];
  run("Answer", async (signal) => {
    drawTalk(turns);
    byId("message").value = "";
    try {
      const messages = turns.map(({ role, content }) => ({ role, content }));
      await write(signal, "Answer", { messages }, "", messages.map((turn) => turn.content).join("\n"));
      const nodes = [...byId("response").querySelectorAll(".token")].map((node) => node.cloneNode(true));
      for (const node of nodes) node.classList.remove("chosen", "pointed");
      state.talk = [...turns, { role: "assistant", content: view.text, nodes }];
    } catch (error) {
      if (state.talk === before) {
        byId("message").value ||= content; /* nothing is lost */
        byId("forget").hidden = !before.length;
      }
      throw error;
    }
  });
}

function forget() {
  state.talk = [];
  drawTalk([]);
  byId("message").focus();
}

/* ---- trace a text ---- */

function traceText(text, prompt, store, title) {
  const without = owners.without();
  run(title, async (signal) => {
    announce("Tracing.");
    const body = { text, without };
    if (prompt) body.prompt = prompt;
    show(await api.postTrace(body, signal, store), title);
  });
}

function openStored(id) {
  run("Stored trace", async () => show(await api.getTrace(id), "Stored trace"));
}

/* ---- forms and modes ---- */

function selectTab(tab, focus) {
  for (const other of document.querySelectorAll('[role="tab"]')) {
    const on = other === tab;
    other.setAttribute("aria-selected", String(on));
    other.tabIndex = on ? 0 : -1;
    byId(other.getAttribute("aria-controls")).hidden = !on;
  }
  const primary = byId(tab.getAttribute("aria-controls")).querySelector(".primary");
  if (tab.id !== "tab-trace") { /* what both that write have */
    primary.parentNode.prepend(byId("sampling"));
    if (!state.busy) primary.before(byId("stop"));
  }
  if (focus) tab.focus();
}

/* What the forms cannot do now, said before it is tried. */
function updateAdvice() {
  const nobody = !owners?.anyLeft();
  byId("generate").disabled = byId("send").disabled = nobody || !state.model || state.busy !== null;
  const out = owners?.without() ?? [];
  const shown = state.trace?.without ?? [];
  const changed = state.trace && (out.length !== shown.length || out.some((name) => !shown.includes(name)));
  byId("advice").textContent = !state.model
    ? "This federation has indexes but no model: texts can be traced, not generated."
    : nobody
    ? "At least one owner must take part."
    : changed
      ? `The owners changed; ${!state.trace.finish_reason ? "trace" : byId("talk").hidden ? "generate" : "ask"} again to see what that changes.`
      : "";
}

function wire() {
  const tabs = [...document.querySelectorAll('[role="tab"]:not([hidden])')];
  for (const tab of tabs) {
    tab.addEventListener("click", () => selectTab(tab));
    tab.addEventListener("keydown", (event) => {
      if (["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) {
        event.preventDefault();
        const by = event.key === "ArrowLeft" ? tabs.length - 1 : 1;
        selectTab(event.key === "Home" ? tabs[0] : event.key === "End" ? tabs.at(-1) : tabs[(tabs.indexOf(tab) + by) % tabs.length], true);
      }
    });
  }
  byId("pane-generate").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!byId("generate").disabled) generate();
  });
  byId("pane-chat").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!byId("message").value.trim()) byId("message").focus();
    else if (!byId("send").disabled) chat();
  });
  byId("forget").addEventListener("click", forget);
  byId("pane-trace").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = byId("text").value;
    if (text.trim() && !state.busy) traceText(text, byId("trace-prompt").value, true, "Traced text");
    else byId("text").focus();
  });
  for (const area of document.querySelectorAll("textarea"))
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) area.form.requestSubmit();
    });
  byId("stop").addEventListener("click", () => {
    state.busy?.abort();
    byId("stop").form.querySelector("textarea").focus();
  });
  byId("copy-link").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      byId("copy-link").textContent = "Copied";
      setTimeout(() => (byId("copy-link").textContent = "Copy link"), 2000);
    } catch {
      byId("copy-link").textContent = "It is in the address bar";
    }
  });
  window.addEventListener("hashchange", () => {
    const id = location.hash.slice(1);
    if (id.startsWith("trc_") && id !== state.trace?.id) openStored(id);
  });
  window.addEventListener("offline", () => setState("offline", "offline"));
  window.addEventListener("online", checkState);
  setInterval(() => document.hidden || checkState(), 20000);
}

/* ---- opening ---- */

async function checkState() {
  try {
    const ok = await api.ready();
    setState(ok ? "ready" : "loading", ok ? state.federation : "not ready yet");
  } catch {
    setState("offline", "offline");
  }
}

async function open() {
  hideProblem();
  let list, models;
  try {
    [list, models] = await Promise.all([api.getOwners(), api.getModels()]);
  } catch (error) {
    byId("response").classList.remove("waiting");
    showProblem(error, open);
    return;
  }
  const model = models[0];
  state.model = model?.id ?? null;
  const experts = model?.meta?.experts ?? [];
  owners = new Owners(list.data, experts, updateAdvice);
  view = new TraceView(byId("response"), owners, openSpan);
  heatmap = new Heatmap(owners, (token) => view.point(token));
  panel = new DocumentPanel(owners, {
    onClose: () => {
      const node = view.selected && view.element(view.selected);
      view.select(null);
      heatmap.mark(null);
      node?.focus();
    },
    onStep: stepSpan,
    onDocument: (number) => openSpan(view.spans[number]),
  });
  state.federation = [list.federation ?? state.model, experts.length && plural(experts.length, "expert"), plural(list.data.length, "owner")].filter(Boolean).join(" · ");
  byId("state").title = `${number(list.data.reduce((sum, owner) => sum + (owner.tokens ?? 0), 0))} tokens indexed`;
  byId("tab-chat").hidden = !model?.meta?.chat_template;
  wire();
  if (!state.model) selectTab(byId("tab-trace"));
  await checkState();
  updateAdvice();

  const id = location.hash.slice(1);
  if (id.startsWith("trc_")) return openStored(id);
  const demo = await api.getDemo().catch(() => null); /* a server without an example has none to show */
  if (demo?.text) return traceText(demo.text, demo.prompt, false, "An example, traced");
  byId("response").classList.remove("waiting");
  showEmpty("Nothing is traced yet. Write a prompt and generate, or paste a text to trace.");
}

byId("retry").addEventListener("click", () => state.retry?.());
byId("response").classList.add("waiting");
open();
