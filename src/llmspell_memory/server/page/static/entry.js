/* One entry: what it says, what was said around it, what is near it in meaning, and all that is kept with it. */

import { ask, caller, onlyEntry } from "./api.js";
import { confirmed, el, entryAddress, fill, heading, note, say, sessionAddress } from "./dom.js";
import { number, when } from "./format.js";

const NEAR = 8;

/** Show the entry that the address names. */
export async function show(root, parameters, signal) {
  const wanted = { id: parameters.get("id") ?? "", namespace: parameters.getAll("namespace") };
  const query = { id: wanted.id, namespace: wanted.namespace, below: "false", expired: "any", vectors: "true", limit: 1 };
  const [{ entries: [entry] }, who] = await Promise.all([ask("GET", "/v1/entries", { query, signal }), caller()]);
  if (signal.aborted) return;
  if (!entry) return void fill(root, heading("Entry"), note("There is no such entry any more."));
  const around = el("section", { "aria-labelledby": "around-title", class: "card" });
  const near = el("section", { "aria-labelledby": "near-title", class: "card" });
  fill(root,
    heading("Entry"),
    el("article", { class: "card entry" },
      el("p", { class: "meta" }, el("span", { class: "role" }, entry.role),
        el("a", { href: sessionAddress(entry), dir: "auto" }, entry.session_id),
        el("time", { datetime: entry.timestamp }, when(entry.timestamp))),
      el("p", { class: "content", dir: "auto" }, entry.content),
      who.writes ? actions(entry) : null),
    el("div", { class: "columns" }, near, el("div", { class: "stack" }, around, kept(entry))));
  await Promise.all([showNear(near, entry, who, signal), showAround(around, entry, who, signal)]);
}

function actions(entry) {
  const button = (name, options, act) => el("button", {
    type: "button", class: "danger",
    click: async (event) => {
      if (!(await confirmed({ ...options, danger: true }))) return;
      await done(event.target.closest("article"), act);
    },
  }, name);
  const where = onlyEntry(entry);
  return el("p", { class: "actions" },
    button("Delete", {
      title: "Delete this entry?", yes: "Delete it",
      told: "Searches find it no more. Traces may stay in the file until it is tidied up.",
    }, async () => {
      const { deleted } = await ask("POST", "/v1/delete", { body: { where } });
      return deleted ? "The entry is deleted." : "It was not there any more.";
    }),
    button("Forget", {
      title: "Forget this entry?", yes: "Forget it",
      told: "It is erased without a trace: its text, its vector, and what was kept of them.",
    }, async () => {
      const receipt = await ask("POST", "/v1/forget", { body: { where } });
      return `Erased: ${number(receipt.entries)} entry, ${when(receipt.finished)}.`;
    }));
}

/** Do what was confirmed, and say so in the place of what is gone. */
async function done(card, act) {
  try {
    const told = await act();
    fill(card.closest(".view"), heading("Entry"), note(told), el("p", {}, el("a", { href: "#/search" }, "Back to the search")));
    document.querySelector("h1")?.focus();
    say(told);
  } catch (error) {
    card.append(note(error.message, "error"));
  }
}

async function showNear(place, entry, who, signal) {
  fill(place, el("h2", { id: "near-title" }, "Nearest in meaning"));
  const body = { vector: entry.embedding, k: Math.min(NEAR + 1, who.limits.k) };
  const { hits } = await ask("POST", "/v1/search", { body, signal });
  if (signal.aborted) return;
  const others = hits.filter(({ entry: { id, namespace } }) =>
    id !== entry.id || namespace.join("\0") !== entry.namespace.join("\0")).slice(0, NEAR);
  place.append(others.length
    ? el("ol", { class: "near" }, others.map((hit) => {
        const meter = el("span", { class: "meter", "aria-hidden": "true" });
        meter.style.setProperty("--share", String(Math.max(0, Math.min(1, hit.score))));
        return el("li", {}, el("a", { href: entryAddress(hit.entry), dir: "auto", class: "clamp" }, hit.entry.content),
          el("p", { class: "meta" }, meter, el("span", {}, `similarity ${hit.score.toFixed(3)}`),
            el("span", { dir: "auto" }, hit.entry.session_id)));
      }))
    : note("There is nothing beside it."));
}

async function showAround(place, entry, who, signal) {
  fill(place, el("h2", { id: "around-title" }, "In its session"));
  const common = { session_id: entry.session_id, namespace: entry.namespace, below: "false", limit: Math.min(4, who.limits.batch) };
  const [before, after] = await Promise.all([
    ask("GET", "/v1/entries", { query: { ...common, until: entry.timestamp, newest: "true" }, signal }),
    ask("GET", "/v1/entries", { query: { ...common, since: entry.timestamp }, signal }),
  ]);
  if (signal.aborted) return;
  const turns = new Map([...before.entries, entry, ...after.entries].map((one) => [one.id, one]));
  const ordered = [...turns.values()].sort((one, other) => compare(one, other));
  place.append(el("ol", { class: "turns" }, ordered.map((one) => el("li", one.id === entry.id ? { "aria-current": "true" } : {},
    el("span", { class: "role" }, one.role), " ",
    one.id === entry.id ? el("span", { dir: "auto", class: "clamp" }, one.content)
      : el("a", { href: entryAddress(one), dir: "auto", class: "clamp" }, one.content)))));
}

/** Order as the memory does, by moment and id; moments compare as texts to the microsecond. */
function compare(one, other) {
  const [left, right] = [[one.timestamp, one.id], [other.timestamp, other.id]];
  return left < right ? -1 : left > right ? 1 : 0;
}

function kept(entry) {
  const rows = [
    ["Id", entry.id], ["Namespace", entry.namespace.join(" / ") || "—"], ["Happened", entry.timestamp],
    ["Learned", entry.ingestion_time], ["Processed", entry.processed ? "yes" : "no"], ["Expires", entry.expires_at ?? "never"],
  ];
  const metadata = Object.entries(entry.metadata);
  return el("section", { "aria-labelledby": "kept-title", class: "card" },
    el("h2", { id: "kept-title" }, "Kept with it"),
    el("dl", { class: "facts" }, rows.map(([name, value]) => [el("dt", {}, name), el("dd", { dir: "auto" }, value)])),
    el("h3", {}, "Metadata"),
    metadata.length
      ? el("dl", { class: "facts" }, metadata.map(([name, value]) => [el("dt", { dir: "auto" }, name),
          el("dd", { dir: "auto" }, typeof value === "string" ? value : JSON.stringify(value, null, 1))]))
      : el("p", { class: "hint" }, "none"));
}
