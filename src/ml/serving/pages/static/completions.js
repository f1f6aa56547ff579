// Chat completions as they come, from the address that OpenAI's clients know.

import { failure, request } from "./api.js";
import { eventsOf } from "./events.js";

const DONE = "[DONE]";

/** What an answer that began and did not end is: its text stays. */
export class BrokeOff extends Error {}

/** Write an answer piece by piece; return its id, why it ended and the numbers of tokens. */
export async function complete(body, write, signal) {
  const headers = { "Content-Type": "application/json" };
  const options = { method: "POST", headers, body: JSON.stringify({ ...body, stream_options: { include_usage: true } }), signal };
  const response = await request("v1/chat/completions", options);
  const told = {};
  try {
    for await (const { data } of eventsOf(response)) {
      if (data === DONE) return told;
      const piece = JSON.parse(data);
      if (piece.error) throw failure(response.status, piece);
      const [choice] = piece.choices;
      told.id = piece.id;
      told.tokens = piece.usage?.completion_tokens ?? told.tokens;
      told.reason = choice?.finish_reason ?? told.reason;
      if (choice?.delta.content) write(choice.delta.content);
    }
  } catch (error) {
    signal.throwIfAborted();
    throw new BrokeOff(error.status ? error.message : "the connection was lost");
  }
  throw new BrokeOff("the connection was lost");
}
