// The page on which a run is started. What is typed stays in this tab until the run is queued.

import { api, failure, request } from "../assets/pages/api.js";
import { tell } from "../assets/pages/notice.js";
import { element, setPairs, setText } from "../assets/pages/words.js";
import { columnMap, drawColumns, fillColumns, isColumn, readFormats } from "./columns.js";
import { namesFields, said } from "./failures.js";
import { faultOf, faultsIn, fill, showFault, valueOf } from "./fields.js";
import { jobPath } from "./inference.js";
import * as words from "./new_run_words.js";
import { drawExpected, drawReport } from "./report.js";
import { upload } from "./upload.js";

const LOOK_MS = 700;
const AGAIN_MS = 2000;
const STORED = "trainer new run";

const $ = (id) => document.getElementById(id);
const form = $("run");
const all = (selector) => [...form.querySelectorAll(selector)];
const chosen = (name) => form.querySelector(`[name="${name}"]:checked`).value;
const isField = (name) => Boolean($(`fault-${name}`));

// --- the request -------------------------------------------------------------------------------

function requested() {
  const body = { model_name: $("model_here").value || $("model_other").value.trim(), ...data() };
  const map = columnMap();
  if (Object.keys(map).length) body.column_map = map;
  if ($("output_dir").value.trim()) body.output_dir = $("output_dir").value.trim();
  const steps = chosen("by") === "steps";
  body.max_steps = steps ? Number($("max_steps").value) : -1;
  if (!steps) body.num_train_epochs = Number($("num_train_epochs").value);
  for (const control of all("[data-kind]")) {
    const { name, dataset: { kind } } = control;
    if (name in body || name.includes(".") || name === "num_train_epochs") continue;
    const value = kind === "choices" ? picked(name) : valueOf(control);
    if (value !== undefined) body[name] = value;
  }
  return body;
}

function picked(name) {
  const values = all(`[name="${name}"]:checked`).map((box) => box.value);
  return values.length ? values : undefined;
}

function data() {
  const way = chosen("way");
  if (way !== "query") return { dataset_name: way === "file" ? $("dataset_file").value : $("dataset_hub").value.trim() };
  const fields = all('[name^="query_params."]').map((control) => [control.name.split(".")[1], valueOf(control)]);
  return { query_params: Object.fromEntries(fields.filter(([, value]) => value !== undefined)) };
}

/** What the data is called, of which an uploaded file's request has the id alone. */
const dataName = () => (chosen("way") === "file" ? $("dataset_file").selectedOptions[0].text : $("dataset_hub").value.trim());

const isShown = (control) => !control.closest("[hidden]");

/** [[field, fault], …] of what the page can tell by itself. */
function ownFaults() {
  return all("[data-kind]").filter(isShown).map((control) => [control.name, faultOf(control)]).filter(([, text]) => text);
}

function missing() {
  const { model_name: model, dataset_name: dataset } = requested();
  const faults = [];
  if (dataset === "") faults.push(["dataset_name", words.NEEDS.dataset_name]);
  if (!model) faults.push(["model_name", words.NEEDS.model_name]);
  return faults;
}

function showFaults(faults) {
  for (const place of all(".fault[id^=fault-]")) if (place.id !== "fault-upload") showFault(place.id.slice(6), "");
  const elsewhere = faults.filter(([name, text]) => !showFault(name, text)).map(([, text]) => text);
  setText($("fault"), elsewhere.join("; "));
  $("fault").hidden = !elsewhere.length;
}

function goToFault() {
  const first = all(".fault:not([hidden])")[0];
  first?.closest("details")?.setAttribute("open", "");
  const control = first && all(`[aria-describedby~="${first.id}"]`).filter(isShown).at(-1);
  (control ?? first)?.scrollIntoView({ block: "center" });
  control?.focus({ preventScroll: true });
}

// --- the look ----------------------------------------------------------------------------------

let next = 0;
let looking = null; // ends the look under way

function lookSoon(milliseconds = LOOK_MS) {
  clearTimeout(next);
  next = setTimeout(look, milliseconds);
}

function stopLooking() {
  clearTimeout(next);
  if (looking) setText($("look-state"), "");
  looking?.abort();
  looking = null;
}

async function look() {
  stopLooking();
  const faults = ownFaults();
  showFaults(faults);
  const body = requested();
  if (faults.length) return unlooked(words.UNLOOKED.faults);
  if (body.query_params) return unlooked(words.UNLOOKED.query, true);
  if (missing().length) return unlooked(words.UNLOOKED.missing, true);
  const mine = looking = new AbortController();
  setText($("look-state"), words.LOOKING);
  $("report").classList.add("old");
  try {
    const report = await validated(body, mine.signal);
    if (mine !== looking) return;
    $("report").classList.remove("old");
    drawReport(report);
    drawExpected(report);
    drawColumns(report);
    setText($("look-state"), words.readAs(dataName(), body.model_name));
  } catch (error) {
    if (mine !== looking) return;
    unlooked("", true);
    if (namesFields(error)) showFaults(faultsIn(error.message, isField));
    else setText($("look-state"), said(error));
  }
}

