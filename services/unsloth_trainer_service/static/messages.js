// What a run has said, newest at the end.

import { element } from "../assets/pages/words.js";
import { atStep } from "./dashboard_words.js";

const END_PIXELS = 40; // who is so near to the end goes along with it

/** Fill the list, with or without a message for each step. */
export function drawMessages(list, run, withSteps) {
  const recent = run.recent(withSteps);
  const shape = `${run.id} ${recent.at(-1)?.id} ${withSteps}`;
  if (list.dataset.shape === shape) return;
  list.dataset.shape = shape;
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < END_PIXELS;
  list.replaceChildren(...recent.map(({ level, text, step }) => {
    const item = element("li", "", { "data-level": level });
    item.append(element("span", atStep(step)), element("span", level), element("span", text));
    return item;
  }));
  if (atEnd) list.scrollTop = list.scrollHeight;
}
