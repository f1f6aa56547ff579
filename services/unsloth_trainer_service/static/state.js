// What the page knows: the jobs, those of them that are shown, and what their events tell. Those
// shown stand in the address, so that a reload or a link shows the same.

import { isExport } from "./exports.js";
import { FINAL, Run } from "./run.js";

/** Of the shown jobs, in their order; no more, also because a browser has six connections to a host. */
export const COLORS = ["--curve-1", "--curve-2", "--curve-3", "--curve-4", "--curve-5"];

export class State {
  jobs = new Map(); // id -> the newest record
  runs = new Map(); // id -> Run, of those that are shown
  loaded = false; // whether the list is here
  chosen = ""; // the job whose details are shown
  #others = []; // those that are compared with it

  /** `changed()` is called where something is to be drawn, `outdated()` where a record is an old one. */
  constructor(changed, outdated) {
    this.changed = changed;
    this.outdated = outdated;
  }

  /** The ids of those that are shown, the chosen one first. */
  get shown() {
    return this.chosen ? [this.chosen, ...this.#others] : [];
  }

  /** Those at work first, then the queue in its order, then the others, newest first: runs alone by default. */
  inOrder(wanted = (job) => !isExport(job)) {
    const rank = ({ status }) => (FINAL.has(status) ? 2 : status === "queued" ? 1 : 0);
    const newest = (a, b) => (a.created_at < b.created_at ? 1 : -1);
    const place = (a, b) => (a.position && b.position ? a.position - b.position : newest(a, b));
    return [...this.jobs.values()].filter(wanted).sort((a, b) => rank(a) - rank(b) || place(a, b));
  }

  keep(job) {
    this.jobs.set(job.job_id, { ...this.jobs.get(job.job_id), ...job });
    this.changed();
  }

  /**
   * Forget the oldest jobs beyond so many, or a page would grow for as long as it is open; return
   * whether there were any.
   */
  forgetOldest(most) {
    const isOver = ({ job_id: id, status }) => FINAL.has(status) && !this.shown.includes(id);
    const oldest = this.inOrder(isOver).slice(most);
    for (const { job_id: id } of oldest) this.jobs.delete(id);
    return oldest.length > 0;
  }

  /** Show the details of a job; one that was compared changes places with the one before. */
  choose(id) {
    this.show(id, this.#others.includes(id) ? this.shown : this.#others);
  }

  /** Compare a job with the chosen one, or do so no more. */
  compare(id, wanted) {
    const others = this.#others.filter((other) => other !== id);
    this.show(this.chosen, wanted ? [...others, id] : others);
  }

  /** Show a job no more. */
  leave(id) {
    this.show(this.chosen === id ? "" : this.chosen, this.#others.filter((other) => other !== id));
  }

  show(id, others) {
    this.chosen = id;
    this.#others = id ? [...new Set(others)].filter((other) => other !== id).slice(0, COLORS.length - 1) : [];
    const address = new URLSearchParams([["job", id], ...this.#others.map((other) => ["with", other])]);
    history.replaceState(null, "", id ? `#${address}` : "#");
    for (const [other, run] of this.runs) {
      if (this.shown.includes(other)) continue;
      run.close();
      this.runs.delete(other);
    }
    for (const one of this.shown) {
      if (!this.runs.has(one)) this.runs.set(one, this.#run(one));
    }
    this.listen();
    this.changed();
  }

  /** Show what the address names. */
  readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    this.show(given.get("job") ?? "", given.getAll("with"));
  }

  /** Events only while somebody looks: hidden pages would use up the browser's connections. */
  listen() {
    for (const run of this.runs.values()) document.hidden ? run.close() : run.listen(this.jobs.get(run.id));
  }

  #run(id) {
    return new Run(id, this.changed, (job) => (job ? this.keep(job) : this.outdated()));
  }
}
