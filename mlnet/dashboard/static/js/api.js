// Calls of this page's own server, with the token that opened it.

const KEY = "mlnet-token";

/** An answer that is an error; `status` is HTTP's, 0 when nobody answered. */
export class ApiError extends Error {
  constructor(message, status, body = {}) {
    super(message);
    this.status = status;
    this.problems = body.problems ?? [];
    this.retryAfter = body.retry_after ?? null;
  }
}

export const token = () => sessionStorage.getItem(KEY) ?? "";
export const keepToken = (value) => sessionStorage.setItem(KEY, value);

let lost = () => {};
/** Who is told when the token is not, or no longer, right. */
export const onUnauthorized = (listener) => (lost = listener);

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, {
      ...options,
      cache: "no-store",
      headers: { authorization: `Bearer ${token()}`, ...options.headers },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("the page's server does not answer; is mlnet-node still running?", 0);
  }
  if (response.ok) return response;
  throw await failure(response);
}

async function failure(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // The status says enough.
  }
  if (response.status === 401) lost();
  return new ApiError(body.message ?? `the page's server answers ${response.status}`, response.status, body);
}

export const get = async (path, signal) => (await request(path, { signal })).json();

export async function post(path, body, signal) {
  const options = { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" }, signal };
  return (await request(path, options)).json();
}

/** Uploads a file; `onProgress` hears of the share that is sent. */
export function upload(file, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open("POST", "/api/blobs");
    call.setRequestHeader("authorization", `Bearer ${token()}`);
    call.setRequestHeader("content-type", "application/octet-stream");
    call.upload.onprogress = (event) => onProgress(event.total ? event.loaded / event.total : 0);
    call.onload = () => {
      let body = {};
      try {
        body = JSON.parse(call.responseText);
      } catch {
        // The status says enough.
      }
      if (call.status === 200) resolve(body);
      else reject(new ApiError(body.message ?? `the page's server answers ${call.status}`, call.status, body));
    };
    call.onerror = () => reject(new ApiError("the upload broke off", 0));
    call.onabort = () => reject(new DOMException("aborted", "AbortError"));
    signal?.addEventListener("abort", () => call.abort());
    call.send(file);
  });
}

/** Has the browser save a file: a form can carry the token in its body, a link could only in its address. */
export function download(path) {
  const form = document.createElement("form");
  Object.assign(form, { method: "post", action: path, hidden: true });
  const field = document.createElement("input");
  Object.assign(field, { type: "hidden", name: "token", value: token() });
  form.append(field);
  document.body.append(form);
  form.submit();
  form.remove();
}

const FIRST_WAIT = 500;
const LONGEST_WAIT = 15000;

/**
 * Server-sent events, as EventSource would read them; EventSource itself cannot send the token as a header. A stream that
 * breaks is taken up after the last event that was seen.
 * @param {string} path
 * @param {(event: {id: string, type: string, data: string}) => void} onEvent
 * @param {(connected: boolean, error: Error|null) => void} onState
 * @param {AbortSignal} signal ends it
 */
export async function stream(path, onEvent, onState, signal) {
  let last = "";
  let wait = FIRST_WAIT;
  while (!signal.aborted) {
    try {
      const response = await request(path, { signal, headers: { accept: "text/event-stream", ...(last && { "last-event-id": last }) } });
      if (response.status === 204) return;
      onState(true, null);
      for await (const event of parse(response.body)) {
        wait = FIRST_WAIT;
        if (event.type === "problem") throw problem(event.data);
        if (event.id) last = event.id;
        onEvent(event);
      }
    } catch (error) {
      if (signal.aborted) return;
      onState(false, error);
      if (error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429) return;
      if (error.retryAfter) wait = Math.max(wait, 1000 * error.retryAfter);
    }
    await pause(wait, signal);
    wait = Math.min(2 * wait, LONGEST_WAIT);
  }
}

function problem(data) {
  const body = JSON.parse(data);
  return new ApiError(body.message, body.status, body);
}

/** The events of a response's body; comments keep it alive and are dropped. */
export async function* parse(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { id: "", type: "message", data: [] };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (event.data.length) yield { ...event, data: event.data.join("\n") };
        event = { id: "", type: "message", data: [] };
      } else if (!line.startsWith(":")) {
        const colon = line.indexOf(":");
        const field = colon < 0 ? line : line.slice(0, colon);
        const text = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
        if (field === "data") event.data.push(text);
        else if (field === "event") event.type = text;
        else if (field === "id") event.id = text;
      }
    }
  }
}

const pause = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
