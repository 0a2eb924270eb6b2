/* Line charts in SVG, drawn as wide as their place, each with its figures in words. */

import { el, svg } from "./dom.js";

const HEIGHT = 230;
const MARGIN = { left: 58, right: 14, top: 12, bottom: 30 };

/** Return round numbers from low to high, about so many. */
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) found.push(at);
  return found;
}

/** Return powers of two, and the places between where those are few. */
const doublings = (low, high) => {
  const found = [];
  for (let at = 2 ** Math.ceil(Math.log2(low)); at <= high * 1.001; at *= 2) found.push(at);
  return found.length > 1 ? found : [low, high];
};

/**
 * Return a figure with a chart.
 *
 * series: [{name, points: [[x, y]], band: [[x, low, high]]}]; x and y: {from, to, format, log}; told: the figures in words;
 * mark: an x that is marked; width: of its place, in pixels.
 */
export function chart({ title, told, series, x, y, mark = null, width }) {
  const [left, right] = [MARGIN.left, Math.max(260, width) - MARGIN.right];
  const [top, bottom] = [MARGIN.top, HEIGHT - MARGIN.bottom];
  const scale = x.log ? Math.log : (value) => value;
  const across = (scale(x.to) - scale(x.from)) || 1;
  const px = (value) => left + ((scale(value) - scale(x.from)) / across) * (right - left);
  const py = (value) => bottom - ((value - y.from) / (y.to - y.from || 1)) * (bottom - top);
  const path = (points) => points.map(([a, b], place) => `${place ? "L" : "M"}${px(a).toFixed(1)} ${py(b).toFixed(1)}`).join("");
  const parts = [];
  for (const at of ticks(y.from, y.to, 4)) {
    parts.push(svg("line", { class: "grid", x1: left, x2: right, y1: py(at), y2: py(at) }),
      svg("text", { x: left - 8, y: py(at) + 4, "text-anchor": "end" }, y.format(at)));
  }
  const marks = x.log ? doublings(x.from, x.to) : ticks(x.from, x.to, right - left < 420 ? 3 : 5);
  for (const at of marks) parts.push(svg("text", { x: px(at), y: HEIGHT - 10, "text-anchor": "middle" }, x.format(at)));
  series.forEach(({ points, band }, place) => {
    const kind = `s${place % 3}`;
    if (band?.length > 1) {
      const back = [...band].reverse().map(([a, low]) => `L${px(a).toFixed(1)} ${py(low).toFixed(1)}`).join("");
      parts.push(svg("path", { class: `band ${kind}`, d: `${path(band.map(([a, , high]) => [a, high]))}${back}Z` }));
    }
    if (points.length > 1) parts.push(svg("path", { class: `line ${kind}`, d: path(points) }));
    for (const [a, b] of points.length > 40 ? points.slice(-1) : points) {
      parts.push(svg("circle", { class: `spot ${kind}`, cx: px(a), cy: py(b), r: 3 }));
    }
  });
  if (mark !== null) parts.push(svg("line", { class: "mark", x1: px(mark), x2: px(mark), y1: top, y2: bottom }));
  return el("figure", { class: "chart" },
    svg("svg", { role: "img", "aria-label": `${title}: ${told}`, viewBox: `0 0 ${right + MARGIN.right} ${HEIGHT}` }, parts),
    el("ul", { class: "legend", "aria-hidden": "true" }, series.map(({ name }, place) =>
      el("li", { class: `s${place % 3}` }, el("span", { class: "dot" }), name))));
}

/** Return the width of what stands in an element, without its padding. */
export function room(element) {
  const style = getComputedStyle(element);
  return element.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
}
