/* mock.mjs: a stand-in for `flextrace serve` with six owners and a few documents each, for
 * tests of the page where the binary or the demo model is not there. It answers the routes that the
 * page calls in the shapes of docs/trace.md, with real longest matches over words and an invented routing. */
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { corpora, DEMO } from "./corpora.mjs";

const ROOT = fileURLToPath(new URL("../../web-static/", import.meta.url));
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TYPES = { html: "text/html", js: "text/javascript", css: "text/css", svg: "image/svg+xml" };
const OWNERS = Object.keys(corpora);
const LAYERS = 6;
const K = 2;

const tokenize = (text) => text.match(/ ?[\p{L}\p{N}]{1,9}|[^\S\n]+|\n|[^\s\p{L}\p{N}]/gu) ?? [];
const hash = (text) => [...text].reduce((h, c) => (Math.imul(h, 31) + c.codePointAt(0)) >>> 0, 7);
const characters = (text) => Array.from(text).length;

const docs = OWNERS.flatMap((owner) => corpora[owner].map((doc, n) => ({ owner, document: n, ...doc, tokens: tokenize(doc.text) })));

/* Chosen experts and weights of the pass that reads `tokens[t]`, in every layer. */
function route(token, home, without) {
  const left = OWNERS.map((_, e) => e).filter((e) => !without.includes(OWNERS[e]));
  return Array.from({ length: LAYERS }, (_, layer) => {
    const h = hash(token + layer);
    const first = left.includes(home) && h % 10 < 8 ? home : left[h % left.length];
    const others = left.filter((e) => e !== first);
    const weight = 0.45 + (h % 40) / 100;
    return others.length ? [[first, weight], [others[(h >> 4) % others.length], (1 - weight) * 0.7]] : [[first, weight]];
  });
}
function sharesOf(rows) {
  const shares = OWNERS.map(() => 0);
  for (const row of rows) for (const layer of row) for (const [e, w] of layer) shares[e] += w;
  const sum = shares.reduce((a, b) => a + b, 0) || 1;
  return shares.map((s) => s / sum);
}

function findSpans(tokens) {
  const spans = new Map();
  for (const doc of docs)
    for (let i = 0; i < tokens.length; i++)
      for (let j = 0; j < doc.tokens.length; j++) {
        if (tokens[i] !== doc.tokens[j] || (i && j && tokens[i - 1] === doc.tokens[j - 1])) continue;
        let n = 0;
        while (tokens[i + n] !== undefined && tokens[i + n] === doc.tokens[j + n]) n++;
        if (n < 6) continue;
        const key = `${i},${i + n}`;
        if (!spans.has(key)) spans.set(key, { start: i, end: i + n, hits: [] });
        spans.get(key).hits.push({ doc, at: j, n });
      }
  const all = [...spans.values()];
  return all.filter((s) => !all.some((o) => o !== s && o.start <= s.start && o.end >= s.end)).sort((a, b) => a.start - b.start);
}

/* Of three kinds for every owner, and a verdict, by a rule far simpler than docs/attribution.md's. */
function evidenceOf(span, counts, shares) {
  const usual = 1 / OWNERS.length;
  const nats = -7.3 * (span.end - span.start);
  const evidence = OWNERS.map((owner, expert) => {
    const share = shares?.[expert];
    return {
      owner, expert,
      verbatim: counts[owner] ? { count: counts[owner], start: span.start, end: span.end, length: span.end - span.start, unigram_logprob_sum: nats } : null,
      routing: shares && { share, usual, excess: share - usual, ratio: share / usual, layers: Array(LAYERS).fill(share) },
      causal: counts[owner] ? { logprob: nats / 4, without: nats / 2, loss: -nats / 4, loss_per_token: 7.3 / 4 } : null,
    };
  });
  const holders = OWNERS.filter((owner) => counts[owner]);
  const verdict = counts.public ? "public" : holders.length > 1 ? "shared" : "verbatim";
  return { evidence, verdict, verdict_rule: `${verdict}-${holders.length > 1 ? "many" : "one"}`, verdict_owners: holders };
}

