/* Search as it is typed: hits with their scores, and what each part of the search had in them. */

import { ask, caller } from "./api.js";
import { address, el, entryAddress, fill, heading, note, say, sessionAddress } from "./dom.js";
import { several, when } from "./format.js";

const PAUSE = 180;
const HITS = 20;
const MODES = [
  ["hybrid", "By everything"],
  ["semantic", "By meaning"],
  ["keyword", "By words"],
];
const PARTS = {
  semantic: "meaning", keyword: "words", neighbours: "turns beside", session: "session", role: "who", time: "when", worth: "substance",
};

/** Show the field and what it finds. */
export async function show(root, parameters, signal) {
  const query = el("input", {
    id: "query", name: "q", type: "search", autocomplete: "off", spellcheck: "false", enterkeyhint: "search",
    placeholder: "What are you looking for?", "aria-describedby": "search-keys",
  });
  query.value = parameters.get("q") ?? "";
  const mode = el("select", { id: "mode" }, MODES.map(([value, name]) => el("option", { value }, name)));
  mode.value = MODES.some(([value]) => value === parameters.get("mode")) ? parameters.get("mode") : "hybrid";
  const session = el("input", { id: "session", type: "text", autocomplete: "off", spellcheck: "false", placeholder: "any" });
  session.value = parameters.get("session") ?? "";
  const results = el("section", { "aria-label": "Results", "aria-busy": "false" });
  const state = { query, mode, session, results, signal, latest: null, timer: null };
  const soon = () => {
    clearTimeout(state.timer);
    state.timer = setTimeout(() => find(state), PAUSE);
  };
  const form = el("form", { role: "search", class: "search", submit: (event) => { event.preventDefault(); find(state); } },
    el("div", { class: "field grow" }, el("label", { for: "query" }, "Search the memory"), query),
    el("div", { class: "field" }, el("label", { for: "mode" }, "How"), mode),
    el("div", { class: "field" }, el("label", { for: "session" }, "In session"), session),
  );
  query.addEventListener("input", soon);
  session.addEventListener("input", soon);
  mode.addEventListener("change", () => find(state));
  root.addEventListener("keydown", (event) => step(event, root));
  fill(root, heading("Search"), form,
    el("p", { class: "hint", id: "search-keys" },
      el("kbd", {}, "/"), " to search, ", el("kbd", {}, "↓"), " ", el("kbd", {}, "↑"), " through what is found, ",
      el("kbd", {}, "Enter"), " to open it"),
    results);
  signal.addEventListener("abort", () => { clearTimeout(state.timer); state.latest?.abort(); });
  if (matchMedia("(hover: hover)").matches) query.focus({ preventScroll: true });
  await find(state);
}

/** Move between the field and the hits by the arrow keys. */
function step(event, root) {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  if (event.target instanceof HTMLSelectElement) return;
  const stops = [root.querySelector("#query"), ...root.querySelectorAll(".hit h2 a")];
  const here = stops.indexOf(document.activeElement);
  if (here < 0) return;
  const next = stops[here + (event.key === "ArrowDown" ? 1 : -1)];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

async function find(state) {
  clearTimeout(state.timer);
  state.latest?.abort();
  const latest = (state.latest = new AbortController());
  const text = state.query.value.trim();
  const session = state.session.value.trim();
  const kept = { q: text, mode: state.mode.value === "hybrid" ? null : state.mode.value, session };
  history.replaceState(null, "", address("search", kept));
  state.results.setAttribute("aria-busy", "true");
  try {
    const where = session ? { session_id: session } : {};
    if (text) await showHits(state, text, where, latest.signal);
    else await showLatest(state, where, latest.signal);
  } catch (error) {
    if (latest.signal.aborted) return;
    fill(state.results, note(error.message, "error"));
  }
  state.results.setAttribute("aria-busy", "false");
}

async function showHits(state, text, where, signal) {
  const { limits } = await caller();
  const began = performance.now();
  const body = { query: text, k: Math.min(HITS, limits.k), where, mode: state.mode.value, parts: true };
  const { hits } = await ask("POST", "/v1/search", { body, signal });
  if (signal.aborted) return;
  const took = `${Math.max(1, Math.round(performance.now() - began))} ms`;
  say(hits.length ? `${hits.length} found` : "nothing found");
  if (!hits.length) return void fill(state.results, note("Nothing was found. Try other words, or another way to search."));
  const best = Math.max(...hits.map((hit) => Math.abs(hit.score)), 1e-9);
  fill(state.results, el("p", { class: "hint" }, `${hits.length} found in ${took}`),
    el("ol", { class: "hits" }, hits.map((hit) => found(hit, best))));
}

async function showLatest(state, where, signal) {
  const { limits } = await caller();
  const query = { newest: "true", limit: Math.min(HITS, limits.batch), ...where };
  const { entries } = await ask("GET", "/v1/entries", { query, signal });
  if (signal.aborted) return;
  if (!entries.length) {
    const told = where.session_id ? "There is no such session." : "The memory is empty. ";
    return void fill(state.results, el("p", { class: "note" }, told,
      where.session_id ? null : el("a", { href: "#/import" }, "Import a file")));
  }
  fill(state.results, el("p", { class: "hint" }, "Latest entries"),
    el("ol", { class: "hits" }, entries.map((entry) => found({ entry, score: null }, 1))));
}

/** Return a hit: what it says first, then where it is from, and why it was found. */
function found(hit, best) {
  const { entry, score } = hit;
  return el("li", {}, el("article", { class: "hit" },
    el("h2", {}, el("a", { href: entryAddress(entry), dir: "auto" }, entry.content)),
    el("p", { class: "meta" },
      el("span", { class: "role" }, entry.role),
      el("a", { href: sessionAddress(entry), dir: "auto" }, entry.session_id),
      el("time", { datetime: entry.timestamp }, when(entry.timestamp)),
      entry.namespace.length ? el("span", { dir: "auto" }, entry.namespace.join(" / ")) : null),
    score === null ? null : scored(score, best, hit.parts ?? {})));
}

/** Return the score as a bar that is made of its parts, and the same in words. */
function scored(score, best, parts) {
  const told = Object.entries(parts).filter(([, part]) => part.share > 0);
  const length = Math.max(0, score) / best;
  const whole = told.reduce((sum, [, part]) => sum + part.share, 0);
  const bar = el("div", { class: "bar", "aria-hidden": "true" });
  for (const [name, part] of told.length ? told : [["semantic", { share: 1 }]]) {
    const piece = el("span", { class: `part part-${Object.hasOwn(PARTS, name) ? name : "other"}` });
    piece.style.setProperty("width", `${(100 * length * part.share) / (told.length ? whole : 1)}%`);
    bar.append(piece);
  }
  return el("div", { class: "scored" },
    el("p", { class: "score" }, el("span", { class: "visually-hidden" }, "Score "), score.toFixed(3)), bar,
    told.length
      ? el("ul", { class: "parts", "aria-label": "Parts of the score" }, told.map(([name, part]) =>
          el("li", {}, el("span", { class: `dot part-${Object.hasOwn(PARTS, name) ? name : "other"}`, "aria-hidden": "true" }),
            `${PARTS[name] ?? name} ${part.share.toFixed(2)}`,
            part.rank === null ? null : el("span", { class: "rank" }, `no. ${part.rank}`))))
      : null);
}
