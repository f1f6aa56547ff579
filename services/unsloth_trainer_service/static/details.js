// The chosen job: its head, numbers, settings and, once that is there, its model.

import { dropped, setPairs, setText, written } from "../assets/pages/words.js";
import { nameOf, numbersOf, progressOf, subtitleOf, titleOf } from "./dashboard_words.js";
import { Exports } from "./exports.js";
import { drawFeedback } from "./feedback.js";
import { drawFiles, filesOf } from "./files.js";
import { FINAL } from "./run.js";
import { setStatus } from "./status.js";

const $ = (id) => document.getElementById(id);

export class Details {
  #state;
  #exports;

  constructor(state) {
    this.#state = state;
    this.#exports = new Exports($("exports"), state.outdated);
  }

  /** Draw a job and its run. */
  draw(job, run) {
    const now = { ...job.progress, ...run.now };
    const percent = job.status === "succeeded" ? 100 : Math.floor(now.progress ?? 0);
    document.title = titleOf(job, percent);
    this.#drawHead(job, run, percent);
    $("reason").hidden = !job.reason;
    $("reason").className = `reason ${job.status}`;
    setText($("reason"), job.reason ?? "");
    $("dropped").hidden = !now.data?.dropped;
    if (now.data?.dropped) setText($("dropped"), dropped(now.data));
    setPairs($("numbers"), numbersOf(job, now));
    const given = Object.entries(job.request).filter(([, value]) => value !== null);
    setPairs($("settings"), given.map(([name, value]) => [name, written(value)]));
    this.#drawResult(job);
  }

  #drawHead(job, run, percent) {
    setText($("name"), nameOf(job));
    setText($("subtitle"), subtitleOf(job));
    setStatus($("status"), job, run.stopping);
    $("cancel").hidden = FINAL.has(job.status) && job.status !== "interrupted";
    $("cancel").disabled = run.stopping;
    $("resume").hidden = !job.resumable;
    $("clone").href = `new?${new URLSearchParams({ from: job.job_id })}`;
    $("progress").value = percent;
    $("progress").className = job.status;
    setText($("phase"), progressOf(job, percent, run.phase));
  }

  #drawResult(job) {
    const model = job.status === "succeeded" ? (job.result?.model ?? nameOf(job)) : "";
    $("result").hidden = !model;
    setText($("model"), model);
    if (!model) return;
    const all = [...this.#state.jobs.values()];
    drawFiles($("files"), job.job_id, this.#exports.made(job.job_id, all), this.#state.changed);
    this.#exports.draw(job, all, filesOf(job.job_id));
    drawFeedback($("feedback"), job.job_id);
    if ($("chat")) $("chat").href = `chat?${new URLSearchParams({ model })}`;
  }
}
