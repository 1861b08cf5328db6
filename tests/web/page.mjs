/* page.mjs: what a visitor does with the page, done in headless Chromium.
 *
 * URL names the server (run.sh starts it), FT_WEB_MODULES the folder that holds playwright-core.
 * Every test gets a fresh page, and fails when the browser reports an error, a refused load
 * (Content-Security-Policy) or a dialog. The last line is "N passed, N failed, N skipped". */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { DEMO, HOSTILE_PHRASE } from "./corpora.mjs";

const { chromium } = createRequire(process.env.FT_WEB_MODULES + "/")("playwright-core");
const URL_ = process.env.URL;
const PROMPT = "And it came to pass";

const tests = [];
const test = (name, body, context = {}) => tests.push({ name, body, context });

/* ---- what visitors do again and again ---- */

/* Playwright's waitForFunction evaluates strings in the page, which the page's policy rightly refuses. */
async function until(page, condition, argument) {
  for (let waited = 0; waited < 20000; waited += 50) {
    if (await page.evaluate(condition, argument)) return;
    await page.waitForTimeout(50);
  }
  throw new Error(`never true: ${condition}`);
}
const idle = (page) => page.waitForSelector('#result[aria-busy="false"], #problem:not([hidden])', { state: "attached" });
const settled = async (page) => {
  await page.waitForSelector("#owners li");
  await until(page, () => document.querySelector("#state").dataset.state === "ready");
  await idle(page);
};
async function generate(page, { tokens = 40, temperature = 0, prompt = PROMPT } = {}) {
  await page.fill("#prompt", prompt);
  if (!(await page.isVisible("#max_tokens"))) await page.click("#pane-generate summary");
  await page.fill("#max_tokens", String(tokens));
  await page.fill("#temperature", String(temperature));
  await page.fill("#seed", "1");
  await page.click("#generate");
}
async function finished(page, title) {
  await until(page, (t) => document.querySelector("#result-title").textContent === t, title);
  await idle(page);
}
async function trace(page, text) {
  await page.click("#tab-trace");
  await page.fill("#text", text);
  await page.click("#trace");
  await finished(page, "Traced text");
}
const words = (text) => text.replace(/\s+/g, " ").trim();

/* ---- the tests ---- */

test("opens with its owners, the federation's state and a text or a word on what to do", async (page) => {
  assert.equal(await page.title(), "flextrace");
  const owners = await page.locator("#owners .name").allTextContents();
  assert.deepEqual(owners, ["public", "scripture", "dictionary", "essays", "python", "database"]);
  assert.match(await page.textContent("#state-text"), /6 experts/);
  assert.ok((await page.locator("#response .token").count()) > 0 || (await page.isVisible("#empty")));
});

