// What the model of a run answered to the same prompts as it learnt: a row for each time.

import { element } from "../assets/pages/words.js";
import { NO_ANSWER, STEP } from "./dashboard_words.js";

/** Fill the table in a section, newest first; a run without answers hides it. */
export function drawSamples(section, run) {
  const rounds = [...run.samples].sort(([a], [b]) => b - a);
  section.hidden = !rounds.length;
  const shape = JSON.stringify([run.id, rounds]);
  if (section.dataset.shape === shape) return;
  section.dataset.shape = shape;
  if (!rounds.length) return;
  const [, first] = rounds[0];
  const head = element("tr");
  head.append(cell("th", STEP, "col"), ...first.map(({ prompt }) => cell("th", prompt, "col")));
  const body = rounds.map(([step, samples]) => {
    const line = element("tr");
    line.append(cell("th", String(step), "row"), ...samples.map(({ answer }) => element("td", answer || NO_ANSWER)));
    return line;
  });
  section.querySelector("table").replaceChildren(element("thead"), element("tbody"));
  section.querySelector("thead").append(head);
  section.querySelector("tbody").append(...body);
}

function cell(name, text, scope) {
  return element(name, text, { scope });
}
