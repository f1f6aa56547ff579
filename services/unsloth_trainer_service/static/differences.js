// A table of the settings in which the compared jobs differ.

import { element, short, written } from "../assets/pages/words.js";
import { LAST_LOSS, nameOf } from "./dashboard_words.js";

/** Fill the table in a section; one job alone hides it. */
export function drawDifferences(section, jobs) {
  section.hidden = jobs.length < 2;
  if (jobs.length < 2) return;
  const names = new Set(jobs.flatMap((job) => Object.keys(job.request)));
  names.delete("output_dir");
  const rows = [...names].map((name) => [name, ...jobs.map((job) => written(job.request[name]))]);
  const differing = rows.filter(([, ...values]) => new Set(values).size > 1);
  const losses = [LAST_LOSS, ...jobs.map((job) => short(job.progress.loss))];
  const table = [["", ...jobs.map(nameOf)], losses, ...differing];
  const shape = JSON.stringify(table);
  if (section.dataset.shape === shape) return;
  section.dataset.shape = shape;
  section.querySelector("table").replaceChildren(...table.map((cells, row) => {
    const line = element("tr");
    line.append(...cells.map((text, column) => element(row && column ? "td" : "th", text)));
    return line;
  }));
}
