// What the dashboard says in English, beside what stands in its template.

import { since } from "../assets/pages/api.js";
import { ago, duration, short } from "../assets/pages/words.js";

const STARTING = "starting";
const MARKS = { queued: "◷", running: "●", succeeded: "✓", failed: "✕", cancelled: "⊘", interrupted: "‖" };

export const LIVE = "live";
export const COPIED = "Copied";
export const CHARTS = { loss: "Loss", rate: "Learning rate", norm: "Gradient norm", memory: "Memory in GiB" };
export const CURVES = { train: "train", held: "eval", host: "host", gpu: "GPU" };
export const NO_STEPS = "no steps yet";
export const LAST_LOSS = "last loss";
export const EXPORT_ASKED = "asked for …";
export const STEP = "Step";

// --- a job -------------------------------------------------------------------------------------

export const nameOf = (job) => job.request.output_dir || job.job_id;
export const subtitleOf = (job) => `${job.request.model_name ?? ""} · ${job.job_id}`;
export const comparison = (job) => `Compare ${nameOf(job)}`;
export const summary = (running, queued) => `${running} running, ${queued} queued`;

export function statusOf({ status }, stopping) {
  return `${MARKS[status] ?? "?"} ${status === "running" && stopping ? "saving, then stopping" : status}`;
}

export function secondsOf(job) {
  if (!job.started_at) return null;
  return since(job.started_at) - (job.ended_at ? since(job.ended_at) : 0);
}

const placeOf = (job) => `no. ${job.position} in the queue`;

export function whenOf(job) {
  if (job.status === "queued") return job.position ? placeOf(job) : "";
  if (job.status === "running") return `for ${duration(secondsOf(job))}`;
  const past = ago(since(job.ended_at ?? job.created_at));
  return job.started_at ? `${past}, took ${duration(secondsOf(job))}` : past;
}

export function timesOf(job) {
  const times = [["Queued", job.created_at], ["started", job.started_at], ["ended", job.ended_at]];
  const known = times.filter(([, time]) => time);
  return known.map(([word, time]) => `${word} ${new Date(time).toLocaleString()}`).join(", ");
}

export function stepsOf({ step, total_steps: total, loss }) {
  const steps = step === undefined ? "no step yet" : `${step} / ${total ?? "?"}`;
  return loss === undefined ? steps : `${steps} · loss ${short(loss)}`;
}

/** The title of the window. */
export const titleOf = (job, percent) => `${job.status === "running" ? `${percent} %` : job.status} · ${nameOf(job)}`;

export const progressOf = (job, percent, phase) => `${percent} % · ${job.status === "running" ? phase || STARTING : whenOf(job)}`;

/** The numbers under the progress bar, by their names. */
export function numbersOf(job, now) {
  const running = job.status === "running";
  return [
    [STEP, now.step === undefined ? "–" : `${now.step} / ${now.total_steps ?? "?"}`],
    ["Epoch", now.epoch === undefined ? "–" : now.epoch.toFixed(2)],
    ["Loss", short(now.loss)],
    ["Eval loss", short(now.eval_loss)],
    ["Time left", running ? duration(now.eta_seconds) : "–"],
    ["Per step", now.step_time ? `${short(now.step_time)} s` : "–"],
    [running ? "Running for" : "Took", duration(secondsOf(job))],
    ["Attempt", String(job.attempt || "–")],
  ];
}

/** What happens to a job that somebody cancels. */
export function cancelling(job) {
  const what = job.status === "running" ? "finishes its step, saves and stops" : "will not go on";
  return `${nameOf(job)} ${what}. It can be resumed later.`;
}

export const failed = (job, why) => `${nameOf(job)}: ${why}`;

// --- its charts --------------------------------------------------------------------------------

export const atStep = (step) => (step === undefined ? "" : `step ${step}`);

/** A chart for those who do not see it. */
export const chartOf = (title, points, newest) => [title, `${points} points`, ...newest].join(", ");

// --- its messages ------------------------------------------------------------------------------

export const done = ({ model = "" }) => `the tuned model ${model} is ready`;
export const evaluated = (loss) => `loss ${short(loss)} on the held-out examples`;

export function stepped({ loss, learning_rate: rate, step_time: seconds }) {
  return `loss ${short(loss)}, learning rate ${short(rate)}, ${short(seconds)} s`;
}

// --- its model ---------------------------------------------------------------------------------

export const unlisted = (why) => `Its files cannot be listed: ${why}`;
export const rated = ({ up, down }) => (up || down ? `Rated answers: ${up} good, ${down} bad` : "");
export const exported = (size) => `Ready (${size}): `;

/** How it is with an export, once it was asked for. */
export function exportOf(job) {
  if (!job) return "";
  if (job.status === "running") return job.stop ? "stops" : (job.progress.phase ?? STARTING);
  if (job.status === "queued") return `Waits for its turn${job.position ? `, ${placeOf(job)}` : ""}`;
  if (job.status === "interrupted") return "Interrupted; it goes on when it is resumed";
  return job.reason ?? job.status;
}

// --- its model's answers -----------------------------------------------------------------------

export const THINKING = "thinking …";
export const STOPPED = "stopped";
export const BROKEN_OFF = "the stream broke off";
export const NO_ANSWER = "(nothing)"; // of a model that was asked as it learnt
export const answered = (end) => `${end.completion_tokens} tokens, ended by ${end.finish_reason}`;
export const noAnswer = (why) => `No answer: ${why}`;

// --- a command ---------------------------------------------------------------------------------

/** The command that starts a run at this address. */
export const command = (url) => `curl -X POST "${url}" \\
     -H "Content-Type: application/json" \\
     -d '{"dataset_name": "my_data.jsonl", "model_name": "SmolLM2-135M-Instruct", "max_steps": 60}'`;
