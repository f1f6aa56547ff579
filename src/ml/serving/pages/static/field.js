// One field of a form: a control with its label, what may stand in it, and what is wrong with it.

import { faultOf, json, kindOf, shapeOf, titleOf } from "./schema.js";
import { element } from "./words.js";

const SAYS = {
  missing: "this has to be filled in",
  number: "give a number",
  json: "this is no JSON",
  text: "this is no JSON; a text stands in double quotes",
};
/** What stands for a secret where the request is shown. */
const HIDDEN = "…";

export class Field {
  constructor(id, name, described, required) {
    Object.assign(this, { name, described, required });
    const hint = described.description ?? "";
    this.title = titleOf(described, name);
    this.control = controlOf(described, required, name);
    this.control.id = id;
    this.control.name = name;
    this.control.setAttribute("aria-describedby", `${id}-hint ${id}-fault`);
    if (required) this.control.required = true;
    this.hint = element("p", hint, { id: `${id}-hint`, class: "note" });
    this.fault = element("p", "", { id: `${id}-fault`, class: "fault" });
    this.node = element("div", "", { class: "field" });
    this.label = element("label", this.title, { for: id });
    const kind = kindOf(described, !required);
    if (kind) this.label.append(" ", element("span", kind, { class: "kind" }));
    this.node.append(this.label, this.control, this.hint, this.fault);
    if (described.format === "tensor") this.#showShape(hint);
    this.set(undefined);
  }

  /** This field, and no other. */
  *all() {
    yield this;
  }

  rename(title) {
    this.title = title;
    this.label.firstChild.data = title;
  }

  focus() {
    this.control.focus();
  }

  set(value) {
    const given = value ?? this.described.default;
    if (this.control.type === "checkbox") this.control.checked = Boolean(given);
    else if (given === undefined || given === null) this.control.value = this.control.dataset.only ?? "";
    else if (this.#isJson) this.control.value = JSON.stringify(given);
    else this.control.value = String(given);
    this.control.dispatchEvent(new Event("input"));
  }

  read(faults, hides = false) {
    if (this.control.type === "checkbox") return this.control.checked;
    const text = this.control.value;
    const broken = this.control.validity.badInput;
    if (!broken && (this.described.type === "string" ? text : text.trim()) === "") {
      if (this.required && this.described.nullable) return null;
      if (this.required) faults.set(this, SAYS.missing);
      return undefined;
    }
    const value = this.#valueOf(text);
    const fault = broken ? SAYS.number : value === undefined ? this.#unread : faultOf(this.described, value);
    if (fault) faults.set(this, fault);
    return hides && this.control.type === "password" ? HIDDEN : value;
  }

  /** Return the field that a refusal names, and what it says: "name: …" or "name.deeper: …". */
  find(text) {
    return { field: this, said: text.slice(text.indexOf(": ") + 2) };
  }

  tell(fault) {
    this.fault.textContent = fault;
    this.fault.hidden = !fault;
    if (fault) this.control.setAttribute("aria-invalid", "true");
    else this.control.removeAttribute("aria-invalid");
  }

  get #isJson() {
    return this.control.classList.contains("json");
  }

  get #unread() {
    return this.described.type ? SAYS.json : SAYS.text;
  }

  #valueOf(text) {
    if (this.described.enum) return this.described.enum.find((one) => String(one) === text);
    if (this.described.type === "boolean") return text === "true";
    if (!this.#isJson && this.described.type === "string") return text;
    return json(text);
  }

  #showShape(hint) {
    this.control.addEventListener("input", () => {
      const shape = shapeOf(json(this.control.value));
      this.hint.textContent = shape ? `${hint} Shape now: ${shape.join(" × ") || "one number"}.` : hint;
    });
  }
}

function controlOf(described, required, name) {
  const { type, format } = described;
  const choices = described.enum ?? (type === "boolean" && !required && described.default == null ? [true, false] : null);
  if (choices) return selectOf(choices, described, required);
  if (type === "boolean") return element("input", "", { type: "checkbox" });
  if (type === "integer" || type === "number") {
    const bounds = { min: described.minimum, max: described.maximum, step: type === "integer" ? 1 : "any" };
    const known = Object.entries(bounds).filter(([, value]) => value !== undefined);
    return element("input", "", { type: "number", ...Object.fromEntries(known) });
  }
  if (format === "password") return element("input", "", { type: "password", autocomplete: "off" });
  if (format === "date") return element("input", "", { type: "date" });
  const isShort = described.isEntry || described.maxLength <= 200 || (format && format !== "tensor");
  const long = type === "string" ? required && !isShort : format === "tensor" || required;
  const attributes = type === "string" ? {} : { class: "json", spellcheck: "false", placeholder: placeholderOf(described, name) };
  return long ? element("textarea", "", { rows: described.isInner && type === "string" ? 2 : 5, ...attributes }) : element("input", "", { type: "text", ...attributes });
}

function selectOf(choices, described, required) {
  const only = required && choices.length === 1;
  const select = element("select", "", only ? { "data-only": choices[0] } : {});
  const none = required ? "choose …" : "as the service has it";
  const hasOne = "default" in described && (required || described["x-first"]);
  if (!only && !hasOne) select.append(element("option", none, { value: "" }));
  for (const one of choices) select.append(element("option", String(one)));
  return select;
}

function placeholderOf({ type, format }, name) {
  if (format === "tensor") return "[[1.0, 2.0, 3.0]]";
  if (type === "array") return '["…"]';
  return type === "object" ? "{…}" : name === "input" ? '"a text", a number, [a list] or {an object}' : "";
}
