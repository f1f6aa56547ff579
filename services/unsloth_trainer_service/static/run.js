// A job that is shown: its events as they come, and what they add up to.

import { done, evaluated, stepped } from "./dashboard_words.js";
import { jobPath } from "./inference.js";
import { thin } from "./thin.js";

const MOST_MESSAGES = 300;
const MOST_POINTS = 2000; // of a curve; a chart has fewer pixels from left to right
const MOST_SAMPLES = 200; // rounds of questions
export const FINAL = new Set(["succeeded", "failed", "cancelled", "interrupted"]);
const EVENT_TYPES = ["init", "status", "progress", "sample", "stage", "log", "complete", "error"];

export class Run {
  #source = null;
  #last = 0; // id of the newest event: none is taken twice
  #state = ""; // of the job, as the events have it
  #starts = 0;

  /** `changed()` is called after each event, `record(job?)` where the job's record is another. */
  constructor(id, changed, record) {
    this.id = id;
    this.changed = changed;
    this.record = record;
    this.stopping = false; // asked to, and still at work
    this.now = {}; // the newest numbers
    this.phase = "";
    this.thinned = false; // whether steps are missing that a chart could not show
    this.messages = [];
    this.train = { steps: [], loss: [], rate: [], norm: [], memory: [], gpu: [] };
    this.samples = new Map(); // step -> [{prompt, answer}, …], answered by the model as it was then
    this.held = { steps: [], loss: [] }; // of the held-out examples
  }

  /** Listen, unless somebody does or nothing more can come; `job` is the record, if it is known. */
  listen(job) {
    const listening = this.#source && this.#source.readyState !== EventSource.CLOSED;
    if (!listening && !this.#complete(job)) this.#open();
  }

  close() {
    this.#source?.close();
    this.#source = null;
  }

  #complete(job) {
    return job && FINAL.has(job.status) && FINAL.has(this.#state) && job.attempt === this.#starts;
  }

  #open() {
    this.close();
    const since = { after: this.#last, points: MOST_POINTS };
    const source = new EventSource(jobPath(this.id, `/events?${new URLSearchParams(since)}`));
    this.#source = source;
    for (const type of EVENT_TYPES) {
      source.addEventListener(type, (event) => {
        if (this.#source !== source) return;
        // The job's own "error" has data; the connection's has none.
        if (event.data === undefined) this.#disconnected();
        else if (type === "init") this.record(JSON.parse(event.data));
        else this.#take(type, Number(event.lastEventId), JSON.parse(event.data));
        this.changed();
      });
    }
  }

  /** The browser connects again by itself, but a stream that came to its end needs it no more. */
  #disconnected() {
    const refused = this.#source.readyState === EventSource.CLOSED;
    if (refused || FINAL.has(this.#state)) this.close();
    if (refused) this.record();
  }

  #take(type, id, data) {
    if (id <= this.#last) return;
    this.thinned ||= id > this.#last + 1;
    this.#last = id;
    if (data.data) this.now = { ...this.now, data: data.data }; // what became of its rows
    if (type === "progress") this.#step(data);
    else if (type === "status") this.#status(data);
    else if (type === "sample") this.#sample(data);
    else if (type === "complete") this.#note("DONE", done(data));
    else this.#note(type === "error" ? "ERROR" : (data.level ?? "INFO"), data.message ?? type);
  }

  /** Another state of the job, or another phase of its work. */
  #status({ state, phase, message }) {
    this.#note("STATE", message ?? state ?? phase);
    if (state) {
      this.#state = state;
      this.#starts += state === "running";
      this.phase = "";
      this.stopping = false;
      this.record();
    } else {
      this.phase = String(message ?? phase);
    }
  }

  #step(numbers) {
    this.now = { ...this.now, ...numbers };
    const { step, loss, eval_loss: heldLoss, learning_rate: rate, grad_norm: norm } = numbers;
    rewind(this.held, step);
    if (typeof heldLoss === "number") {
      this.held.steps.push(step);
      this.held.loss.push(heldLoss);
      this.#bound(this.held);
      this.#note("EVAL", evaluated(heldLoss));
      return;
    }
    rewind(this.train, step);
    this.train.steps.push(step);
    this.train.loss.push(loss ?? null);
    this.train.rate.push(rate ?? null);
    this.train.norm.push(norm ?? null);
    this.train.memory.push(gib(numbers.memory_bytes));
    this.train.gpu.push(gib(numbers.gpu_memory_bytes));
    this.#bound(this.train);
    this.#note("STEP", stepped(numbers));
  }

  /** A page may be open for weeks: what it holds does not grow with the events. */
  #bound(curve) {
    if (curve.steps.length <= 2 * MOST_POINTS) return;
    thin(curve, MOST_POINTS);
    this.thinned = true;
  }

  #sample({ step, samples }) {
    this.samples.set(step, samples);
    if (this.samples.size > MOST_SAMPLES) this.samples.delete(this.samples.keys().next().value);
  }

  #note(level, text) {
    const shout = String(level).toUpperCase();
    this.messages.push({ id: this.#last, level: shout, text: String(text), step: this.now.step });
    if (this.messages.length <= 4 * MOST_MESSAGES) return;
    const isStep = ({ level: of }) => of === "STEP"; // these alone would push out all others
    const steps = new Set(this.messages.filter(isStep).slice(-MOST_MESSAGES));
    const notes = new Set(this.messages.filter((one) => !isStep(one)).slice(-MOST_MESSAGES));
    this.messages = this.messages.filter((one) => steps.has(one) || notes.has(one));
  }

  /** The newest messages, with or without one for each step. */
  recent(withSteps) {
    const wanted = this.messages.filter(({ level }) => withSteps || level !== "STEP");
    return wanted.slice(-MOST_MESSAGES);
  }
}

function gib(bytes) {
  return typeof bytes === "number" ? bytes / 2 ** 30 : null;
}

/** Forget what a curve has from a step on: a job that is resumed does some steps again. */
function rewind(curve, step) {
  while (curve.steps.length && curve.steps.at(-1) >= step) {
    for (const column of Object.values(curve)) column.pop();
  }
}
