/* Numbers, moments and sizes as people read them. */

const count = new Intl.NumberFormat("en");
const moment = new Intl.DateTimeFormat("en-GB", {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit",
});
const day = new Intl.DateTimeFormat("en-GB", { year: "numeric", month: "short", day: "numeric" });

export const number = (value) => count.format(value);
export const when = (text) => moment.format(new Date(text));
export const date = (text) => day.format(new Date(text));
export const plural = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;
export const several = (value, one) => plural(value, one, one === "entry" ? "entries" : `${one}s`);
export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

export function bytes(value) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  while (value >= 1024 && place < units.length - 1) { value /= 1024; place += 1; }
  return place ? `${value.toFixed(1)} ${units[place]}` : `${value} bytes`;
}

/** Return microseconds in the unit that suits them. */
export function duration(us) {
  if (us === 0) return "0";
  if (us >= 1e6) return `${(us / 1e6).toFixed(2)} s`;
  if (us >= 1e3) return `${(us / 1e3).toFixed(us >= 1e5 ? 0 : 1)} ms`;
  return `${us.toFixed(us >= 100 ? 0 : 1)} µs`;
}

/** Return how long it is from one moment to another, roughly. */
export function span(from, to) {
  const seconds = Math.max(0, (new Date(to) - new Date(from)) / 1000);
  for (const [size, name] of [[86400 * 365, "year"], [86400, "day"], [3600, "hour"], [60, "minute"]]) {
    if (seconds >= size) return plural(Math.round(seconds / size), name);
  }
  return plural(Math.round(seconds), "second");
}
