// What a look at training data found, drawn as tables.

import { bytes, element, setPairs, setText, short } from "../assets/pages/words.js";

const $ = (id) => document.getElementById(id);
const SHAPES = {
  messages: "conversations (messages)",
  sharegpt: "conversations (conversations)",
  instruction: "instructions and their answers",
  prompt_completion: "prompts and their answers",
  text: "texts",
  content: "texts",
};

const several = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

/** The names of the columns that rows have, in their order. */
export const columnsOf = (rows) => [...new Set(rows.flatMap(({ values }) => values.map(([name]) => name)))];

export function drawReport(report) {
  setText($("refusal"), report.refusal ? `Nothing can be trained on this: ${report.refusal}` : "");
  $("refusal").hidden = !report.refusal;
  setText($("verdict"), verdict(report));
  $("warnings").replaceChildren(...notes(report).map((text) => element("li", text)));
  drawFaults(report);
  drawRows(report.first_rows);
  drawSamples(report.samples);
  $("report").hidden = false;
}

function verdict({ format, whole, rows, usable, dropped }) {
  const what = SHAPES[format] ? `, read as ${SHAPES[format]}` : "";
  const of = whole ? several(rows, "row") : `the first ${several(rows, "row")}`;
  const left = dropped ? ` ${several(dropped, "row")} cannot be used and would be left out.` : "";
  return `${usable} of ${of} can be trained on${what}.${left}`;
}

function notes({ columns_ignored: ignored, truncated, warnings }) {
  const unread = Object.entries(ignored).map(([name, number]) => `${name} (${several(number, "row")})`);
  return [
    ...(unread.length ? [`Columns that are not read: ${unread.join(", ")}.`] : []),
    ...(truncated ? [`${several(truncated, "example")} longer than the longest that is allowed, and cut at the end.`] : []),
    ...warnings,
  ];
}

function drawFaults({ faults, dropped }) {
  $("row-faults").hidden = !faults.length;
  const lines = faults.map(({ line, pointer, message, hint }) => [
    String(line), pointer.slice(1).replaceAll("/", " › "), message, hint,
  ]);
  if (dropped > faults.length) lines.push(["", "", `and ${dropped - faults.length} more`, ""]);
  const table = [["Line", "Field", "What is wrong", "What to do"], ...lines];
  if (faults.every(({ pointer }) => !pointer)) for (const row of table) row.splice(1, 1);
  fillTable($("row-faults"), table[0], lines);
}

function drawRows(rows) {
  $("rows").hidden = !rows.length;
  const columns = columnsOf(rows);
  const lines = rows.map(({ line, values }) => {
    const texts = new Map(values);
    return [String(line), ...columns.map((name) => texts.get(name) ?? "")];
  });
  fillTable($("rows"), ["Line", ...columns], lines);
}

function fillTable(box, head, lines) {
  const row = (name, texts) => {
    const line = element("tr");
    line.append(...texts.map((text) => element(name, text, name === "th" ? { scope: "col" } : {})));
    return line;
  };
  box.querySelector("table").replaceChildren(row("th", head), ...lines.map((texts) => row("td", texts)));
}

function drawSamples(samples) {
  $("samples").hidden = !samples.length;
  $("samples").querySelector("ol").replaceChildren(...samples.map((segments) => {
    const item = element("li", "", { class: "sample", tabindex: "0" });
    item.append(...segments.map(({ text, trained }) => (
      trained ? element("mark", text, { class: "trained" }) : element("span", text)
    )));
    return item;
  }));
}

/** What to expect of a training, as far as the report tells. */
export function drawExpected(report) {
  const { optimizer_steps: steps, epochs, train_examples: train, validation_examples: held } = report;
  const entries = [
    ["Steps", steps === null ? "as many as all rows take" : String(steps)],
    ["Times through the data", epochs === null ? "–" : short(epochs)],
    ["Examples", `${report.whole ? "" : "over "}${train}${held ? `, and ${held} to measure with` : ""}`],
  ];
  if (report.tokens) entries.push(["Longest example", `${report.tokens.max} tokens; half have up to ${report.tokens.p50}`]);
  if (report.memory) entries.push(["Memory at its peak, about", bytes(report.memory.total_bytes)]);
  setPairs($("expected"), report.refusal ? [] : entries);
}
