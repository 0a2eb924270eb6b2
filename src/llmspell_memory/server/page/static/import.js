/* Import of a file that is dropped or chosen: looked at first, stored when that is confirmed. */

import { ask, caller } from "./api.js";
import { el, fill, heading, note, say } from "./dom.js";
import { bytes, number, several } from "./format.js";

const LOOKED_AT = 64 * 1024;
let dropped = null;

/** Take a file that was dropped, for the view to show. */
export function chooseFile(file) {
  dropped = file ?? null;
}

/** Show where to drop a file, and what is in the one that was. */
export async function show(root, parameters, signal) {
  const who = await caller();
  if (signal.aborted) return;
  if (!who.writes) return void fill(root, heading("Import"), note("This key may read alone; another one may import."));
  const place = el("div", { class: "stack" });
  const input = el("input", {
    type: "file", id: "file", accept: ".jsonl,.ndjson,.json,application/x-ndjson",
    change: () => { if (input.files[0]) look(place, input.files[0], who); },
  });
  fill(root, heading("Import"),
    el("p", { class: "hint" }, "A file in the library's format, as its export makes it: an entry a line, in JSON."),
    el("div", { class: "drop" }, el("p", { "aria-hidden": "true" }, "Drop a file anywhere, or"),
      el("label", { for: "file" }, "Choose a file to import"), input),
    place);
  if (dropped) {
    const file = dropped;
    dropped = null;
    await look(place, file, who);
  }
}

/** Show what a file is, and ask what to do with it. */
async function look(place, file, who) {
  if (file.size > who.limits.import_bytes) {
    return void fill(place, note(`${file.name} takes ${bytes(file.size)}; this server takes ${bytes(who.limits.import_bytes)} at once.`, "error"));
  }
  const head = (await file.slice(0, LOOKED_AT).text()).split("\n").filter((line) => line.trim());
  const lines = head.slice(0, 4).map((line) => read(line)).filter((one) => one && typeof one.content === "string").slice(0, 3);
  const skip = el("select", { id: "again" },
    el("option", { value: "keep" }, "Keep it as an entry of its own"), el("option", { value: "skip" }, "Skip it"));
  const button = el("button", { type: "button", class: "primary", click: () => store(place, file, skip.value, button) }, "Import it");
  fill(place, el("section", { class: "card choice", "aria-labelledby": "file-title" },
    el("h2", { id: "file-title", dir: "auto" }, `${file.name}, ${bytes(file.size)}`),
    lines.length
      ? el("ol", { class: "turns" }, lines.map((one) => el("li", {}, el("span", { class: "role" }, String(one.role ?? "?")), " ",
          el("span", { dir: "auto", class: "clamp" }, one.content))))
      : note("No entries can be seen at its beginning; the server will say what is wrong with it."),
    el("div", { class: "field" }, el("label", { for: "again" }, "What a session says again"), skip),
    el("p", { class: "actions" }, button)));
  button.focus();
}

function read(line) {
  try {
    const value = JSON.parse(line);
    return value !== null && typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

async function store(place, file, again, button) {
  button.disabled = true;
  button.textContent = "Importing…";
  say("Importing");
  try {
    const told = await ask("POST", "/v1/import", { file, query: { on_duplicate: again } });
    const words = `${several(told.new, "entry")} imported from ${file.name}: ${number(told.read)} read, ` +
      `${number(told.unchanged)} there already, ${number(told.skipped)} skipped, ${number(told.replaced)} replaced.`;
    fill(place, note(words), el("p", {}, el("a", { href: "#/sessions" }, "See the sessions")));
    say(words);
    place.querySelector("a").focus();
  } catch (error) {
    button.disabled = false;
    button.textContent = "Import it";
    place.querySelector(".note.error")?.remove();
    place.append(note(error.message, "error"));
  }
}
