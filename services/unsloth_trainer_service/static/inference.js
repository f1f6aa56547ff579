// Jobs and tuned models, by their addresses.

import { request } from "../assets/pages/api.js";
import { eventsOf } from "../assets/pages/events.js";
import { answered, BROKEN_OFF } from "./dashboard_words.js";

export const jobPath = (id, rest = "") => `jobs/${encodeURIComponent(id)}${rest}`;

/** Write an answer of a model piece by piece, and return how it ended. */
export async function ask(model, prompt, write, signal) {
  const body = JSON.stringify({ model_path: model, prompt, stream: true });
  const headers = { "Content-Type": "application/json" };
  const response = await request("inference", { method: "POST", headers, body, signal });
  for await (const { data } of eventsOf(response)) {
    const piece = JSON.parse(data);
    if (piece.description) throw new Error(piece.description);
    if (piece.text) write(piece.text);
    if (piece.done) return answered(piece);
  }
  return BROKEN_OFF;
}