test("generates: text streams in, coloured, and its spans show their owner", async (page) => {
  await generate(page);
  await finished(page, "Generated text");
  assert.equal(await page.textContent("#response .prompt").then((t) => t.includes(PROMPT)), true);
  assert.ok((await page.locator("#response .token.routed").count()) > 5);
  assert.ok((await page.locator("#response .span").count()) > 0, "no span was found");
  assert.match(await page.getAttribute("#response .span >> nth=0", "aria-label"), /stands in \w+/);
  assert.match(await page.textContent("#live"), /Generated text: 40 tokens/);
  assert.match(page.url(), /#trc_\w+$/);
});

test("a click on a span shows its documents with the match marked", async (page) => {
  await generate(page);
  await finished(page, "Generated text");
  const span = page.locator("#response .span").first();
  const said = words((await span.getAttribute("aria-label")).replace(/: stands in [^:]*$/, ""));
  await span.click();
  assert.equal(await span.getAttribute("aria-expanded"), "true");
  const marked = await page.locator("#panel .snippet mark").allTextContents();
  assert.ok(marked.length > 0);
  for (const text of marked) assert.equal(words(text), said);
  assert.ok(await page.isVisible("#panel .document h4"));
  assert.ok(await page.isVisible("#panel .shares li"));
  await page.keyboard.press("Escape");
  assert.ok(await page.isHidden("#panel"));
  assert.ok(await span.evaluate((node) => node === document.activeElement), "the focus comes back to the span");
});

test("a span's verdict stands above the evidence for every owner that something speaks for", async (page) => {
  await trace(page, DEMO.text);
  const span = page.locator("#response .span").first();
  const owner = (await span.getAttribute("aria-label")).match(/stands in (\w+)/)[1];
  await span.click();
  assert.match(await page.textContent("#panel .verdict strong"), /^(verbatim|influenced|shared|public|none)$/);
  const line = page.locator(`#panel .evidence li:has-text("${owner}")`).first();
  assert.match(await line.textContent(), /word for word × [\d,]+/);
  assert.match(await line.textContent(), /share \d+(\.\d+)?\s?%/);
});

test("an owner switched off has no share and no token in the heatmap", async (page) => {
  const row = page.locator('#owners li[data-owner="scripture"]');
  const cells = page.locator('#heatmap [data-owner="scripture"]');
  await generate(page, { temperature: 0.8 });
  await finished(page, "Generated text");
  assert.ok(Number(await row.getAttribute("data-share")) > 0);
  assert.ok((await cells.count()) > 0);
  await row.locator("input").click();
  assert.match(await page.textContent("#advice"), /generate again/);
  await page.click("#generate");
  await page.waitForSelector("#result-facts:has-text('without scripture')");
  await idle(page);
  assert.equal(Number(await row.getAttribute("data-share")), 0);
  assert.equal(await row.locator(".share").textContent(), "out");
  assert.equal(await cells.count(), 0);
  assert.equal(await page.locator("#heatmap td").count(), 40 * 6);
});

test("somebody must take part: with every owner off nothing can be generated", async (page) => {
  for (const input of await page.locator("#owners input").all()) await input.click();
  assert.ok(await page.isDisabled("#generate"));
  assert.match(await page.textContent("#advice"), /At least one owner/);
});

/* The stand-in has a template; the demo model is served with one (run.sh). */
test("chats: answers stream in coloured, the conversation goes on and can begin anew", async (page) => {
  await page.click("#tab-chat");
  assert.ok(await page.isVisible("#sampling"), "sampling comes along");
  await page.click("#sampling summary");
  await page.fill("#max_tokens", "20");
  await page.fill("#temperature", "0");
  for (const [turn, message] of ["In the beginning", "<b>And then</b>?"].entries()) {
    await page.fill("#message", message);
    await page.click("#send");
    await finished(page, "Answer");
    assert.equal(await page.locator("#talk .turn").count(), 2 * turn + 1);
    assert.ok((await page.locator("#talk .turn").last().textContent()).endsWith(message), "a message is text");
    assert.equal(await page.inputValue("#message"), "");
    assert.ok((await page.locator("#response .token.routed").count()) > 3);
    assert.equal(await page.locator("#response .prompt").count(), 0, "no marks of the template");
  }
  assert.ok((await page.locator("#talk .turn.assistant .token.routed").count()) > 3, "earlier answers keep their colours");
  assert.equal(await page.locator("#talk .span").count(), 0);
  await page.click("#forget");
  assert.ok(await page.isHidden("#talk"));
  await page.fill("#message", "In the beginning");
  await page.fill("#max_tokens", "600");
  await page.fill("#temperature", "1");
  await page.click("#send");
  await page.waitForSelector("#response .token >> nth=3", { state: "attached" });
  await page.click("#stop");
  await finished(page, "Answer, stopped");
  assert.ok(await page.isVisible("#send"));
});

test("a message that cannot be sent stays, and the conversation with it", async (page) => {
  await page.click("#tab-chat");
  await page.fill("#message", "Who are you?");
  await page.context().setOffline(true);
  await page.click("#send");
  await page.waitForSelector("#problem:not([hidden])");
  assert.equal(await page.inputValue("#message"), "Who are you?");
  await page.context().setOffline(false);
}, { expectedErrors: /ERR_INTERNET_DISCONNECTED/ });

test("traces a pasted text and names the owners that it quotes", async (page) => {
  await trace(page, DEMO.text);
  const labels = await page.locator("#response .span").evaluateAll((all) => all.map((node) => node.getAttribute("aria-label")));
  for (const owner of ["scripture", "python", "essays"]) assert.ok(labels.some((label) => label.includes(owner)), `${owner} in ${labels}`);
  assert.ok((await page.locator("#overview-list li").count()) >= 3);
  await page.locator("#overview-list button").first().click();
  assert.ok(await page.isVisible("#panel .snippet mark"));
});

test("a text that stands nowhere gets a word instead of spans", async (page) => {
  await trace(page, "Zebras xylophone quietly beneath umbrellas.");
  assert.equal(await page.locator("#response .span").count(), 0);
  assert.match(await page.textContent("#empty"), /No span/);
});

test("a hostile document is shown and not run", async (page) => {
  await trace(page, `They say that it is ${HOSTILE_PHRASE}, <script>window.__owned=7</script> and then?`);
  await page.locator('#response .span[aria-label*="lighthouses"]').click();
  const panel = await page.textContent("#panel");
  assert.ok(panel.includes("<script>window.__owned=5; alert(1)</script>"), panel);
  assert.ok(panel.includes('<img src=x onerror="window.__owned=1">'), "its id is text");
  assert.ok(panel.includes("<script>window.__owned=2</script>"), "its source is text");
  assert.ok(!/[\u202a-\u202e\u2066-\u2069\0]/.test(panel), "control characters are made visible");
  assert.ok((await page.textContent("#response")).includes("<script>window.__owned=7</script>"));
  assert.equal(await page.locator("main script, main img, main svg, main a, main iframe").count(), 0);
  await page.waitForTimeout(200);
  assert.equal(await page.evaluate(() => window.__owned), undefined);
});

test("everything works from the keyboard", async (page) => {
  const press = (key) => page.keyboard.press(key);
  const focus = () => page.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.tagName);
  const tabTo = async (wanted) => {
    for (let i = 0; i < 60; i++) {
      if ((await focus()).includes(wanted)) return;
      await press("Tab");
    }
    assert.fail(`Tab does not come to ${wanted}`);
  };
  await tabTo("tab-generate");
  await press("ArrowRight");
  assert.equal(await focus(), "tab-chat");
  await press("ArrowRight");
  assert.equal(await focus(), "tab-trace");
  await press("Tab");
  assert.equal(await focus(), "text");
  await press("Control+A");
  await page.keyboard.insertText(DEMO.text);
  await press("Control+Enter");
  await finished(page, "Traced text");
  await tabTo("span ");
  const first = await page.evaluate(() => document.activeElement.dataset.span);
  await press("ArrowRight");
  assert.notEqual(await page.evaluate(() => document.activeElement.dataset.span), first);
  await press("Enter");
  assert.equal(await focus(), "panel");
  await press("Escape");
  assert.ok((await focus()).startsWith("span"));
  await tabTo("TD");
  await press("ArrowDown");
  await press("ArrowRight");
  assert.deepEqual(await page.evaluate(() => ({ ...document.activeElement.dataset })), { token: "1", layer: "1" });
  assert.match(await page.textContent("#readout"), /token 1, layer 1: \w+ 0\.\d\d/);
});

