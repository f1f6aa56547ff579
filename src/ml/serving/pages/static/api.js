// The service's API. What goes wrong is an Error that says so in words.

let clockSkewMs = 0; // of the server against this device

/** Seconds since a time of the server. */
export const since = (time) => (Date.now() + clockSkewMs - Date.parse(time)) / 1000;

/** Return the JSON of an answer. */
export async function api(path, options = {}) {
  const response = await request(path, options);
  const date = Date.parse(response.headers.get("Date"));
  const skew = date ? date - Date.now() : 0;
  clockSkewMs = Math.abs(skew) > 2000 ? skew : 0; // the header has whole seconds alone
  return response.json();
}

/** Return an answer that is no failure. */
export async function request(path, options = {}) {
  const response = await fetch(path, options).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("the service cannot be reached");
  });
  if (response.ok) return response;
  throw failure(response.status, await response.json().catch(() => null), response.headers);
}

/** An Error of an answer that says what is wrong, in our form or in that of OpenAI's clients. */
export function failure(status, body, headers = new Headers()) {
  const { message = body?.description, code } = body?.error ?? {};
  const waitSeconds = Number(headers.get("Retry-After")) || null;
  return Object.assign(new Error(message ?? `the service answered ${status}`), { status, code, waitSeconds });
}

/** Return the service's state, where it answers nobody, why, and which of several models are loaded. */
export async function health() {
  const response = await fetch("health/ready").catch(() => null);
  const body = await response?.json().catch(() => null);
  if (!body) return { state: "unreachable", message: "the service cannot be reached" };
  return { state: body.state, message: body.checks.workflow.message, models: body.models };
}