function unlooked(why, forget = false) {
  setText($("look-state"), why);
  if (!forget) return;
  $("report").hidden = $("refusal").hidden = true;
  setPairs($("expected"), []);
}

/** The report, also of data that is refused: that is a 422 which has one. */
async function validated(body, signal) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal };
  const response = await fetch("datasets/validate", options);
  const told = await response.json().catch(() => null);
  if (told && "refusal" in told) return told;
  throw failure(response.status, told);
}

// --- choices -----------------------------------------------------------------------------------

/** Choose a value; one that is not in the list is put there. */
function pick(select, value, label = value) {
  if (![...select.options].some((option) => option.value === value)) select.append(new Option(label, value));
  select.value = value;
}

function group(label, options) {
  const made = element("optgroup", "", { label });
  made.append(...options.map(([value, text]) => new Option(text, value)));
  return made;
}

async function readFiles() {
  const { files, uploads, whole } = await api("datasets");
  const select = $("dataset_file");
  if (uploads.length) select.append(group(words.GROUPS.uploads, uploads.map((one) => [one.id, words.uploadLabel(one)])));
  if (files.length) select.append(group(words.GROUPS.files, files.map((one) => [one.name, words.fileLabel(one)])));
  if (!whole) $("help-dataset_file").append(words.MORE_FILES);
}

async function readModels() {
  const { base, tuned } = await api("finetune/models");
  const select = $("model_here");
  const last = select.lastElementChild;
  if (base.length) last.before(group(words.GROUPS.base, base.map((name) => [name, name])));
  if (tuned.length) last.before(group(words.GROUPS.tuned, tuned.map((name) => [name, name])));
  select.selectedIndex = 0;
}

// --- the upload --------------------------------------------------------------------------------

let sending = null;

const most = Number(form.dataset.mostBytes);

function refused(file) {
  const endings = form.dataset.endings.split(" ");
  if (!endings.some((ending) => file.name.toLowerCase().endsWith(ending))) {
    return words.otherEnding(file, endings);
  }
  if (file.size > most) return words.tooLarge(file, most);
  return file.size ? "" : words.isEmpty(file);
}

async function sendChosen() {
  const [file] = $("upload").files;
  if (!file) return;
  const reason = refused(file);
  showFault("upload", reason);
  $("uploaded").hidden = true;
  if (reason) return;
  sending?.abort();
  const mine = sending = new AbortController();
  $("uploading").hidden = false;
  try {
    const entry = await upload(file, (share) => {
      if (mine !== sending) return;
      $("sent").value = 100 * share;
      setText($("sent-words"), words.sentShare(share, file.size));
    }, mine.signal);
    if (mine !== sending) return;
    pick($("dataset_file"), entry.id, words.uploadLabel(entry));
    setText($("uploaded"), words.uploaded(entry.filename));
    $("uploaded").hidden = false;
    changed(0);
  } catch (error) {
    const reason = error.status === 413 ? words.tooLarge(file, most) : error.status ? said(error) : error.message;
    if (mine === sending && error.name !== "AbortError") showFault("upload", reason);
  }
  if (mine !== sending) return;
  $("uploading").hidden = true;
  $("upload").value = ""; // the same file may be chosen again
}

$("upload").addEventListener("change", sendChosen);

// A browser asks whether to leave a page that does not want to be left now.
addEventListener("beforeunload", (event) => { if (!$("uploading").hidden) event.preventDefault(); });

$("stop-upload").addEventListener("click", () => sending?.abort());

// --- what is typed, which outlives a reload ----------------------------------------------------

const typed = () => all("[name]").filter((control) => !isColumn(control.name) && (control.type !== "radio" || control.checked));

function store() {
  const values = typed().map((control) => [
    control.type === "checkbox" && control.dataset.kind === "choices" ? `${control.name}=${control.value}` : control.name,
    control.type === "checkbox" ? control.checked : control.value,
  ]);
  sessionStorage.setItem(STORED, JSON.stringify({ ...Object.fromEntries(values), column_map: columnMap() }));
}

function restore() {
  const values = JSON.parse(sessionStorage.getItem(STORED) ?? "{}");
  for (const control of all("[name]")) {
    const { name, type, value } = control;
    if (type === "radio") control.checked = (values[name] ?? (control.defaultChecked && value)) === value;
    else if (type === "checkbox") {
      const kept = values[control.dataset.kind === "choices" ? `${name}=${value}` : name];
      if (kept !== undefined) control.checked = kept;
    } else if (name in values) {
      if (control.tagName === "SELECT") pick(control, values[name]);
      else control.value = values[name];
    }
  }
  fillColumns(values.column_map ?? {}, values.format);
}

