/* The memory on a map: near in meaning is near on it, as far as two dimensions can tell. */

import { ask, caller } from "./api.js";
import { room } from "./charts.js";
import { el, entryAddress, fill, heading, note, svg } from "./dom.js";
import { number, percent, when } from "./format.js";

const POINTS = 500;
const COLOURS = 8;
const EDGE = 18;

/** Show a sample of the entries, coloured by their sessions. */
export async function show(root, parameters, signal) {
  const { limits } = await caller();
  const found = await ask("GET", "/v1/map", { query: { limit: Math.min(POINTS, limits.batch) }, signal });
  if (signal.aborted) return;
  if (!found.points.length) return void fill(root, heading("Map"), note("The memory is empty: there is nothing to draw."));
  const colours = coloured(found.points);
  const place = el("div", { class: "map card" });
  const tip = el("p", { class: "tip", hidden: true });
  const shown = `${number(found.points.length)} of ${number(found.entries)} entries`;
  fill(root, heading("Map"),
    el("p", { class: "hint", id: "map-told" }, `${shown}. Near in meaning is near here, as far as a plane can show it: it keeps `,
      `${percent(found.kept, 0)} of what tells them apart. Arrow keys go from point to point, Enter opens one.`),
    place, legend(found.points, colours, place));
  const draw = () => {
    const active = place.contains(document.activeElement) ? document.activeElement.dataset.place : null;
    const points = drawn(found.points, colours, room(place), tip);
    fill(place, points, tip);
    tip.hidden = true;
    if (active !== null) points.querySelector(`[data-place="${active}"]`)?.focus();
  };
  let width = 0;
  const watcher = new ResizeObserver(() => {
    if (room(place) === width) return;
    width = room(place);
    draw();
  });
  watcher.observe(place);
  signal.addEventListener("abort", () => watcher.disconnect());
}

const sessionOf = (point) => JSON.stringify([point.namespace, point.session_id]);

/** Return a colour for each of the largest sessions, by what tells sessions apart. */
function coloured(points) {
  const counts = new Map();
  for (const point of points) counts.set(sessionOf(point), (counts.get(sessionOf(point)) ?? 0) + 1);
  const largest = [...counts].sort((one, other) => other[1] - one[1]).slice(0, COLOURS);
  return new Map(largest.map(([session], place) => [session, `c${place}`]));
}

function legend(points, colours, place) {
  const names = new Map(points.map((point) => [sessionOf(point), point.session_id]));
  const choose = (event, kind) => {
    const on = event.currentTarget.getAttribute("aria-pressed") !== "true";
    for (const one of event.currentTarget.closest("ul").querySelectorAll("button")) one.setAttribute("aria-pressed", "false");
    event.currentTarget.setAttribute("aria-pressed", String(on));
    place.classList.toggle("some", on);
    place.dataset.kind = on ? kind : "";
    for (const one of place.querySelectorAll("a")) one.classList.toggle("chosen", on && one.classList.contains(kind));
  };
  const one = (kind, name) => el("li", { class: kind }, el("button", { type: "button", "aria-pressed": "false", click: (event) => choose(event, kind) },
    el("span", { class: "dot", "aria-hidden": "true" }), el("span", { dir: "auto" }, name)));
  return el("ul", { class: "legend", "aria-label": "Show one session alone" },
    [...colours].map(([session, kind]) => one(kind, names.get(session))),
    names.size > colours.size ? one("c-rest", `${number(names.size - colours.size)} other sessions`) : null);
}

function drawn(points, colours, width, tip) {
  const height = Math.round(Math.max(300, Math.min(0.62 * width, 0.62 * innerHeight, 620)));
  const along = spread(points.map((point) => point.x), EDGE, width - EDGE);
  const down = spread(points.map((point) => -point.y), EDGE, height - EDGE);
  const at = points.map((_, place) => [along[place], down[place]]);
  const radius = width < 500 ? 4 : points.length > 300 ? 5 : 6;
  const marks = points.map((point, place) => {
    const kind = colours.get(sessionOf(point)) ?? "c-rest";
    const show = () => tell(tip, point, at[place], width);
    return svg("a", {
      href: entryAddress(point), class: kind, tabindex: place ? "-1" : "0", "data-place": place,
      "aria-label": `${point.text}, ${point.role} in ${point.session_id}`,
      focus: show, pointerenter: show, blur: () => { tip.hidden = true; }, pointerleave: () => { tip.hidden = true; },
    }, svg("circle", { class: "dot-point", cx: at[place][0].toFixed(1), cy: at[place][1].toFixed(1), r: radius }));
  });
  const move = (event) => step(event, marks, at);
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Map of entries", "aria-describedby": "map-told", keydown: move }, marks);
}

/** Return places between two edges, the least at one and the greatest at the other. */
function spread(values, from, to) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return values.map((value) => (high > low ? from + ((value - low) / (high - low)) * (to - from) : (from + to) / 2));
}

/** Go to the nearest point in the direction of an arrow key. */
function step(event, marks, at) {
  const towards = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const here = marks.indexOf(event.target.closest("a"));
  if (!towards || here < 0) return;
  event.preventDefault();
  let [best, nearest] = [-1, Infinity];
  at.forEach(([x, y], place) => {
    const [dx, dy] = [x - at[here][0], y - at[here][1]];
    const along = dx * towards[0] + dy * towards[1];
    const beside = Math.abs(dx * towards[1]) + Math.abs(dy * towards[0]);
    if (along > 0.5 && along + 2 * beside < nearest) [best, nearest] = [place, along + 2 * beside];
  });
  if (best < 0) return;
  marks[here].setAttribute("tabindex", "-1");
  marks[best].setAttribute("tabindex", "0");
  marks[best].focus();
}

function tell(tip, point, [x, y], width) {
  fill(tip, el("span", { dir: "auto" }, point.text.length > 140 ? `${point.text.slice(0, 140)}…` : point.text),
    el("small", { dir: "auto" }, `${point.role} · ${point.session_id} · ${when(point.timestamp)}`));
  tip.hidden = false;
  const left = Math.max(4, Math.min(x - tip.offsetWidth / 2 + 20, width - tip.offsetWidth + 20));
  tip.style.setProperty("left", `${left}px`);
  tip.style.setProperty("top", `${y + 34}px`);
}