export function trace(text, prompt = "", without = [], parameters = null) {
  const tokens = tokenize(text);
  const promptTokens = tokenize(prompt);
  const found = findSpans(tokens);
  const home = tokens.map((_, t) => OWNERS.indexOf(found.find((s) => s.start <= t && t < s.end)?.hits[0].doc.owner));
  const timeline = [...promptTokens, ...tokens];
  const rows = timeline.slice(0, -1).map((token, t) => route(token, home[t + 1 - promptTokens.length] ?? 0, without));
  const written = (t) => rows[promptTokens.length + t - 1];
  let byte = 0, char = 0;
  const offsets = tokens.map((t) => {
    const o = { start_byte: byte, start_char: char };
    byte += Buffer.byteLength(t);
    char += characters(t);
    return { ...o, end_byte: byte, end_char: char };
  });
  const k = Math.min(K, OWNERS.length - without.length);
  const flat = rows.flat(2);
  const pack = (values, Type) => Buffer.from(new Type(values).buffer).toString("base64");
  const spans = found.map((span) => {
    const counts = {};
    for (const hit of span.hits) counts[hit.doc.owner] = (counts[hit.doc.owner] ?? 0) + 1;
    const list = span.hits.slice(0, 10).map(({ doc, at, n }) => {
      const from = Math.max(0, at - 40);
      const before = doc.tokens.slice(from, at).join("");
      const match = doc.tokens.slice(at, at + n).join("");
      const score = (n * 40) / (1 + doc.tokens.length / 400);
      const part = score / (0.18 * text.length);
      return {
        owner: doc.owner, id: doc.id, document: doc.document, source: doc.source ?? doc.id, metadata: { source: doc.source, ...doc.metadata },
        position: at, length: doc.tokens.length, score, relevance: part >= 0.7 ? "high" : part >= 0.5 ? "medium" : "low",
        snippet: before + match + doc.tokens.slice(at + n, at + n + 40).join(""),
        match_start_byte: Buffer.byteLength(before), match_end_byte: Buffer.byteLength(before + match),
        match_start_char: characters(before), match_end_char: characters(before) + characters(match),
      };
    });
    const known = Array.from({ length: span.end - span.start }, (_, i) => written(span.start + i)).filter(Boolean);
    const shares = known.length ? sharesOf(known) : null;
    return {
      start: span.start, end: span.end, text: tokens.slice(span.start, span.end).join(""), count: span.hits.length,
      unigram_logprob_sum: -7.3 * (span.end - span.start), owners: Object.keys(counts).sort((a, b) => counts[b] - counts[a]),
      owner_counts: counts, shares, ...evidenceOf(span, counts, shares), sampled: span.hits.length > list.length, docs: list,
    };
  });
  const merged = new Map();
  spans.forEach((span, s) => span.docs.forEach((d) => {
    const key = d.owner + d.document;
    if (!merged.has(key)) merged.set(key, { owner: d.owner, id: d.id, source: d.source, score: d.score, relevance: d.relevance, spans: [] });
    if (!merged.get(key).spans.includes(s)) merged.get(key).spans.push(s);
  }));
  const all = sharesOf(tokens.map((_, t) => written(t)).filter(Boolean));
  return {
    object: "trace", model: "mock", finish_reason: parameters ? "length" : null, parameters, without,
    prompt: { text: prompt, ids: promptTokens.map(hash) }, response: { text, ids: tokens.map(hash) },
    tokens: tokens.map((t, i) => ({ id: hash(t), text: t, ...offsets[i], shares: written(i) ? sharesOf([written(i)]) : null })),
    matches: [], experts: OWNERS.map((owner, id) => ({ id, owner, state: without.includes(owner) ? "opted_out" : "active", share: all[id] })),
    spans, documents: [...merged.values()].sort((a, b) => b.score - a.score),
    routing: {
      layers: LAYERS, top_k: k, experts: OWNERS.map((owner, id) => ({ id, owner })), without, first: 0, tokens: rows.length,
      dtype: { ids: "int32", weights: "float32" }, order: "token,layer,k", encoding: "base64",
      ids: pack(flat.map(([e]) => e), Int32Array), weights: pack(flat.map(([, w]) => w), Float32Array),
    },
  };
}

const stored = new Map();
function store(result) {
  const id = "trc_" + String(stored.size + 1).padStart(26, "0");
  stored.set(id, { id, created: "2026-01-31T12:00:00Z", ...result });
  return stored.get(id);
}

