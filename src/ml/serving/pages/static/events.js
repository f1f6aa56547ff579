// Server-sent events of an answer to a POST, which EventSource cannot read.

/** Yield the name and the data of each event; comments are left out. */
export async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      const events = (buffer + next.value).split("\n\n");
      buffer = events.pop();
      for (const event of events) {
        const data = event.match(/^data: (.*)$/m)?.[1];
        if (data !== undefined) yield { name: event.match(/^event: (.*)$/m)?.[1] ?? "message", data };
      }
    }
  } finally {
    reader.cancel().catch(() => null); // it is read no further, whoever ended it
  }
}
