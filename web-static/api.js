/* api.js: the server as seen from the page: JSON routes, the event stream, and one kind of error.
 *
 * Every failure is an ApiError whose `title` and `message` can be shown as they are: the server's
 * own reason where it gave one (problem+json or OpenAI's envelope), else what happened here. */

export class ApiError extends Error {
  constructor(title, detail, status = 0, name = null) {
    super(detail);
    this.title = title;
    this.status = status; /* 0: no answer at all */
    this.problem = name; /* the end of a problem's type, such as "no-store" */
  }
}

const unreachable = () =>
  new ApiError(
    navigator.onLine ? "The server does not answer" : "You are offline",
    "No connection to flextrace. Your text stays here; try again when the server is back.",
  );

async function reason(response) {
  let title = `The server answered ${response.status}`;
  let detail = response.statusText;
  let name = null;
  try {
    const body = JSON.parse(await response.text());
    if (typeof body.error === "string") detail = body.error;
    else if (body.error) detail = body.error.message;
    else {
      if (body.title) title = body.title;
      if (body.detail) detail = body.detail;
      name = body.type?.split(":").at(-1);
    }
  } catch { /* no JSON: the status line is all there is */ }
  return new ApiError(title, detail || "It gave no reason.", response.status, name);
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable();
  }
  if (!response.ok) throw await reason(response);
  return response;
}

const post = (body, signal) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
  signal,
});

async function json(path, options) {
  const response = await request(path, options);
  try {
    return await response.json();
  } catch (error) {
    throw error.name === "AbortError" ? error : new ApiError("The answer cannot be read", `${path} is not JSON.`);
  }
}

export const getOwners = () => json("/v1/owners");
export const getModels = async () => (await json("/v1/models")).data;
export const getDemo = () => json("/v1/demo");
export const getTrace = (id) => json(`/v1/traces/${encodeURIComponent(id)}?routing=full`);

/* Traces a text: {text, prompt, without}. It is kept where the server has a store, and its routing comes
 * where the model can read so long a text; what is refused for one of these reasons is asked for without. */
export async function postTrace(body, signal, store = true, routing = true) {
  try {
    return await json("/v1/traces", post({ ...body, store, routing }, signal));
  } catch (error) {
    if (store && error.problem === "no-store") return postTrace(body, signal, false, routing);
    if (routing && error.problem === "context-length-exceeded") return postTrace(body, signal, store, false);
    throw error;
  }
}

/* True when the server is ready for work; throws when it does not answer at all. */
export async function ready() {
  try {
    return (await fetch("/readyz", { cache: "no-store" })).ok;
  } catch {
    throw unreachable();
  }
}

/* The `data:` payloads of a server-sent event stream, one by one; comments (pings) are skipped. */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      buffer += value;
      const lines = buffer.split(/\r?\n/);
      buffer = lines.pop();
      for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trimStart();
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/* Runs a completion, of a `prompt` or of `messages`; calls onChunk(chunk) for each event until [DONE]. */
export async function complete(body, signal, onChunk) {
  const path = body.messages ? "/v1/chat/completions" : "/v1/completions";
  const response = await request(path, post({ ...body, stream: true }, signal));
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError("The generation failed", chunk.error.message ?? String(chunk.error));
      onChunk(chunk);
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    if (error instanceof SyntaxError) throw new ApiError("The stream cannot be read", "An event is not JSON.");
    throw unreachable();
  }
  throw new ApiError("The stream broke off", "The connection ended before the text was complete.");
}
