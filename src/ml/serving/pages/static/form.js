// A form of the JSON Schema of what a service takes. What has no field of its own is written as JSON.

import { element } from "./words.js";

const SAYS = {
  missing: "this has to be filled in",
  number: "give a number",
  whole: "give a whole number",
  json: "this is no JSON",
  text: "this is no JSON; a text stands in double quotes",
};

/** The fields of a schema; with none, one for any JSON. */
export class SchemaForm {
  constructor(root, schema) {
    this.fields = new Map();
    root.replaceChildren();
    if (!schema?.properties) {
      this.whole = new Field("input", { title: "Input" }, true);
      root.append(this.whole.node);
      return;
    }
    const rest = element("div", "", { class: "form" });
    const required = new Set(schema.required ?? []);
    for (const [name, described] of Object.entries(schema.properties)) {
      const field = new Field(name, plain(described, schema), required.has(name));
      this.fields.set(name, field);
      (required.has(name) ? root : rest).append(field.node);
    }
    if (!rest.children.length) return;
    this.more = element("details");
    this.more.append(element("summary", `More settings (${rest.children.length})`), rest);
    this.more.open = !required.size;
    root.append(this.more);
  }

  /** Fill in a value, such as an example; what it does not have is emptied. */
  fill(value) {
    if (this.whole) this.whole.set(value);
    else for (const [name, field] of this.fields) field.set(value?.[name]);
  }

  /** Return the value, or undefined where a field holds none: it says so then. */
  read() {
    const { value, faults } = this.#value();
    this.tell(faults, true);
    return value;
  }

  /** Return the value, or undefined, and say nothing. */
  peek() {
    return this.#value().value;
  }

  #value() {
    const faults = {};
    const value = this.whole ? this.whole.read(faults) : {};
    for (const [name, field] of this.fields) {
      const given = field.read(faults);
      if (given !== undefined) value[name] = given;
    }
    return { value: Object.keys(faults).length ? undefined : value, faults };
  }

  /** Show what is wrong with fields, and go to the first of them. */
  tell(faults, goes = false) {
    let first = null;
    for (const field of this.whole ? [this.whole] : this.fields.values()) {
      field.tell(faults[field.name] ?? "");
      if (faults[field.name]) first ??= field;
    }
    if (!goes || !first) return;
    if (this.more?.contains(first.node)) this.more.open = true;
    first.control.focus();
  }

  /** Take a refusal of the service apart: what is said of fields, and what is left of it. */
  faultsOf(description) {
    const faults = {};
    const rest = [];
    for (const part of description.split("; ")) {
      const [, name, said] = /^(?:data\.)?(\w+)(?:\.[^:\s]*)?: ([\s\S]+)$/.exec(part) ?? [];
      if (this.fields.has(name)) faults[name] = said;
      else if (Object.keys(faults).length) faults[Object.keys(faults).at(-1)] += `; ${part}`;
      else rest.push(part);
    }
    return { faults, rest: rest.join("; ") };
  }
}

class Field {
  constructor(name, described, required) {
    Object.assign(this, { name, described, required });
    const id = `field-${name}`;
    const hint = described.description ?? "";
    this.control = controlOf(described, required, name);
    this.control.id = id;
    this.control.name = name;
    this.control.setAttribute("aria-describedby", `${id}-hint ${id}-fault`);
    if (required) this.control.required = true;
    this.hint = element("p", hint, { id: `${id}-hint`, class: "note" });
    this.fault = element("p", "", { id: `${id}-fault`, class: "fault" });
    this.node = element("div", "", { class: "field" });
    const label = element("label", described.title ?? name, { for: id });
    const kind = kindOf(described);
    if (kind) label.append(" ", element("span", kind, { class: "kind" }));
    this.node.append(label, this.control, this.hint, this.fault);
    if (described.format === "tensor") this.#showShape(hint);
    this.set(undefined);
  }

