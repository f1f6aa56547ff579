// The status of a job, with its mark.

import { setText } from "../assets/pages/words.js";
import { statusOf } from "./dashboard_words.js";

/** Show the status of a job; `stopping` of one that was asked to. */
export function setStatus(node, job, stopping) {
  node.className = `status ${job.status}`;
  setText(node, statusOf(job, stopping));
}
