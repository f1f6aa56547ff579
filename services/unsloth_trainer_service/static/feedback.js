// What people thought of the answers of a run's model.

import { api } from "../assets/pages/api.js";
import { setText } from "../assets/pages/words.js";
import { rated } from "./dashboard_words.js";
import { jobPath } from "./inference.js";

const AGAIN_MS = 10_000;

/** Write the counts, and ask for them anew after a while. */
export async function drawFeedback(node, jobId) {
  const now = Date.now();
  if (node.dataset.job !== jobId) setText(node, "");
  else if (now - Number(node.dataset.at) < AGAIN_MS) return;
  Object.assign(node.dataset, { job: jobId, at: now });
  const counts = await api(jobPath(jobId, "/feedback")).catch(() => null);
  if (counts && node.dataset.job === jobId) setText(node, rated(counts));
}