for (const width of [360, 390])
  test(`a phone ${width} wide never scrolls sideways, and the documents come as a sheet`, async (page) => {
    const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok((await overflow()) <= 0);
    await trace(page, `${HOSTILE_PHRASE} and ${"y".repeat(300)} ${DEMO.text}`);
    assert.ok((await overflow()) <= 0);
    await page.locator("#response .span").first().click();
    await page.waitForTimeout(300);
    assert.ok((await overflow()) <= 0);
    const box = await page.locator("#panel").boundingBox();
    assert.ok(Math.abs(box.y + box.height - 740) < 2 && box.width === width, JSON.stringify(box));
    const span = await page.locator("#response .span").first().boundingBox();
    assert.ok(span.y >= 0 && span.y < box.y, "the span stays in sight above the sheet");
  }, { viewport: { width, height: 740 }, hasTouch: true });

test("what the server refuses is said in the server's words", async (page) => {
  await generate(page, { tokens: 1000000 });
  await page.waitForSelector("#problem:not([hidden])");
  assert.match(await page.textContent("#problem-detail"), /1000000|positions|context|tokens/);
  assert.ok(await page.isEnabled("#generate"));
  await generate(page, { tokens: 5 });
  await finished(page, "Generated text");
  assert.ok(await page.isHidden("#problem"));
}, { expectedErrors: /400|422/ });

