// What the page on which a run is started says in English, beside what stands in its template.

import { bytes, short } from "../assets/pages/words.js";

// --- the form ----------------------------------------------------------------------------------

export const COPIED = "Copied";
export const NEEDS = { dataset_name: "Choose a file, or give a name.", model_name: "Choose a model, or give a name." };
export const NEEDED = "This is needed.";
export const NOT_JSON = "Give JSON, or leave it empty.";
export const KEPT = "Nothing that you entered is lost.";
export const QUEUEING = "Looking at the data once more, and queueing the run …";
export const UNSURE = "The connection broke off before the service answered. Look whether the run is among the Runs before you start it again.";

export const gone = (name) => `${name} is no model that can be trained on here any more: choose another one.`;
export const queried = (run, query) => `The data of ${run} is the result of the query ${query}, which this page does not offer: choose other data.`;

/** What a number has to be: whole, and within bounds of which some are not there. */
export function due({ whole, above, min, max, below }) {
  const bounds = [["above", above], ["at least", min], ["at most", max], ["below", below]];
  const words = bounds.filter(([, bound]) => bound).map(([word, bound]) => `${word} ${bound}`);
  return `Give ${[whole ? "a whole number" : "a number", ...words].join(", ")}.`;
}

// --- files and models --------------------------------------------------------------------------

export const GROUPS = { uploads: "Uploaded", files: "Under INPUT_PATH", base: "Base models", tuned: "Tuned here" };
export const MORE_FILES = " There are more than are listed here; the API takes them by their names.";
export const CUT = "The connection broke off before the whole file was there. Choose the file again to send it anew.";

export const fileLabel = ({ name, bytes: size }) => `${name} (${bytes(size)})`;
export const uploadLabel = ({ filename, bytes: size, created_at: at }) => `${filename} (${bytes(size)}, ${new Date(1000 * at).toLocaleString()})`;
export const uploaded = (name) => `${name} is uploaded and chosen.`;
export const upTo = (most) => `Up to ${bytes(most)}.`;
export const sentShare = (share, size) => (share < 1 ? `${Math.floor(100 * share)} % of ${bytes(size)}` : "The service is keeping it …");
export const tooLarge = ({ name, size }, most) => `${name} has ${bytes(size)}; the service takes less than ${bytes(most)}.`;
export const otherEnding = ({ name }, endings) => `${name}: its name has to end in ${endings.join(", ")}.`;
export const isEmpty = ({ name }) => `${name} is empty.`;

// --- columns -----------------------------------------------------------------------------------

export const FORMATS = {
  messages: "A conversation: messages",
  sharegpt: "A conversation: from, value",
  instruction: "An instruction and its answer",
  prompt_completion: "A prompt and its answer",
  text: "A text",
  content: "A text, as content",
};
export const ANY_FORMAT = "As its columns tell";

export const columnLabel = (name, isNeeded) => (isNeeded ? name : `${name} (if there is one)`);
export const asCalled = (name) => `${name}, as it is called`;
export const noColumn = (isNeeded) => (isNeeded ? "choose its column" : "none");

// --- the look at the data ----------------------------------------------------------------------

export const LOOKING = "Looking at the data …";
export const UNLOOKED = {
  faults: "Not looked at again, while a setting is wrong.",
  query: "The rows of a query are read when its run starts.",
  missing: "Choose data and a model, and see here what comes of each row.",
};
export const FAULT_COLUMNS = ["Line", "Field", "What is wrong", "What to do"];
export const LINE = "Line";

const SHAPES = {
  messages: "conversations (messages)",
  sharegpt: "conversations (conversations)",
  instruction: "instructions and their answers",
  prompt_completion: "prompts and their answers",
  text: "texts",
  content: "texts",
};

const several = (number, one) => `${number} ${number === 1 ? one : `${one}s`}`;

export const readAs = (data, model) => `${data}, as ${model} reads it`;
export const refusedData = (why) => `Nothing can be trained on this: ${why}`;
export const andMore = (number) => `and ${number} more`;

export function verdict({ format, whole, rows, usable, dropped }) {
  const what = SHAPES[format] ? `, read as ${SHAPES[format]}` : "";
  const of = whole ? several(rows, "row") : `the first ${several(rows, "row")}`;
  const left = dropped ? ` ${several(dropped, "row")} cannot be used and would be left out.` : "";
  return `${usable} of ${of} can be trained on${what}.${left}`;
}

export function notes({ columns_ignored: ignored, truncated, warnings }) {
  const unread = Object.entries(ignored).map(([name, number]) => `${name} (${several(number, "row")})`);
  return [
    ...(unread.length ? [`Columns that are not read: ${unread.join(", ")}.`] : []),
    ...(truncated ? [`${several(truncated, "example")} longer than the longest that is allowed, and cut at the end.`] : []),
    ...warnings,
  ];
}

/** What to expect of a training, as far as the look tells: [[name, value], …]. */
export function expected({ whole, tokens, memory, ...report }) {
  const { optimizer_steps: steps, epochs, train_examples: train, validation_examples: held } = report;
  const entries = [
    ["Steps", steps === null ? "as many as all rows take" : String(steps)],
    ["Times through the data", epochs === null ? "–" : short(epochs)],
    ["Examples", `${whole ? "" : "over "}${train}${held ? `, and ${held} to measure with` : ""}`],
  ];
  if (tokens) entries.push(["Longest example", `${tokens.max} tokens; half have up to ${tokens.p50}`]);
  if (memory) entries.push(["Memory at its peak, about", bytes(memory.total_bytes)]);
  return entries;
}
