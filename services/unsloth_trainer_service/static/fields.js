// The fields of a form that were made from the API's schema: read, checked and filled.

import { setText } from "../assets/pages/words.js";
import { NEEDED, NOT_JSON, due } from "./new_run_words.js";

/** What a field says of its text that no request can have; "" if it is fine. */
export function faultOf(control) {
  const text = control.value.trim();
  if (!text && !control.validity.badInput) return control.required ? NEEDED : "";
  if (control.dataset.kind === "json") return parsed(text) === undefined ? NOT_JSON : "";
  if (control.dataset.kind !== "number") return "";
  const { step, min, max, dataset: { above, below } } = control;
  const number = Number(text);
  const outside = (above !== undefined && number <= Number(above)) || (below !== undefined && number >= Number(below));
  return control.validity.valid && !outside ? "" : due({ whole: step === "1", above, min, max, below });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A field's value as a request has it; undefined where it says nothing but its default. */
export function valueOf(control) {
  const { kind, default: standard } = control.dataset;
  if (kind === "switch") return String(control.checked) === standard ? undefined : control.checked;
  const text = kind === "text" && control.tagName === "TEXTAREA" ? control.value : control.value.trim();
  if (!text || text === standard) return undefined;
  if (kind === "number") return Number(text) === Number(standard || NaN) ? undefined : Number(text);
  if (kind === "json") return parsed(text);
  if (kind === "list") return text.split(",").map((name) => name.trim()).filter(Boolean);
  return kind === "choice" ? ({ true: true, false: false }[text] ?? text) : text;
}

/** Show a request's value in its field; undefined and null are the default. */
export function fill(control, value) {
  const { kind, default: standard } = control.dataset;
  if (kind === "switch") control.checked = value ?? standard === "true";
  else if (kind === "choices") control.checked = (value ?? []).includes(control.value);
  else if (value === null || value === undefined) control.value = standard;
  else if (kind === "list") control.value = [value].flat().join(", ");
  else if (kind === "json") control.value = Object.keys(value).length ? JSON.stringify(value) : "";
  else control.value = String(value);
}

/** Take apart what a 422 says, "field: what is wrong; other: …": [[field, fault], …]. */
export function faultsIn(description, isField) {
  const faults = [];
  for (const piece of description.split("; ")) {
    const [, name, message] = piece.match(/^([a-z_0-9]+)(?:\.[^:\s]*)?: (.*)$/s) ?? [];
    if (name && isField(name)) faults.push([name, message]);
    else if (faults.length) faults.at(-1)[1] += `; ${piece}`;
    else faults.push(["", piece]);
  }
  return faults;
}

/** Say what is wrong with a field, "" for nothing; returns whether the page has a place for it. */
export function showFault(name, text) {
  const place = document.getElementById(`fault-${name}`);
  if (!place) return false;
  setText(place, text);
  place.hidden = !text;
  for (const control of document.querySelectorAll(`[aria-describedby~="fault-${CSS.escape(name)}"]`)) {
    if (text) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  }
  return true;
}
