// What is made of several fields: an object with its own, and a list with one or several an entry.

import { Field } from "./field.js";
import { countOf, isGroup, isList, plain, titleOf } from "./schema.js";
import { element } from "./words.js";

/** Make ids that no other field of the page has. */
export function idsOf() {
  const used = new Map();
  return (path) => {
    const id = `field-${path.replaceAll(/\W+/g, "-")}`;
    const number = (used.get(id) ?? 0) + 1;
    used.set(id, number);
    return number === 1 ? id : `${id}-${number}`;
  };
}

/** Return the field, the group or the list of a value; `form` has the whole schema and the ids. */
export function partOf(form, path, name, schema, required, depth = 0) {
  const described = plain(schema, form.schema);
  if (isGroup(described, depth)) return new Group(form, path, name, described, required, depth);
  if (isList(described, form.schema, depth)) return new List(form, path, name, described, required, depth);
  return new Field(form.id(path), name, described, required);
}

/** Return the parts of an object by their names. */
export function partsOf(form, path, described, depth = 0) {
  const required = new Set(described.required ?? []);
  const under = path && `${path}.`;
  const entries = Object.entries(described.properties);
  return new Map(entries.map(([name, one]) => [name, partOf(form, under + name, name, { ...one, isInner: depth > 0 }, required.has(name), depth)]));
}

/** Read the parts of an object, without those that are not filled in. */
export function readParts(parts, faults, hides) {
  const value = {};
  for (const [name, part] of parts) {
    const given = part.read(faults, hides);
    if (given !== undefined) value[name] = given;
  }
  return value;
}

/** Return the part that a refusal names; a name may have dots and colons of its own. */
export function findPart(parts, text) {
  const names = [...parts.keys()].sort((one, other) => other.length - one.length);
  for (const name of names) {
    if (text.startsWith(`${name}: `)) return { field: parts.get(name), said: text.slice(name.length + 2) };
    if (text.startsWith(`${name}.`) && text.includes(": ", name.length)) return parts.get(name).find(text.slice(name.length + 1));
  }
  return null;
}

/** A frame with a legend, a hint and a place for what is wrong. */
class Framed {
  constructor(form, path, name, described, required, depth) {
    Object.assign(this, { form, path, name, described, required, depth });
    const id = form.id(path);
    this.title = titleOf(described, name);
    this.hint = element("p", described.description ?? "", { id: `${id}-hint`, class: "note" });
    this.fault = element("p", "", { id: `${id}-fault`, class: "fault" });
    this.node = element("fieldset", "", { id, class: "group", "aria-describedby": `${id}-hint ${id}-fault` });
    this.legend = element("legend", this.title);
    this.inner = element("div", "", { class: "form" });
    this.node.append(this.legend, this.hint, this.inner, this.fault);
    this.fault.hidden = true;
  }

  rename(title) {
    this.title = title;
    this.legend.firstChild.data = title;
  }

  tell(fault) {
    this.fault.textContent = fault;
    this.fault.hidden = !fault;
  }
}

/** An object; one that may be left out has a switch. */
export class Group extends Framed {
  constructor(form, path, name, described, required, depth) {
    super(form, path, name, described, required, depth);
    this.parts = partsOf(form, path, described, depth + 1);
    this.inner.append(...[...this.parts.values()].map((part) => part.node));
    this.isOptional = !required || described.nullable;
    if (this.isOptional) this.#addSwitch();
    this.set(undefined);
  }

  *all() {
    yield this;
    for (const part of this.parts.values()) yield* part.all();
  }

  focus() {
    (this.given ?? this.inner.querySelector("input, select, textarea, button")).focus();
  }

  set(value) {
    const given = value ?? this.described.default;
    for (const [name, part] of this.parts) part.set(given?.[name]);
    if (this.isOptional) this.#give(given !== undefined && given !== null);
  }

  read(faults, hides) {
    if (this.given?.checked === false) return this.required ? null : undefined;
    return readParts(this.parts, faults, hides);
  }

  find(text) {
    return findPart(this.parts, text) ?? { field: this, said: text };
  }

  #addSwitch() {
    this.given = element("input", "", { type: "checkbox" });
    const label = element("label", this.title, { class: "choice" });
    label.prepend(this.given, " ");
    this.legend.replaceChildren(label);
    this.given.addEventListener("change", () => this.#give(this.given.checked));
  }

  #give(is) {
    this.given.checked = is;
    this.inner.hidden = !is;
  }
}

/** A list of which entries are added and removed. */
export class List extends Framed {
  constructor(form, path, name, described, required, depth) {
    super(form, path, name, described, required, depth);
    const count = countOf(described);
    if (count) this.legend.append(" ", element("span", count, { class: "kind" }));
    this.entries = [];
    this.add = element("button", `Add to ${this.title}`, { type: "button", class: "quiet" });
    this.add.addEventListener("click", () => {
      this.#append().focus();
      this.#changed();
    });
    this.node.insertBefore(this.add, this.fault);
    this.set(undefined);
  }

  *all() {
    yield this;
    for (const { part } of this.entries) yield* part.all();
  }

  focus() {
    this.add.focus();
  }

  set(value) {
    const given = value ?? this.described.default ?? [];
    this.entries = [];
    this.inner.replaceChildren();
    for (const one of given) this.#append().set(one);
  }

  read(faults, hides) {
    const { minItems = 0, maxItems = Infinity } = this.described;
    const number = this.entries.length;
    const isLeftOut = !number && !this.required && !this.described.default?.length;
    if (isLeftOut) return undefined;
    if (number < minItems) faults.set(this, `add ${minItems - number} more`);
    if (number > maxItems) faults.set(this, `remove ${number - maxItems}`);
    return this.entries.map(({ part }) => part.read(faults, hides));
  }

  find(text) {
    const [whole, index, behind] = /^(\d+)(: |\.)/.exec(text) ?? [];
    const part = this.entries[index]?.part;
    if (!part) return { field: this, said: text };
    return behind === "." ? part.find(text.slice(whole.length)) : { field: part, said: text.slice(whole.length) };
  }

  #append() {
    const part = partOf(this.form, `${this.path}.${this.entries.length}`, this.name, { ...this.described.items, isEntry: true }, true, this.depth + 1);
    const row = element("div", "", { class: "entry" });
    const remove = element("button", "Remove", { type: "button", class: "quiet" });
    const entry = { part, row, remove };
    remove.addEventListener("click", () => {
      this.entries.splice(this.entries.indexOf(entry), 1);
      row.remove();
      this.#number();
      this.add.focus();
      this.#changed();
    });
    row.append(part.node, remove);
    this.inner.append(row);
    this.entries.push(entry);
    this.#number();
    return part;
  }

  #number() {
    this.entries.forEach(({ part, remove }, index) => {
      part.rename(`${this.title} ${index + 1}`);
      remove.setAttribute("aria-label", `Remove ${part.title}`);
    });
  }

  #changed() {
    this.node.dispatchEvent(new Event("input", { bubbles: true }));
  }
}
