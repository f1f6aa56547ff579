// The list of jobs: a card for each.

import { setText } from "../assets/pages/words.js";
import { comparison, nameOf, stepsOf, summary, timesOf, whenOf } from "./dashboard_words.js";
import { COLORS } from "./state.js";
import { setStatus } from "./status.js";

const NARROW = "(max-width: 899px)"; // the details stand below the list

const $ = (id) => document.getElementById(id);

export class JobList {
  #state;
  #cards = new Map(); // id -> list item

  constructor(state) {
    this.#state = state;
  }

  draw() {
    const { jobs, loaded } = this.#state;
    const [list, all, focused] = [$("job-list"), this.#state.inOrder(), document.activeElement];
    this.#forget(jobs);
    all.forEach((job, index) => {
      const card = this.#cards.get(job.job_id) ?? this.#newCard(job.job_id);
      const there = list.children[index];
      if (there !== card) list.insertBefore(card, there ?? null);
      this.#fill(card, job);
    });
    if (focused !== document.activeElement) focused.focus(); // it was moved
    const count = (status) => [...jobs.values()].filter((job) => job.status === status).length;
    setText($("summary"), jobs.size ? summary(count("running"), count("queued")) : "");
    $("jobs").hidden = !all.length;
    $("empty").hidden = Boolean(all.length) || !loaded;
  }

  #forget(jobs) {
    for (const [id, card] of this.#cards) {
      if (jobs.has(id)) continue;
      card.remove();
      this.#cards.delete(id);
    }
  }

  #newCard(id) {
    const card = $("job-card").content.firstElementChild.cloneNode(true);
    card.dataset.job = id;
    card.querySelector(".pick").addEventListener("click", () => {
      this.#state.choose(id);
      if (matchMedia(NARROW).matches) $("details").scrollIntoView();
    });
    const box = card.querySelector("input");
    box.addEventListener("change", () => this.#state.compare(id, box.checked));
    this.#cards.set(id, card);
    return card;
  }

  #fill(card, job) {
    const { shown, runs } = this.#state;
    const part = (name) => card.querySelector(`.${name}`);
    card.className = `job ${job.status}`;
    setStatus(part("status"), job, runs.get(job.job_id)?.stopping);
    setText(part("when"), whenOf(job));
    part("when").title = timesOf(job);
    setText(part("name"), nameOf(job));
    setText(part("base"), job.request.model_name ?? job.job_id);
    setText(part("steps"), stepsOf(job.progress));
    part("track").firstElementChild.style.width = `${job.status === "succeeded" ? 100 : (job.progress.progress ?? 0)}%`;
    const place = shown.indexOf(job.job_id);
    part("pick").setAttribute("aria-current", String(place === 0));
    const box = card.querySelector("input");
    box.checked = place >= 0;
    box.disabled = place === 0 || (place < 0 && shown.length >= COLORS.length);
    box.setAttribute("aria-label", comparison(job));
    card.style.setProperty("--color", place >= 0 ? `var(${COLORS[place]})` : "");
  }
}