  set(value) {
    const given = value ?? this.described.default;
    if (this.control.type === "checkbox") this.control.checked = Boolean(given);
    else if (given === undefined || given === null) this.control.value = "";
    else if (this.#isJson) this.control.value = JSON.stringify(given);
    else this.control.value = String(given);
    this.control.dispatchEvent(new Event("input"));
  }

  read(faults) {
    if (this.control.type === "checkbox") return this.control.checked;
    const text = this.control.value;
    const broken = this.control.validity.badInput;
    if (!broken && (this.described.type === "string" ? text : text.trim()) === "") {
      if (this.required) faults[this.name] = SAYS.missing;
      return undefined;
    }
    const value = this.#valueOf(text);
    const fault = broken ? SAYS.number : value === undefined ? this.#unread : boundFault(this.described, value);
    if (fault) faults[this.name] = fault;
    return value;
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

/** Return what a schema says once references and "or null" are taken from it. */
function plain(described, root) {
  const { $ref, anyOf, allOf, ...own } = described;
  if ($ref) return { ...plain(root.$defs?.[$ref.split("/").at(-1)] ?? {}, root), ...own };
  if (allOf?.length === 1) return { ...plain(allOf[0], root), ...own };
  const choices = anyOf?.filter((one) => one.type !== "null");
  if (choices?.length === 1) return { ...plain(choices[0], root), ...own };
  return own;
}

function controlOf(described, required, name) {
  const { type } = described;
  const choices = described.enum ?? (type === "boolean" && !required && described.default == null ? [true, false] : null);
  if (choices) {
    const select = element("select");
    if (!required || !("default" in described)) select.append(element("option", required ? "choose …" : "as the service has it", { value: "" }));
    for (const one of choices) select.append(element("option", String(one)));
    return select;
  }
  if (type === "boolean") return element("input", "", { type: "checkbox" });
  if (type === "integer" || type === "number") {
    const bounds = { min: described.minimum, max: described.maximum, step: type === "integer" ? 1 : "any" };
    const known = Object.entries(bounds).filter(([, value]) => value !== undefined);
    return element("input", "", { type: "number", ...Object.fromEntries(known) });
  }
  const long = type === "string" ? required : described.format === "tensor" || required;
  const attributes = type === "string" ? {} : { class: "json", spellcheck: "false", placeholder: placeholderOf(described, name) };
  return long ? element("textarea", "", { rows: 5, ...attributes }) : element("input", "", { type: "text", ...attributes });
}

function placeholderOf({ type, format }, name) {
  if (format === "tensor") return "[[1.0, 2.0, 3.0]]";
  if (type === "array") return '["…"]';
  return type === "object" ? "{…}" : name === "input" ? '"a text", a number, [a list] or {an object}' : "";
}

function kindOf({ type, format, minimum, maximum }) {
  if (format === "tensor") return "nested lists of numbers";
  if (type === "array") return "a list, as JSON";
  if (type === "object") return "an object, as JSON";
  if (type !== "integer" && type !== "number") return "";
  if (minimum !== undefined && maximum !== undefined && maximum < 1e9) return `${minimum} to ${maximum}`;
  return minimum !== undefined ? `from ${minimum}` : "";
}

function boundFault(described, value) {
  const { type, minimum, maximum, exclusiveMinimum, exclusiveMaximum, minLength, maxLength } = described;
  if (typeof value === "number") {
    if (type === "integer" && !Number.isInteger(value)) return SAYS.whole;
    if (minimum !== undefined && value < minimum) return `give ${minimum} or more`;
    if (exclusiveMinimum !== undefined && value <= exclusiveMinimum) return `give more than ${exclusiveMinimum}`;
    if (maximum !== undefined && value > maximum) return `give ${maximum} or less`;
    if (exclusiveMaximum !== undefined && value >= exclusiveMaximum) return `give less than ${exclusiveMaximum}`;
  }
  if (typeof value === "string") {
    if (minLength !== undefined && value.length < minLength) return `give ${minLength} characters or more`;
    if (maxLength !== undefined && value.length > maxLength) return `give ${maxLength} characters or less`;
  }
  if (type === "array" && !Array.isArray(value)) return "give a list, in square brackets";
  if (type === "object" && (value === null || typeof value !== "object" || Array.isArray(value))) return "give an object, in braces";
  return "";
}

/** Return the lengths of nested lists, of the first entry on each level; null for what is none. */
export function shapeOf(value) {
  if (value === undefined) return null;
  const shape = [];
  for (let one = value; Array.isArray(one); [one] = one) shape.push(one.length);
  return shape.length || typeof value === "number" ? shape : null;
}

function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