/** Fill in what another run was asked for; its model has another name. */
function cloneOf(job) {
  const wished = job.request;
  for (const control of all("[data-kind]")) {
    const [first, second] = control.name.split(".");
    fill(control, second ? wished[first]?.[second] : wished[first]);
  }
  const way = wished.query_params ? "query" : "file";
  form.querySelector(`[name="way"][value="${way}"]`).checked = true;
  if (wished.dataset_name) pick($("dataset_file"), wished.dataset_name);
  if (wished.query_id) tell(words.queried(job.job_id, wished.query_id));
  pick($("model_here"), wished.model_name);
  const by = wished.max_steps > 0 ? "steps" : "epochs";
  form.querySelector(`[name="by"][value="${by}"]`).checked = true;
  if (by === "epochs") $("max_steps").value = $("max_steps").dataset.default;
  $("output_dir").value = wished.output_dir === job.job_id ? "" : following(wished.output_dir);
  fillColumns(wished.column_map ?? {});
}

/** The name after a name: houses, houses-2, houses-3. */
function following(name) {
  const [, stem, number] = name.replace(/^\.\//, "").match(/^(.*?)(?:-(\d{1,4}))?$/);
  return `${stem}-${Number(number ?? 1) + 1}`;
}

// --- the page ----------------------------------------------------------------------------------

function drawWays() {
  for (const part of all("[data-way]")) part.hidden = part.dataset.way !== chosen("way");
  for (const part of all("[data-by]")) part.hidden = part.dataset.by !== chosen("by");
  $("model-other").hidden = Boolean($("model_here").value);
}

function drawCurl() {
  const text = JSON.stringify(requested(), null, 2).replaceAll("'", "'\\''");
  setText($("curl"), `curl -X POST "${new URL("finetune", location.href)}" \\\n     -H "Content-Type: application/json" \\\n     -d '${text}'`);
}

function changed(milliseconds = LOOK_MS) {
  drawWays();
  drawCurl();
  store();
  lookSoon(milliseconds);
}

form.addEventListener("input", ({ target }) => {
  if (target.id === "upload") return;
  drawWays();
  drawCurl();
  store();
});
form.addEventListener("change", ({ target }) => { if (target.id !== "upload" && target.name !== "output_dir") changed(); });
$("look").addEventListener("click", () => lookSoon(0));
$("clear").addEventListener("click", () => {
  sessionStorage.removeItem(STORED);
  location.replace("new");
});
$("copy").hidden = !navigator.clipboard; // it is there on https and localhost alone
$("copy").addEventListener("click", () => {
  navigator.clipboard.writeText($("curl").textContent).then(() => setText($("copy"), words.COPIED), (error) => tell(error.message));
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const faults = [...missing(), ...ownFaults()];
  stopLooking();
  showFaults(faults);
  if (faults.length) return goToFault();
  $("start").disabled = true;
  setText($("start-state"), words.QUEUEING);
  const headers = { "Content-Type": "application/json" };
  try {
    const response = await request("finetune", { method: "POST", headers, body: JSON.stringify(requested()) });
    const { job_id: id } = await response.json();
    sessionStorage.removeItem(STORED);
    location.assign(`dashboard#${new URLSearchParams({ job: id })}`);
  } catch (error) {
    showFaults(namesFields(error) ? faultsIn(error.message, isField) : [["", `${said(error, words.UNSURE)} ${words.KEPT}`]]);
    goToFault();
  }
  setText($("start-state"), "");
  $("start").disabled = false;
});

/** Read a list, as often as it takes until the service answers. */
async function patiently(read) {
  for (;;) {
    try {
      return await read();
    } catch (error) {
      if (error.status && error.status !== 503) return tell(said(error));
      setText($("look-state"), said(error));
      await new Promise((go) => setTimeout(go, AGAIN_MS));
    }
  }
}

/** Choose a tuned model to be trained on, if it is still there. */
function chooseModel(name) {
  if ([...$("model_here").options].some((option) => option.value === name)) $("model_here").value = name;
  else tell(words.gone(name));
}

async function begin() {
  setText($("most-bytes"), words.upTo(most));
  const asked = new URLSearchParams(location.search);
  const [from, model] = [asked.get("from"), asked.get("model")];
  for (const list of [readFiles, readModels, readFormats]) await patiently(list);
  if (from) {
    await api(jobPath(from)).then(cloneOf, (error) => tell(`${from}: ${said(error)}`));
    history.replaceState(null, "", "new"); // a reload keeps what was changed since
  } else restore();
  if (model) {
    chooseModel(model);
    history.replaceState(null, "", "new");
  }
  form.inert = false; // until here, what is typed would be lost
  changed(0);
  sendChosen(); // a browser that reloads the page may still have a file chosen
}

begin();