/* Of a prompt, or of messages. */
async function complete(body, response) {
  const chat = Boolean(body.messages);
  body.prompt ??= body.messages.map((m) => `<|im_start|>${m.role}\n${m.content}<|im_end|>\n`).join("");
  if (body.max_tokens > 4096)
    return answer(response, 400, { error: { message: `${body.max_tokens} new tokens do not fit into the 1024 positions of the model`, type: "invalid_request_error", param: "max_tokens", code: "context_length_exceeded" } });
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
  const without = body.flextrace?.without ?? [];
  const text = tokenize(DEMO.text).slice(0, body.max_tokens ?? 16).join("");
  const full = trace(text, body.prompt, without, { temperature: body.temperature, seed: body.seed ?? 1234, max_tokens: body.max_tokens });
  const send = (extra, piece, finish = null) =>
    response.write(`data: ${JSON.stringify({ id: "cmpl-1", object: chat ? "chat.completion.chunk" : "text_completion", choices: [{ index: 0, ...(chat ? { delta: piece ? { content: piece } : {} } : { text: piece }), finish_reason: finish }], flextrace: extra })}\n\n`);
  response.write(": ping\n\n");
  for (let t = 0; t < full.tokens.length && !response.destroyed; t++) {
    const spans = full.spans.map((s, i) => ({ op: "add", id: `s${i}`, ...s, docs: undefined })).filter((s) => s.end === t + 1);
    send({ shares: [full.tokens[t].shares ?? OWNERS.map(() => 0)], ...(spans.length ? { spans } : {}) }, full.tokens[t].text);
    await new Promise((done) => setTimeout(done, 8));
  }
  send({ trace_id: store(full).id, spans: [], experts: full.experts }, "", "length");
  response.end("data: [DONE]\n\n");
}

function answer(response, status, body) {
  response.writeHead(status, { "Content-Type": body.title ? "application/problem+json" : "application/json" });
  response.end(JSON.stringify(body));
}

async function handle(request, response) {
  const url = new URL(request.url, "http://localhost");
  let body = "";
  for await (const part of request) body += part;
  const route_ = `${request.method} ${url.pathname}`;
  if (route_ === "GET /readyz") return answer(response, 200, { status: "ok" });
  if (route_ === "GET /v1/models")
    return answer(response, 200, { object: "list", data: [{ id: "mock", object: "model", meta: { chat_template: "chatml", experts: OWNERS.map((owner, id) => ({ id, owner, state: "active" })) } }] });
  if (route_ === "GET /v1/owners")
    return answer(response, 200, {
      object: "list",
      federation: "mock",
      data: OWNERS.map((name, expert) => ({ name, expert, description: `the ${name} corpus`, documents: corpora[name].length, tokens: docs.filter((d) => d.owner === name).reduce((n, d) => n + d.tokens.length, 0) })),
    });
  if (route_ === "GET /v1/demo") return answer(response, 200, DEMO);
  if (route_ === "POST /v1/completions" || route_ === "POST /v1/chat/completions") return complete(JSON.parse(body), response);
  if (route_ === "POST /v1/traces") {
    const { text, prompt, store: keep, without } = JSON.parse(body);
    if (!text) return answer(response, 422, { title: "Request validation failed", detail: "text: must not be empty", status: 422 });
    const result = trace(text, prompt, without ?? []);
    return answer(response, 200, keep ? store(result) : result);
  }
  if (url.pathname.startsWith("/v1/traces/")) {
    const result = stored.get(url.pathname.slice(11));
    return result ? answer(response, 200, result) : answer(response, 404, { title: "Not found", detail: `there is no trace ${url.pathname.slice(11)}`, status: 404 });
  }
  const name = url.pathname === "/" ? "index.html" : url.pathname.slice(1);
  if (!/^[\w-]+\.(html|js|css|svg)$/.test(name)) return answer(response, 404, { title: "Not found", detail: name, status: 404 });
  try {
    const file = await readFile(ROOT + name);
    response.writeHead(200, { "Content-Type": `${TYPES[name.split(".")[1]]}; charset=utf-8`, "Content-Security-Policy": CSP, "X-Content-Type-Options": "nosniff" });
    response.end(file);
  } catch {
    answer(response, 404, { title: "Not found", detail: name, status: 404 });
  }
}

/* Starts on a free port; { url, close }. */
export function startMock(port = 0) {
  const server = createServer((request, response) =>
    handle(request, response).catch((error) => (response.headersSent ? response.destroy() : answer(response, 500, { title: "Mock fault", detail: error.message, status: 500 }))),
  );
  return new Promise((resolve) =>
    server.listen(port, "127.0.0.1", () =>
      resolve({ url: `http://127.0.0.1:${server.address().port}`, close: () => { server.closeAllConnections(); server.close(); } }),
    ),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log((await startMock(Number(process.argv[2] ?? 0))).url);
