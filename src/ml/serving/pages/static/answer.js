// What a service answered, as somebody reads it: texts, tables of numbers, proofs.

import { api } from "./api.js";
import { element, setText, short } from "./words.js";

const MOST_ROWS = 100;
const MOST_COLUMNS = 24;
const MOST_HEX = 400;

/** Show an answer that is there as a whole. */
export function showAnswer(root, answer) {
  root.replaceChildren(...partsOf(answer), ...rawOf(answer));
}

/** Return what adds pieces of text as they come, and then ends the answer. */
export function showStream(root) {
  const text = element("p", "", { class: "text", "aria-live": "polite", "aria-busy": "true" });
  const node = document.createTextNode("");
  text.append(node);
  root.replaceChildren(text);
  return {
    add: (piece) => node.appendData(piece),
    end: () => {
      text.removeAttribute("aria-busy");
      root.append(copyRow(node.data, "answer.txt"));
    },
  };
}

/** Let a button copy what a function gives. */
export function copies(button, text) {
  button.addEventListener("click", async () => {
    const label = button.textContent;
    const copied = await navigator.clipboard?.writeText(text()).then(() => true, () => false);
    setText(button, copied ? "Copied" : "Select it and copy by hand");
    setTimeout(() => setText(button, label), 2000);
  });
}

function partsOf(answer) {
  if (typeof answer === "string") return [element("p", answer, { class: "text" }), copyRow(answer, "answer.txt")];
  if (isTensor(answer)) return [tableOf(answer), ...(answer.proof ? proofOf(answer.proof) : [])];
  if (isProved(answer)) {
    const proof = answer.calldata ? answer : answer.proof;
    // A service that answers with a proof alone has an address that checks it, too.
    return [...partsOf(answer.outputs), ...(proof?.calldata ? proofOf(proof, proof === answer) : [])];
  }
  if (Array.isArray(answer) && answer.length && answer.every(isTensor)) return answer.map(tableOf);
  if (isOfOutputs(answer)) return Object.entries(answer).flatMap(([name, value]) => [element("h3", name), ...partOf(value)]);
  return [element("pre", JSON.stringify(answer, null, 2), { class: "code", tabindex: 0 })];
}

function rawOf(answer) {
  if (typeof answer === "string") return [];
  const text = JSON.stringify(answer, null, 2);
  const details = element("details");
  details.append(element("summary", "The answer as JSON"), element("pre", text, { class: "code", tabindex: 0 }));
  return [copyRow(text, "answer.json"), ...(isPlain(answer) ? [] : [details])];
}

const isTensor = (value) => Array.isArray(value?.shape) && "dtype" in value && "values" in value;
const isOfOutputs = (answer) => answer !== null && typeof answer === "object" && Object.values(answer).some(isTensor);
const isProved = (answer) => answer?.outputs !== undefined && Boolean(answer.calldata || answer.proof);
const isPlain = (answer) => !isTensor(answer) && !isProved(answer) && !isOfOutputs(answer);

/** One of several outputs: numbers, or texts, which are in no tensor. */
function partOf(value) {
  if (isTensor(value)) return [tableOf(value)];
  const isTexts = Array.isArray(value) && value.every((one) => typeof one === "string");
  return [element("p", isTexts ? value.join(", ") : JSON.stringify(value), { class: "text" })];
}

/** Return what columns, and what whole numbers, are called; `labels` are of either. */
function namesOf({ dtype, shape, labels }) {
  if (!labels) return {};
  const isWhole = /^(u?int|short|long)/.test(dtype);
  if (shape.length === 2 && shape[1] === labels.length) return { heads: labels };
  return isWhole ? { named: (value) => labels[value] } : {};
}

function tableOf({ dtype, shape, values, labels }) {
  const size = shape.length ? shape.join(" × ") : "one number";
  const scroll = element("div", "", { class: "scroll", tabindex: 0 });
  if (shape.length > 2 || dtype.startsWith("c")) {
    scroll.append(element("p", `${dtype}, ${size}`, { class: "note" }), element("pre", JSON.stringify(values), { class: "code" }));
    return scroll;
  }
  const rows = shape.length === 2 ? values : shape.length === 1 ? [values] : [[values]];
  const shown = rows.slice(0, MOST_ROWS).map((row) => row.slice(0, MOST_COLUMNS));
  const isCut = shown.length < rows.length || shown[0]?.length < rows[0]?.length;
  const table = element("table");
  table.append(element("caption", `${dtype}, ${size}${isCut ? "; the beginning of it" : ""}`));
  const { heads, named } = namesOf({ dtype, shape, labels });
  if (heads) table.append(rowOf(heads.slice(0, MOST_COLUMNS).map((head) => element("th", String(head), { scope: "col" }))));
  for (const row of shown) {
    table.append(rowOf(row.map((value) => {
      const text = typeof value === "number" ? short(value) : String(value);
      const name = named?.(value);
      return element("td", name === undefined ? text : `${name} (${text})`, { title: value });
    })));
  }
  scroll.append(table);
  return scroll;
}

function rowOf(cells) {
  const row = element("tr");
  row.append(...cells);
  return row;
}

function proofOf(proof, verifies = false) {
  const { artifact, calldata, public_values: shown, seconds } = proof;
  const parts = [element("h3", "Proof")];
  const made = seconds?.prove === undefined ? "" : `, made in ${short(seconds.prove)} s`;
  parts.push(element("p", `Of the artifact ${artifact}${made}. Whoever has the artifact's verifier can check it without the model.`, { class: "note" }));
  if (shown) {
    const signals = element("details");
    const told = { inputs: shown.inputs, outputs: shown.outputs, instances: shown.instances };
    signals.append(element("summary", "Public signals: what the proof tells everybody"), element("pre", JSON.stringify(told, null, 2), { class: "code", tabindex: 0 }));
    parts.push(signals);
  }
  const cut = calldata.length > MOST_HEX ? `${calldata.slice(0, MOST_HEX)}… (${(calldata.length - 2) / 2} bytes)` : calldata;
  const bytes = element("details");
  bytes.append(element("summary", "Calldata: what the verifier contract is called with"), element("pre", cut, { class: "code", tabindex: 0 }));
  parts.push(bytes, proofRow(proof, verifies));
  return parts;
}

function proofRow(proof, verifies) {
  const row = element("div", "", { class: "row" });
  const verify = element("button", "Verify the proof", { type: "button", class: "quiet" });
  const verdict = element("span", "", { class: "verdict", role: "status" });
  verify.addEventListener("click", async () => {
    verify.disabled = true;
    setText(verdict, "checking …");
    verdict.className = "verdict";
    try {
      const body = JSON.stringify({ artifact: proof.artifact, calldata: proof.calldata });
      const { valid, reason } = await api("verify", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      setText(verdict, valid ? "✓ The proof is valid" : `✗ The proof is not valid: ${reason}`);
      verdict.classList.add(valid ? "valid" : "refused");
    } catch (error) {
      setText(verdict, error.message);
      verdict.classList.add("refused");
    }
    verify.disabled = false;
  });
  const file = JSON.stringify(proof, null, 2);
  row.append(download("Download the proof", file, "proof.json"));
  if (verifies) row.append(verify, verdict);
  return row;
}

function copyRow(text, name) {
  const row = element("div", "", { class: "row" });
  const copy = element("button", "Copy", { type: "button", class: "quiet" });
  copies(copy, () => text);
  row.append(copy, download("Download", text, name));
  return row;
}

function download(label, text, name) {
  const button = element("button", label, { type: "button", class: "quiet" });
  button.addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([text]));
    element("a", "", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  });
  return button;
}
