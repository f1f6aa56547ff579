// The files of a run that has ended well, to be downloaded.

import { api } from "../assets/pages/api.js";
import { bytes, element } from "../assets/pages/words.js";
import { jobPath } from "./inference.js";

const KINDS = {
  adapter: "Adapter",
  archive: "All in one archive",
  gguf: "GGUF",
  log: "Log",
  manifest: "Manifest",
  merged_16bit: "Merged model",
  metrics: "Numbers of each step",
};

/** Fill a list with links, once for each run: a run's hashes may take a while. */
export async function drawFiles(list, jobId) {
  if (list.dataset.job === jobId) return;
  list.dataset.job = jobId;
  list.replaceChildren();
  const { files } = await api(jobPath(jobId, "/files")).catch((error) => {
    list.append(element("li", `Its files cannot be listed: ${error.message}`));
    return { files: [] };
  });
  if (list.dataset.job !== jobId) return; // another run was chosen meanwhile
  list.append(...files.map((file) => {
    const item = element("li");
    const link = element("a", file.name, { href: file.url.slice(1), download: "" });
    link.title = `SHA-256 ${file.sha256}`;
    item.append(link, element("span", `${KINDS[file.kind] ?? file.kind}, ${bytes(file.bytes)}`, { class: "note" }));
    return item;
  }));
  list.parentNode.hidden = !list.children.length;
}
