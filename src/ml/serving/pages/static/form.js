// A form of the JSON Schema of what a service takes. What has no field of its own is written as JSON.

import { Field } from "./field.js";
import { findPart, idsOf, partsOf, readParts } from "./group.js";
import { element } from "./words.js";

/** The fields of a schema; with none, one for any JSON. */
export class SchemaForm {
  constructor(root, schema) {
    this.schema = schema;
    this.id = idsOf();
    this.parts = new Map();
    root.replaceChildren();
    if (!schema?.properties) {
      this.whole = new Field(this.id("input"), "input", {}, true);
      root.append(this.whole.node);
      return;
    }
    this.parts = partsOf(this, "", schema);
    const rest = element("div", "", { class: "form" });
    for (const part of this.parts.values()) (part.required || part.described["x-first"] ? root : rest).append(part.node);
    if (!rest.children.length) return;
    const more = element("details");
    more.append(element("summary", `More settings (${rest.children.length})`), rest);
    more.open = ![...this.parts.values()].some((part) => part.required);
    root.append(more);
  }

  /** Fill in a value, such as an example; what it does not have is emptied. */
  fill(value) {
    if (this.whole) this.whole.set(value);
    else for (const [name, part] of this.parts) part.set(value?.[name]);
  }

  /** Return the value, or undefined where a field holds none: it says so then. */
  read() {
    const { value, faults } = this.#value();
    this.tell(faults, true);
    return value;
  }

  /** Return the value, or undefined, and say nothing; without its secrets where it is to be shown. */
  peek({ hides = false } = {}) {
    return this.#value(hides).value;
  }

  #value(hides = false) {
    const faults = new Map();
    const value = this.whole ? this.whole.read(faults) : readParts(this.parts, faults, hides);
    return { value: faults.size ? undefined : value, faults };
  }

  *#all() {
    if (this.whole) yield this.whole;
    for (const part of this.parts.values()) yield* part.all();
  }

  /** Show what is wrong with fields, and go to the first of them. */
  tell(faults, goes = false) {
    let first = null;
    for (const field of this.#all()) {
      field.tell(faults.get(field) ?? "");
      if (faults.has(field)) first ??= field;
    }
    if (!goes || !first) return;
    const around = first.node.closest("details");
    if (around) around.open = true;
    first.focus();
  }

  /** Take a refusal of the service apart: what is said of fields, and what is left of it. */
  faultsOf(description) {
    const faults = new Map();
    const rest = [];
    let last = null;
    for (const part of description.split("; ")) {
      const found = findPart(this.parts, part.replace(/^data\./, ""));
      if (found) {
        last = found.field;
        faults.set(last, faults.has(last) ? `${faults.get(last)}; ${found.said}` : found.said);
      } else if (last) faults.set(last, `${faults.get(last)}; ${part}`);
      else rest.push(part);
    }
    return { faults, rest: rest.join("; ") };
  }
}