test("a setting that is no number is refused by name", async (page) => {
  await generate(page, { temperature: "warm" });
  await page.waitForSelector("#problem:not([hidden])");
  assert.match(await page.textContent("#problem-detail"), /Temperature: “warm”/);
});

test("offline: the text stays, and Try again works when the server is back", async (page) => {
  await page.click("#tab-trace");
  await page.fill("#text", DEMO.text);
  await page.context().setOffline(true);
  await page.click("#trace");
  await page.waitForSelector("#problem:not([hidden])");
  assert.match(await page.textContent("#problem-title"), /offline/i);
  assert.equal(await page.inputValue("#text"), DEMO.text);
  await page.context().setOffline(false);
  await page.click("#retry");
  await finished(page, "Traced text");
  assert.ok((await page.locator("#response .span").count()) > 0);
  assert.ok(await page.isHidden("#problem"));
}, { expectedErrors: /ERR_INTERNET_DISCONNECTED/ });

test("a stream that breaks off or fails keeps its text and says why", async (page) => {
  const chunk = 'data: {"choices":[{"index":0,"text":" half a","finish_reason":null}],"flextrace":{"shares":[[1,0,0,0,0,0]]}}\n\n';
  for (const [end, reason] of [["", /before the text was complete/], ['data: {"error":{"message":"the model ran out of room"}}\n\n', /ran out of room/]]) {
    await page.route("**/v1/completions", (route) => route.fulfill({ contentType: "text/event-stream", body: `: ping\n\n${chunk}${end}` }));
    await generate(page);
    await page.waitForSelector("#problem:not([hidden])");
    assert.match(await page.textContent("#problem-detail"), reason);
    assert.match(await page.textContent("#response"), /half a/);
    await page.unroute("**/v1/completions");
  }
});

test("Stop ends the generation and traces what there is", async (page) => {
  await generate(page, { tokens: 600, temperature: 1 });
  await page.waitForSelector("#response .token >> nth=3", { state: "attached" });
  await page.click("#stop");
  await finished(page, "Generated text, stopped");
  const tokens = Number((await page.textContent("#result-facts")).match(/^(\d+) token/)[1]);
  assert.ok(tokens >= 3 && tokens < 600, String(tokens));
  assert.ok(await page.isVisible("#generate"));
});

test("the address of a stored trace opens it, and a wrong one says so", async (page) => {
  await trace(page, DEMO.text);
  const address = page.url();
  const text = await page.textContent("#response");
  const again = await page.context().newPage();
  await again.goto(address);
  await again.waitForSelector("#response .span");
  assert.equal(await again.textContent("#response"), text);
  await again.goto("about:blank");
  await again.goto(`${URL_}/#trc_00000000000000000000000000`);
  await again.waitForSelector("#problem:not([hidden])");
  assert.ok((await again.textContent("#problem-detail")).length > 5);
});

test("an event stream is read whole wherever its bytes are cut", async (page) => {
  const wrong = await page.evaluate(async () => {
    const { events } = await import("/api.js");
    const bytes = new TextEncoder().encode('data: {"t":"h\u00e9 \u{1f30a}"}\r\n\r\n: ping\n\ndata: 2\n\ndata: [DONE]\n\n');
    const cuts = [];
    for (let at = 0; at <= bytes.length; at++) {
      const stream = new ReadableStream({ start(c) { c.enqueue(bytes.slice(0, at)); c.enqueue(bytes.slice(at)); c.close(); } });
      const got = [];
      for await (const data of events(stream)) got.push(data);
      if (got.join("|") !== '{"t":"h\u00e9 \u{1f30a}"}|2|[DONE]') cuts.push([at, got]);
    }
    return cuts;
  });
  assert.deepEqual(wrong, []);
});

