// The forms of a run's model beside its adapter: which are there, which are being made, and how far
// that is. Each is a row of the page's list, with its name in data-export.

import { api } from "../assets/pages/api.js";
import { bytes, element, setText } from "../assets/pages/words.js";
import { EXPORT_ASKED, exportOf, exported } from "./dashboard_words.js";
import { jobPath } from "./inference.js";

const UNDER_WAY = new Set(["queued", "running", "interrupted"]);

/** Whether a job is the export of a run's model, and no run of its own. */
export const isExport = (job) => Boolean(job.request.run_id);

export class Exports {
  #list;
  #told = new Map(); // run and form -> what became of the last wish, until a job tells more
  #run = null;
  #jobs = [];

  /** `changed()` is called when the service was asked for something. */
  constructor(list, changed) {
    this.#list = list;
    list.addEventListener("click", async ({ target }) => {
      const row = target.closest("[data-export]");
      if (!row || target.localName !== "button") return;
      await this.#ask(row.dataset.export, target.name);
      changed();
    });
  }

  /** Show how it is with the run's exports; `jobs` are all that are known, `files` those of the run. */
  draw(run, jobs, files) {
    this.#run = run;
    this.#jobs = jobs.filter((job) => job.request.run_id === run.job_id);
    for (const row of this.#list.querySelectorAll("[data-export]")) {
      const form = row.dataset.export;
      const made = files.filter(({ kind }) => kind === form);
      this.#fill(row, made, made.length ? null : this.#newest(form));
    }
  }

  /** How many exports of a run were made: with each there are further files. */
  made(runId, jobs) {
    return jobs.filter((job) => job.request.run_id === runId && job.status === "succeeded").length;
  }

  #newest(form) {
    const mine = this.#jobs.filter((job) => job.request.exports.includes(form));
    return mine.sort((a, b) => (a.created_at < b.created_at ? 1 : -1))[0];
  }

  #fill(row, made, job) {
    const under = job && UNDER_WAY.has(job.status);
    const running = under && job.status === "running";
    const part = (name) => row.querySelector(`[name="${name}"]`);
    part("make").hidden = Boolean(made.length || under);
    part("resume").hidden = !(under && job.status === "interrupted");
    part("stop").hidden = !under;
    part("stop").disabled = Boolean(running && job.stop);
    const bar = row.querySelector("progress");
    bar.hidden = !running;
    bar.value = job?.progress.progress ?? 0;
    const told = this.#told.get(this.#key(row.dataset.export));
    const state = row.querySelector(".state");
    state.classList.toggle("failed", Boolean(told?.refused || job?.status === "failed"));
    if (made.length) this.#link(state, made);
    else {
      delete state.dataset.shape;
      setText(state, told?.text ?? exportOf(job));
    }
  }

  #link(state, made) {
    const shape = made.map(({ url }) => url).join(" ");
    if (state.dataset.shape === shape) return;
    state.dataset.shape = shape;
    const size = bytes(made.reduce((sum, file) => sum + file.bytes, 0));
    const links = made.flatMap(({ name, url }) => {
      return [", ", element("a", name.slice(name.indexOf("/") + 1), { href: url.slice(1), download: "" })];
    });
    state.replaceChildren(exported(size), ...links.slice(1));
  }

  #key(form) {
    return `${this.#run.job_id} ${form}`;
  }

  async #ask(form, wish) {
    const [key, job] = [this.#key(form), this.#newest(form)];
    this.#told.set(key, { text: EXPORT_ASKED });
    try {
      if (wish === "make") await this.#make(form);
      else await api(jobPath(job.job_id, `/${wish === "stop" ? "cancel" : "resume"}`), { method: "POST" });
      this.#told.delete(key);
    } catch (error) {
      this.#told.set(key, { text: error.message, refused: true });
    }
  }

  async #make(form) {
    const path = `v1/models/${encodeURIComponent(this.#run.request.output_dir)}/export`;
    const headers = { "Content-Type": "application/json" };
    await api(path, { method: "POST", headers, body: JSON.stringify({ exports: [form] }) });
  }
}
