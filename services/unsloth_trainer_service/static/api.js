// The service's API. What goes wrong is an Error that says so in words.

let clockSkewMs = 0; // of the server against this device

/** Seconds since a time of the server. */
export const since = (time) => (Date.now() + clockSkewMs - Date.parse(time)) / 1000;

export const jobPath = (id, rest = "") => `jobs/${encodeURIComponent(id)}${rest}`;

/** Return the JSON of an answer. */
export async function api(path, options = {}) {
  const response = await request(path, options);
  const date = Date.parse(response.headers.get("Date"));
  const skew = date ? date - Date.now() : 0;
  clockSkewMs = Math.abs(skew) > 2000 ? skew : 0; // the header has whole seconds alone
  return response.json();
}

/** Write an answer of a model piece by piece, and return how it ended. */
export async function ask(model, prompt, write, signal) {
  const body = JSON.stringify({ model_path: model, prompt, stream: true });
  const headers = { "Content-Type": "application/json" };
  const response = await request("inference", { method: "POST", headers, body, signal });
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let buffer = "";
  let end = "the stream broke off";
  for (;;) {
    const { done, value } = await reader.read();
    buffer += decoder.decode(value, { stream: !done });
    const events = buffer.split("\n\n");
    buffer = events.pop();
    for (const data of events.flatMap((event) => event.match(/^data: (.*)$/m)?.[1] ?? [])) {
      const piece = JSON.parse(data);
      if (piece.description) throw new Error(piece.description);
      if (piece.text) write(piece.text);
      if (piece.done) end = `${piece.completion_tokens} tokens, ended by ${piece.finish_reason}`;
    }
    if (done) return end;
  }
}

async function request(path, options) {
  const response = await fetch(path, options).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("the service cannot be reached");
  });
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new Error(body?.description ?? `the service answered ${response.status}`);
}