test("offsets count characters: emoji and tokens that only finish a character stay in their place", async (page) => {
  const pieces = await page.evaluate(async () => {
    const { piecesOf } = await import("/trace-view.js");
    const token = (start_char, end_char) => ({ start_char, end_char, shares: [1, 0] });
    const trace = { response: { text: "a\u{1f469}\u{1f30a}b\u05d0" }, tokens: [token(0, 1), token(1, 2), token(1, 2), token(2, 4), token(4, 5)] };
    return piecesOf(trace).map(({ text, start, end }) => [text, start, end]);
  });
  assert.deepEqual(pieces, [["a", 0, 1], ["\u{1f469}", 1, 3], ["\u{1f30a}b", 3, 4], ["\u05d0", 4, 5]]);
});

for (const colorScheme of ["light", "dark"])
  test(`ink on every owner's colour keeps a contrast of 4.5, ${colorScheme}`, async (page) => {
    const worst = await page.evaluate(() => {
      const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
      const card = getComputedStyle(document.querySelector(".card")).backgroundColor;
      const paint = (...layers) => {
        for (const layer of layers) {
          canvas.fillStyle = layer;
          canvas.fillRect(0, 0, 1, 1);
        }
        const linear = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
      };
      const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      const found = [];
      const host = document.querySelector("#response");
      for (let slot = 0; slot < 8; slot++)
        for (const [name, make] of [["span", "span"], ["stack", "i"], ["tag", "span"], ["swatch", "span"]]) {
          const node = document.createElement(make);
          node.className = name === "stack" ? `o${slot}` : `${name === "tag" ? "span" : name} o${slot} p${slot % 7}`;
          node.style.setProperty("--weight", "1");
          const box = name === "stack" ? Object.assign(document.createElement("div"), { className: "stack" }) : host;
          host.append(box === host ? node : box);
          if (box !== host) box.append(node);
          let ink = node;
          if (name === "tag") node.append((ink = Object.assign(document.createElement("sup"), { className: "tag" })));
          if (name === "span") node.setAttribute("aria-expanded", "true");
          node.style.transition = "none";
          found.push([contrast(paint(card, getComputedStyle(node).backgroundColor), paint(getComputedStyle(ink).color)), name, slot]);
          node.remove();
        }
      for (const selector of [".hint", ".counts", ".facts"]) {
        const soft = getComputedStyle(document.querySelector(selector)).color;
        for (const ground of [card, getComputedStyle(document.body).backgroundColor]) found.push([contrast(paint(ground), paint(soft)), selector, -1]);
      }
      return found.sort((a, b) => a[0] - b[0])[0];
    });
    assert.ok(worst[0] >= 4.5, worst.join(" "));
  }, { colorScheme });

/* ---- the runner ---- */

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
let passed = 0;
let failed = 0;
const only = process.argv[2];
for (const { name, body, context } of tests) {
  if (only && !name.includes(only)) continue;
  const { expectedErrors, ...options } = context;
  const session = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: "reduce", ...options });
  const faults = [];
  const page = await session.newPage();
  page.setDefaultTimeout(20000);
  page.on("dialog", (dialog) => (faults.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on("pageerror", (error) => faults.push(`page error: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() !== "error" || expectedErrors?.test(message.text())) return;
    if (/\/v1\/demo/.test(message.location().url)) return; /* a server without an example text says 404 */
    faults.push(`console: ${message.text()}`);
  });
  try {
    await page.goto(URL_);
    await settled(page);
    await body(page);
    assert.deepEqual(faults, []);
    passed++;
    console.log(`ok: ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAILED: ${name}\n    ${String(error.stack ?? error).split("\n").slice(0, 12).join("\n    ")}`);
    if (faults.length) console.log(`    browser: ${faults.join("; ")}`);
    if (process.env.FT_WEB_SHOTS) await page.screenshot({ path: `${process.env.FT_WEB_SHOTS}/${failed}.png`, fullPage: true }).catch(() => {});
  }
  await session.close();
}
await browser.close();
console.log(`${passed} passed, ${failed} failed, 0 skipped`);
process.exit(failed ? 1 : 0);
