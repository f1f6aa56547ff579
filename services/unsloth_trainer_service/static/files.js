// The files of a run that has ended well, to be downloaded.

import { api } from "../assets/pages/api.js";
import { bytes, element } from "../assets/pages/words.js";
import { unlisted } from "./dashboard_words.js";
import { jobPath } from "./inference.js";

export const KINDS = {
  adapter: "Adapter",
  archive: "All in one archive",
  feedback: "Answers that were rated",
  gguf: "GGUF",
  gguf_f16: "GGUF, f16",
  gguf_q4_0: "GGUF, q4_0",
  gguf_q4_1: "GGUF, q4_1",
  gguf_q5_0: "GGUF, q5_0",
  gguf_q5_1: "GGUF, q5_1",
  gguf_q8_0: "GGUF, q8_0",
  log: "Log",
  manifest: "Manifest",
  merged_16bit: "Merged model",
  metrics: "Numbers of each step",
};

const known = new Map(); // job -> its files

/** Return the files of a run, as far as they were asked for. */
export const filesOf = (jobId) => known.get(jobId) ?? [];

/** Fill a list with links, once for each run and version: a run's hashes may take a while. */
export async function drawFiles(list, jobId, version, drawn) {
  const shape = `${jobId} ${version}`;
  if (list.dataset.shape === shape) return;
  list.dataset.shape = shape;
  list.replaceChildren();
  const { files } = await api(jobPath(jobId, "/files")).catch((error) => {
    list.append(element("li", unlisted(error.message)));
    return { files: [] };
  });
  if (list.dataset.shape !== shape) return; // another run was chosen meanwhile
  known.set(jobId, files);
  list.append(...fileItems(files));
  list.parentNode.hidden = !list.children.length;
  drawn();
}

/** Return an item for each file: a link to it, what it is, and its SHA-256, written out if wished. */
export function fileItems(files, { withHash = false } = {}) {
  return files.map(({ name, kind, bytes: size, sha256, url }) => {
    const item = element("li");
    const link = element("a", name, { href: url.slice(1), download: "" });
    link.title = `SHA-256 ${sha256}`;
    item.append(link, element("span", `${KINDS[kind] ?? kind}, ${bytes(size)}`, { class: "note" }));
    if (withHash) item.append(element("span", `SHA-256 ${sha256}`, { class: "hash" }));
    return item;
  });
}
