// What a JSON Schema says of a value, in words, and what is wrong with one.

const SIMPLE = ["string", "number", "integer", "boolean"];
const MOST_DEPTH = 5; // of models in models: a schema may refer to itself

/** Return what a schema says once references and "or null" are taken from it. */
export function plain(described, root) {
  const { $ref, anyOf, allOf, const: only, ...own } = described;
  const from = $ref ? root.$defs?.[$ref.split("/").at(-1)] ?? {} : allOf?.length === 1 ? allOf[0] : null;
  if (from) {
    const { title, ...found } = plain(from, root); // of the class: the field has a name of its own
    return { ...found, ...own };
  }
  const choices = anyOf?.filter((one) => one.type !== "null");
  if (choices?.length === 1) return { ...plain(choices[0], root), ...own, nullable: true };
  return only === undefined ? own : { enum: [only], ...own };
}

/** Whether it is an object with fields of its own. */
export const isGroup = ({ type, properties }, depth) => type === "object" && Object.keys(properties ?? {}).length > 0 && depth < MOST_DEPTH;

/** Whether it is a list of which each entry has a field, or fields, of its own. */
export function isList({ type, format, items }, root, depth) {
  if (type !== "array" || format === "tensor" || !items) return false;
  const item = plain(items, root);
  return Boolean(item.enum) || SIMPLE.includes(item.type) || isGroup(item, depth + 1);
}

/** Return how a field is called. */
export const titleOf = ({ title }, name) => title ?? (name.charAt(0).toUpperCase() + name.slice(1)).replaceAll("_", " ");

/** Return what is taken, in a few words; `isInner` is said of a field among those of an object. */
export function kindOf(described, isOptional) {
  return [typeWords(described), isOptional && described.isInner && described.default == null ? "optional" : ""].filter(Boolean).join(", ");
}

function typeWords(described) {
  const { type, format } = described;
  if (described.enum || type === "boolean") return "";
  if (format === "tensor") return takenShape(described);
  if (format === "date-time") return "such as 2026-01-31T12:00:00Z";
  if (type === "array") return `a list, as JSON${range(described.minItems, described.maxItems, " entries")}`;
  if (type === "object") return "an object, as JSON";
  if (type === "string") return range(described.minLength > 1 ? described.minLength : undefined, described.maxLength, " characters").slice(2);
  if (type !== "integer" && type !== "number") return "as JSON";
  const { minimum, maximum, exclusiveMinimum: over, exclusiveMaximum: under } = described;
  const bounds = [range(minimum, maximum).slice(2), over === undefined ? "" : `more than ${over}`, under > 1e9 || under === undefined ? "" : `less than ${under}`];
  return bounds.filter(Boolean).join(", ");
}

/** Return how many entries a list may have, in words. */
export const countOf = ({ minItems, maxItems }) => range(minItems, maxItems, " entries").slice(2);

function range(least, most, unit = "") {
  if (most > 1e9) most = undefined;
  if (least === undefined && most === undefined) return "";
  if (most === undefined) return `, from ${least}${unit}`;
  if (least === undefined) return `, at most ${most}${unit}`;
  return least === most ? `, ${least}${unit}` : `, ${least} to ${most}${unit}`;
}

function takenShape(described) {
  const sizes = [];
  for (let one = described; one?.type === "array"; one = one.items) {
    sizes.push(one.minItems !== undefined && one.minItems === one.maxItems ? one.minItems : "any");
  }
  return sizes.length > 1 || sizes[0] !== "any" ? `numbers, ${sizes.join(" × ")}` : "nested lists of numbers";
}

/** Return what is wrong with a value, or nothing. */
export function faultOf(described, value) {
  const { type, minimum, maximum, exclusiveMinimum, exclusiveMaximum, minLength, maxLength } = described;
  if (typeof value === "number") {
    if (type === "integer" && !Number.isInteger(value)) return "give a whole number";
    if (minimum !== undefined && value < minimum) return `give ${minimum} or more`;
    if (exclusiveMinimum !== undefined && value <= exclusiveMinimum) return `give more than ${exclusiveMinimum}`;
    if (maximum !== undefined && value > maximum) return `give ${maximum} or less`;
    if (exclusiveMaximum !== undefined && value >= exclusiveMaximum) return `give less than ${exclusiveMaximum}`;
  }
  if (typeof value === "string") {
    const { length } = [...value]; // of characters, as the service counts them
    if (minLength !== undefined && length < minLength) return `give ${minLength} characters or more`;
    if (maxLength !== undefined && length > maxLength) return `give ${maxLength} characters or less`;
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

/** Return what a text says as JSON, undefined for what is none. */
export function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
