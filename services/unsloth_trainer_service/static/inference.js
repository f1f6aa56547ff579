// Jobs and tuned models, by their addresses.

import { request } from "../assets/pages/api.js";

export const jobPath = (id, rest = "") => `jobs/${encodeURIComponent(id)}${rest}`;

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
