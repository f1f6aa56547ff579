// Which column of the data is what: the request's `column_map`, chosen by hand.

import { api } from "../assets/pages/api.js";
import { element } from "../assets/pages/words.js";
import { ANY_FORMAT, FORMATS, asCalled, columnLabel, noColumn } from "./new_run_words.js";
import { columnsOf } from "./report.js";

const IN_TURNS = ["role", "from", "content", "value"];
const PREFIX = "column_map.";

const $ = (id) => document.getElementById(id);
let formats = [];
let there = []; // the data's columns
let wanted = {}; // the data's column by the format's

export const isColumn = (name) => name.startsWith(PREFIX);

/** Ask the service what a row may look like, and show it. */
export async function readFormats() {
  ({ formats } = await api("datasets/formats"));
  $("formats").replaceChildren(...formats.map(({ name, description, sample, columns }) => {
    const row = element("div");
    const order = [...columns.needed, ...columns.optional, ...IN_TURNS];
    row.append(element("dt", FORMATS[name] ?? name), element("dd", `${description}.`, { class: "note" }));
    row.append(element("dd", JSON.stringify(sample, order), { class: "code" }));
    return row;
  }));
  const options = formats.map(({ name }) => new Option(FORMATS[name] ?? name, name));
  $("format").replaceChildren(new Option(ANY_FORMAT, ""), ...options);
}

/** Offer the columns of data that was looked at. */
export function drawColumns({ format, first_rows: rows }) {
  there = columnsOf(rows);
  if (!format && there.length) $("columns").open = true;
  draw();
}

function namesOf(format) {
  const { needed = [], optional = [] } = formats.find(({ name }) => name === format)?.columns ?? {};
  return [...needed.map((name) => [name, true]), ...optional.map((name) => [name, false])];
}

function draw() {
  $("columns").hidden = !there.length && !Object.keys(wanted).length;
  $("column-selects").replaceChildren(...namesOf($("format").value).map(([name, needed]) => {
    const field = element("div", "", { class: "field" });
    const select = element("select", "", { id: PREFIX + name, name: PREFIX + name });
    select.append(new Option(there.includes(name) ? asCalled(name) : noColumn(needed), ""));
    const others = new Set([...there, ...(wanted[name] ? [wanted[name]] : [])]);
    others.delete(name);
    select.append(...[...others].map((own) => new Option(own, own)));
    select.value = wanted[name] ?? "";
    select.addEventListener("change", () => { wanted[name] = select.value; });
    field.append(element("label", columnLabel(name, needed), { for: select.id }), select);
    return field;
  }));
}

export function columnMap() {
  const names = namesOf($("format").value).map(([name]) => name);
  return Object.fromEntries(names.filter((name) => wanted[name]).map((name) => [name, wanted[name]]));
}

/** Choose what a request has, {"output": "answer"}, and the format that these columns are of. */
export function fillColumns(map, format = "") {
  wanted = { ...map };
  const fits = formats.find(({ columns: { needed, optional } }) => (
    Object.keys(map).length && Object.keys(map).every((name) => [...needed, ...optional].includes(name))
  ));
  $("format").value = format || fits?.name || "";
  draw();
}

$("format").addEventListener("change", draw);
