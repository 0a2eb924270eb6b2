/* The trade that ef_search makes, measured on this memory; the slider shows it, and sets nothing that is not confirmed. */

import { ask, caller } from "./api.js";
import { chart, room } from "./charts.js";
import { confirmed, el, fill, heading, note, say } from "./dom.js";
import { duration, number, percent } from "./format.js";

/** Show how to measure the curve, and then the curve. */
export async function show(root, parameters, signal) {
  const who = await caller();
  if (signal.aborted) return;
  if (!who.writes || !who.whole) {
    return void fill(root, heading("Tuning"), note("Tuning is of the whole store: it needs an API key that may write to it, without a namespace."));
  }
  const target = el("select", { id: "target" }, ["0.9", "0.95", "0.98", "0.99"].map((value) =>
    el("option", { value, selected: value === "0.95" }, percent(Number(value), 0))));
  const place = el("div", { class: "stack", "aria-busy": "false" });
  const button = el("button", { type: "button", class: "primary", click: () => measure(place, target.value, button, signal) }, "Measure the curve");
  fill(root, heading("Tuning"),
    el("p", { class: "hint" }, "More candidates (", el("code", {}, "ef_search"), ") find more of the best and take longer. ",
      "Measuring searches this memory with several values, beside an exact search; it takes seconds, and changes nothing."),
    el("div", { class: "card" },
      el("div", { class: "actions aligned" },
        el("div", { class: "field" }, el("label", { for: "target" }, "Share of the best that is wanted"), target), button)),
    place);
}

async function measure(place, target, button, signal) {
  button.disabled = true;
  place.setAttribute("aria-busy", "true");
  fill(place, note("Measuring…"));
  say("Measuring");
  try {
    const curve = await ask("POST", "/v1/tuning/curve", { body: { target_recall: Number(target) }, signal });
    drawCurve(place, curve, signal);
  } catch (error) {
    if (!signal.aborted) fill(place, note(error.message, "error"));
  }
  place.setAttribute("aria-busy", "false");
  button.disabled = false;
}

function drawCurve(place, curve, signal) {
  const { points } = curve;
  const verdict = el("p", { class: "note" }, curve.verdict[0].toUpperCase() + curve.verdict.slice(1));
  if (curve.few || !points.length) return void fill(place, verdict);
  const state = { now: curve.hnsw.ef_search };
  const shown = () => points[Number(slider.value)];
  const slider = el("input", { type: "range", id: "ef", min: 0, max: points.length - 1, step: 1, input: () => draw() });
  slider.value = String(Math.max(0, points.findIndex((one) => one.ef_search === state.now)));
  const [charts, trade, told] = [el("div", { class: "stack" }), el("dl", { class: "trade" }), el("div", {})];
  const set = el("button", { type: "button", class: "primary", click: () => apply(shown(), state, told, draw) });
  const draw = () => {
    const one = shown();
    const present = points.find((other) => other.ef_search === state.now) ?? one;
    slider.setAttribute("aria-valuetext", `${one.ef_search}: recall ${percent(one.recall)}, 95th percentile ${duration(one.p95_us)}`);
    fill(trade, facts(one, present, curve.k).map(([name, value, more]) =>
      el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, value, el("small", {}, more)))));
    set.textContent = one.ef_search === state.now ? `${one.ef_search} is in force` : `Set ef_search to ${one.ef_search}…`;
    set.disabled = one.ef_search === state.now;
    drawCharts(charts, curve, one.ef_search);
  };
  const card = el("section", { class: "card", "aria-labelledby": "trade-title" },
    el("h2", { id: "trade-title" }, "The trade"),
    el("label", { for: "ef" }, "Candidates of a search, ef_search"), slider, trade, el("p", { class: "actions" }, set), told);
  fill(place, el("div", { class: "columns" }, el("div", { class: "stack" }, card, verdict), charts),
    el("p", { class: "hint" }, `Measured on ${number(curve.entries)} vectors with ${curve.meaning}, in ${curve.seconds.toFixed(1)} s. `,
      "Times are of the index alone, on one thread."));
  draw();
  say(curve.verdict);
  const watcher = new ResizeObserver(() => drawCharts(charts, curve, shown().ef_search));
  watcher.observe(place);
  signal.addEventListener("abort", () => watcher.disconnect());
}

function facts(one, present, k) {
  const against = (value, base) => (one === present ? "as now" : `${value >= base ? "+" : "−"}${Math.abs(100 * (value / base - 1)).toFixed(0)} % against now`);
  const points = 100 * (one.recall - present.recall);
  return [
    ["ef_search", number(one.ef_search), one === present ? "in force" : `now ${number(present.ef_search)}`],
    [`Recall at ${k}`, percent(one.recall), one === present ? "as now" : `${points >= 0 ? "+" : "−"}${Math.abs(points).toFixed(1)} points`],
    ["Median", duration(one.p50_us), against(one.p50_us, present.p50_us)],
    ["95th percentile", duration(one.p95_us), against(one.p95_us, present.p95_us)],
  ];
}

function drawCharts(place, { points }, mark) {
  const x = { from: points[0].ef_search, to: points.at(-1).ef_search, format: number, log: true };
  const low = Math.max(0, Math.floor(20 * Math.min(...points.map((one) => one.low)) - 0.01) / 20);
  const most = Math.max(...points.map((one) => one.p95_us));
  const last = points.at(-1);
  const cards = [["Recall", "found-title"], ["Time of a search", "spent-title"]].map(([name, id]) =>
    el("section", { class: "card", "aria-labelledby": id }, el("h2", { id }, name)));
  fill(place, cards);
  const width = room(cards[0]);
  cards[0].append(chart({
    title: "Recall by ef_search", told: `from ${percent(points[0].recall)} at ${points[0].ef_search} to ${percent(last.recall)} at ${last.ef_search}`,
    series: [{ name: "recall, with its 95 % interval", points: points.map((one) => [one.ef_search, one.recall]), band: points.map((one) => [one.ef_search, one.low, one.high]) }],
    x, y: { from: low, to: 1, format: (share) => percent(share, low > 0.9 ? 1 : 0) }, mark, width,
  }));
  cards[1].append(chart({
    title: "Time by ef_search", told: `95th percentile from ${duration(points[0].p95_us)} to ${duration(last.p95_us)}`,
    series: [{ name: "p50", points: points.map((one) => [one.ef_search, one.p50_us]) }, { name: "p95", points: points.map((one) => [one.ef_search, one.p95_us]) }],
    x, y: { from: 0, to: most * 1.08, format: duration }, mark, width,
  }));
}

async function apply(one, state, place, draw) {
  const sure = await confirmed({
    title: `Set ef_search to ${one.ef_search}?`, yes: "Set it",
    told: `All searches of this server use it from now on: recall ${percent(one.recall)}, 95th percentile ${duration(one.p95_us)}. It was ${state.now}.`,
  });
  if (!sure) return;
  try {
    const { hnsw } = await ask("POST", "/v1/tuning/ef-search", { body: { ef_search: one.ef_search } });
    state.now = hnsw.ef_search;
    draw();
    fill(place, note(`ef_search is ${hnsw.ef_search} now.`));
    say(`ef_search is ${hnsw.ef_search} now`);
  } catch (error) {
    fill(place, note(error.message, "error"));
  }
}
