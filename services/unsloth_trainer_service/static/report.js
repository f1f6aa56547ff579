// What a look at training data found, drawn as tables.

import { element, setPairs, setText } from "../assets/pages/words.js";
import * as words from "./new_run_words.js";

const $ = (id) => document.getElementById(id);

/** The names of the columns that rows have, in their order. */
export const columnsOf = (rows) => [...new Set(rows.flatMap(({ values }) => values.map(([name]) => name)))];

export function drawReport(report) {
  setText($("refusal"), report.refusal ? words.refusedData(report.refusal) : "");
  $("refusal").hidden = !report.refusal;
  setText($("verdict"), words.verdict(report));
  $("warnings").replaceChildren(...words.notes(report).map((text) => element("li", text)));
  drawFaults(report);
  drawRows(report.first_rows);
  drawSamples(report.samples);
  $("report").hidden = false;
}

function drawFaults({ faults, dropped }) {
  $("row-faults").hidden = !faults.length;
  const lines = faults.map(({ line, pointer, message, hint }) => [
    String(line), pointer.slice(1).replaceAll("/", " › "), message, hint,
  ]);
  if (dropped > faults.length) lines.push(["", "", words.andMore(dropped - faults.length), ""]);
  const table = [[...words.FAULT_COLUMNS], ...lines];
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
  fillTable($("rows"), [words.LINE, ...columns], lines);
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
  setPairs($("expected"), report.refusal ? [] : words.expected(report));
}
