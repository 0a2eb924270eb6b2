/* The frame: which view is shown, who asks, and files that are dropped anywhere. */

import { caller, dropKey, forgetCaller, hasKey } from "./api.js";
import { el, fill, note, say } from "./dom.js";
import { chooseFile, show as showImport } from "./import.js";
import { show as showEntry } from "./entry.js";
import { show as showHealth } from "./health.js";
import { show as showMap } from "./map.js";
import { show as showSearch } from "./search.js";
import { showOne as showSession, show as showSessions } from "./sessions.js";
import { show as showTuning } from "./tuning.js";

const VIEWS = {
  search: { title: "Search", show: showSearch },
  sessions: { title: "Sessions", show: showSessions },
  session: { title: "Session", show: showSession, within: "sessions" },
  entry: { title: "Entry", show: showEntry, within: "search" },
  map: { title: "Map", show: showMap },
  health: { title: "Health", show: showHealth },
  tuning: { title: "Tuning", show: showTuning },
  import: { title: "Import", show: showImport },
};
const main = document.getElementById("main");
let showing = new AbortController();
let first = true;

/** Show the view that the address names; what the one before still asks for is given up. */
async function route() {
  showing.abort();
  showing = new AbortController();
  const { signal } = showing;
  const [, name = "search", query = ""] = /^#\/([a-z]*)\??(.*)$/s.exec(location.hash) ?? [];
  const key = Object.hasOwn(VIEWS, name) ? name : "search";
  const view = VIEWS[key];
  document.title = `${view.title} · llmspell-memory`;
  for (const link of document.querySelectorAll("#nav a")) {
    const current = link.getAttribute("href") === `#/${view.within ?? key}`;
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const place = el("div", { class: `view view-${key}` });
  fill(main, place);
  say("");
  const move = !first;
  first = false;
  try {
    await who(signal);
    await view.show(place, new URLSearchParams(query), signal);
  } catch (error) {
    if (signal.aborted) return;
    place.append(note(error.message, "error"));
  }
  if (!signal.aborted && move && (document.activeElement === document.body || !main.contains(document.activeElement))) {
    (main.querySelector("h1") ?? main).focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

/** Tell who asks, and let them give the key back. */
async function who(signal) {
  const one = await caller();
  if (signal.aborted) return;
  const access = one.writes ? "reads and writes" : "reads";
  fill(
    document.getElementById("who"),
    hasKey()
      ? [
          el("span", {}, `this key ${access}`),
          el("button", {
            type: "button", class: "quiet",
            click: () => { dropKey(); forgetCaller(); fill(document.getElementById("who")); route(); },
          }, "Forget the key"),
        ]
      : null,
  );
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

document.addEventListener("keydown", (event) => {
  const writing = event.target instanceof Element && event.target.closest("input, textarea, select, dialog");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || writing) return;
  event.preventDefault();
  const field = document.getElementById("query");
  if (field) field.focus();
  else location.hash = "#/search";
});

const cover = document.getElementById("drop-cover");
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => { if (carriesFiles(event)) cover.hidden = false; });
addEventListener("dragover", (event) => { if (carriesFiles(event)) event.preventDefault(); });
addEventListener("dragleave", (event) => { if (event.relatedTarget === null) cover.hidden = true; });
addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  cover.hidden = true;
  chooseFile(event.dataTransfer.files[0]);
  if (location.hash.startsWith("#/import")) route();
  else location.hash = "#/import";
});

addEventListener("hashchange", route);
route();
