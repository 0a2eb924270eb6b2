/* How the memory does: what it holds, what its index costs, how long things take, and what share of the best it finds. */

import { ask } from "./api.js";
import { chart, room } from "./charts.js";
import { el, fill, heading, note } from "./dom.js";
import { bytes, duration, number, percent } from "./format.js";

const EVERY = 2000;
const KEPT = 150;
let history = [];

/** Show the figures, and go on until another view is shown. */
export async function show(root, parameters, signal) {
  history = [];
  const [state, tiles, times, recall, table] = [
    el("div", { "aria-live": "polite" }), el("dl", { class: "tiles" }),
    el("section", { class: "card", "aria-labelledby": "times-title" }), el("section", { class: "card", "aria-labelledby": "recall-title" }),
    el("section", { class: "card", "aria-labelledby": "table-title" }),
  ];
  fill(root, heading("Health"), state, tiles, el("div", { class: "columns" }, times, recall), table);
  const places = { state, tiles, times, recall, table, told: null };
  for (;;) {
    try {
      if (!document.hidden || !history.length) refresh(places, await ask("GET", "/v1/stats", { signal }));
    } catch (error) {
      if (signal.aborted || !history.length) throw error;
      tell(places, [error.message]);
    }
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, EVERY);
      signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
    });
    if (signal.aborted) return;
  }
}

function refresh(places, stats) {
  const { timings: { search }, recall } = stats;
  history.push({ at: performance.now() / 1000, search, recall });
  history = history.slice(-KEPT);
  tell(places, troubles(stats));
  fill(places.tiles, shown(stats).map(([name, value, more]) =>
    el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, value, more ? el("small", { dir: "auto" }, more) : null))));
  drawTimes(places.times, search);
  drawRecall(places.recall, recall, stats);
  drawTable(places.table, stats);
}

/** Return what somebody should look at, in words. */
function troubles(stats) {
  const found = [];
  if (stats.unfinished) found.push(`A ${stats.unfinished} was begun and not finished: entries may be missing.`);
  if (stats.index.built < 1) found.push(`The index is ${percent(stats.index.built, 0)} made; until then, searches compare all vectors.`);
  for (const [name, count] of Object.entries(stats.failures)) found.push(`${number(count)} calls of ${name} failed since the server was started.`);
  if (stats.recall && stats.recall.high < 0.9) found.push("The index finds less than nine of ten; raise ef_search under Tuning.");
  return found;
}

/** Say so when it has changed, and only then. */
function tell(places, found) {
  const text = found.join("\n");
  if (text === places.told) return;
  places.told = text;
  fill(places.state, found.length ? found.map((one) => el("p", { class: "note warn" }, one)) : el("p", { class: "note" }, "All is well."));
}

function shown(stats) {
  const { index, space } = stats;
  const asked = stats.cache_hits + stats.cache_misses;
  return [
    ["Entries", number(stats.entries), `${number(stats.unprocessed)} unprocessed`],
    ["Sessions", number(stats.sessions), stats.namespaces > 1 ? `in ${number(stats.namespaces)} namespaces` : null],
    ["Index", index.kind === "hnsw" ? "HNSW" : "Exact", `${number(index.size)} vectors${stats.lag ? `, ${number(stats.lag)} changes behind` : ""}`],
    ["In memory", bytes(stats.memory_bytes), `the index ${bytes(index.memory_bytes)}`],
    ["On disk", bytes(stats.disk_bytes), stats.rows === "ram" ? "kept in memory alone" : stats.rows],
    ["Embedding", number(space.dimensions), [space.provider, space.model].filter(Boolean).join(" · ")],
    ["Cache", asked ? percent(stats.cache_hits / asked, 0) : "—", "of texts found there"],
  ];
}

const range = (from) => ({ from: from[0].at, to: Math.max(from.at(-1).at, from[0].at + 20), format: (at) => ago(at, from) });
const ago = (at, from) => `${Math.round(at - from[0].at)} s`;

function drawTimes(place, search) {
  const title = el("h2", { id: "times-title" }, "How long searches take");
  const some = history.filter((one) => one.search);
  if (!search) return void fill(place, title, note("Nothing was searched since the server was started."));
  const series = ["p50", "p95", "p99"].map((name) => ({ name, points: some.map((one) => [one.at, one.search[name]]) }));
  const told = series.map(({ name }) => `${name} ${duration(search[name])}`).join(", ");
  const most = Math.max(...some.map((one) => one.search.p99));
  fill(place, title, el("p", { class: "hint" }, `${told}; of ${number(search.count)} searches since the server was started`),
    chart({ title: "Search latency", told, series, x: range(some), y: { from: 0, to: most * 1.1, format: duration }, width: room(place) }));
}

function drawRecall(place, recall, stats) {
  const title = el("h2", { id: "recall-title" }, "What share of the best is found");
  const exact = stats.backend !== "HNSW";
  const some = history.filter((one) => one.recall);
  if (!recall) {
    return void fill(place, title, note(exact ? "The search is exact: it finds all." : "Some of the searches are run again exactly and compared; none was so far."));
  }
  const told = `${percent(recall.recall)}, between ${percent(recall.low)} and ${percent(recall.high)} with 95 % confidence`;
  const low = Math.max(0, Math.floor(10 * Math.min(...some.map((one) => one.recall.low)) - 0.5) / 10);
  const series = [{
    name: "recall, with its 95 % interval", points: some.map((one) => [one.at, one.recall.recall]),
    band: some.map((one) => [one.at, one.recall.low, one.recall.high]),
  }];
  fill(place, title, el("p", { class: "hint" }, `${told}; from ${number(recall.comparisons)} searches that were run again exactly`),
    chart({ title: "Recall", told, series, x: range(some), y: { from: low, to: 1, format: (share) => percent(share, 0) }, width: room(place) }));
}

function drawTable(place, stats) {
  const rows = Object.entries(stats.timings);
  fill(place, el("h2", { id: "table-title" }, "All operations"),
    rows.length
      ? el("div", { class: "table-scroll" }, el("table", {},
          el("thead", {}, el("tr", {}, ["Operation", "Times", "p50", "p95", "p99", "Longest"].map((name, column) =>
            el("th", { scope: "col", class: column > 4 ? "wide" : null }, name)))),
          el("tbody", {}, rows.map(([name, one]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, number(one.count)),
            ["p50", "p95", "p99"].map((which) => el("td", {}, duration(one[which]))), el("td", { class: "wide" }, duration(one.max)))))))
      : note("Nothing was done since the server was started."));
}
