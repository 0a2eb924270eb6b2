/* Sessions on one axis of time, and one of them from its first word to its last. */

import { ask, caller, onlySession } from "./api.js";
import { address, confirmed, el, entryAddress, fill, heading, note, say, sessionAddress, svg } from "./dom.js";
import { date, number, several, span, when } from "./format.js";

const ROWS = 200;
const GAP = 10 * 60 * 1000;

/** Show all sessions, those with the latest activity first. */
export async function show(root, parameters, signal) {
  const { sessions } = await ask("GET", "/v1/sessions", { signal });
  if (signal.aborted) return;
  if (!sessions.length) {
    return void fill(root, heading("Sessions"), el("p", { class: "note" }, "There are none yet. ", el("a", { href: "#/import" }, "Import a file")));
  }
  const list = el("ol", { class: "sessions" });
  const field = el("input", { type: "search", id: "session-filter", autocomplete: "off", spellcheck: "false" });
  const axis = [Math.min(...sessions.map((one) => Date.parse(one.first))), Math.max(...sessions.map((one) => Date.parse(one.last)))];
  const draw = () => {
    const text = field.value.trim().toLowerCase();
    const some = sessions.filter((one) => one.session_id.toLowerCase().includes(text));
    fill(list, some.slice(0, ROWS).map((one) => row(one, axis)));
    fill(told, some.length > ROWS ? `${number(ROWS)} of ${several(some.length, "session")}` : several(some.length, "session"),
      `, from ${date(axis[0])} to ${date(axis[1])}`);
    if (text) say(several(some.length, "session"));
  };
  const told = el("p", { class: "hint" });
  field.addEventListener("input", draw);
  fill(root, heading("Sessions"),
    el("div", { class: "field" }, el("label", { for: "session-filter" }, "Only those whose name has"), field), told, list);
  draw();
}

/** Return a session in one line: its name, its numbers, and where it lies in time. */
function row(one, [from, to]) {
  const length = Math.max(1, to - from);
  const at = (moment) => (1000 * (Date.parse(moment) - from)) / length;
  const left = Math.min(at(one.first), 994);
  const width = Math.max(6, at(one.last) - left);
  return el("li", { class: "session-row" },
    el("a", { href: sessionAddress(one), dir: "auto" }, one.session_id),
    el("p", { class: "meta" }, el("span", {}, several(one.entries, "entry")),
      one.unprocessed && one.unprocessed < one.entries ? el("span", {}, `${number(one.unprocessed)} unprocessed`) : null,
      el("span", {}, `${when(one.first)}, ${span(one.first, one.last)}`),
      one.namespace.length ? el("span", { dir: "auto" }, one.namespace.join(" / ")) : null),
    svg("svg", { class: "lane", viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "lane-track", x: 0, y: 4, width: 1000, height: 2 }),
      svg("rect", { class: "lane-bar", x: left, y: 1, width, height: 8, rx: 3 })));
}

/** Show one session as a timeline. */
export async function showOne(root, parameters, signal) {
  const session = { session_id: parameters.get("id") ?? "", namespace: parameters.getAll("namespace") };
  const who = await caller();
  const entries = [];
  const most = who.limits.batch;
  const query = { ...session, below: "false", limit: most };
  const found = await ask("GET", "/v1/entries", { query, signal });
  entries.push(...found.entries);
  if (signal.aborted) return;
  const title = heading("Session ", el("span", { dir: "auto", class: "name" }, session.session_id));
  if (!entries.length) return void fill(root, title, note("There is no such session any more."));
  fill(root, title,
    el("p", { class: "hint" }, entries.length === most ? `The first ${number(most)} entries` : several(entries.length, "entry"),
      `, ${when(entries[0].timestamp)}, over ${span(entries[0].timestamp, entries.at(-1).timestamp)}. `,
      el("a", { href: address("search", { session: session.session_id }) }, "Search in it")),
    el("ol", { class: "timeline" }, entries.map((one, place) => turn(one, entries[place - 1]))),
    who.writes ? actions(root, session) : null);
}

function turn(one, before) {
  const apart = before && Date.parse(one.timestamp) - Date.parse(before.timestamp) > GAP;
  return el("li", { class: `turn turn-${one.role === "user" ? "user" : "other"}` },
    apart ? el("p", { class: "gap" }, `${span(before.timestamp, one.timestamp)} later`) : null,
    el("article", {},
      el("p", { class: "meta" }, el("span", { class: "role" }, one.role), el("time", { datetime: one.timestamp }, when(one.timestamp)),
        one.processed ? el("span", {}, "processed") : null),
      el("p", { class: "content", dir: "auto" }, one.content),
      el("p", { class: "more" }, el("a", { href: entryAddress(one) }, "Neighbours and metadata",
        el("span", { class: "visually-hidden" }, ` of ${one.content.slice(0, 60)}`)))));
}

function actions(root, session) {
  const act = (name, title, told, path) => el("button", {
    type: "button", class: "danger",
    click: async () => {
      if (!(await confirmed({ title, told, yes: name, danger: true }))) return;
      try {
        const gone = await ask("POST", path, { body: { where: onlySession(session) } });
        const words = `${path === "/v1/forget" ? "Erased" : "Deleted"}: ${several(gone.deleted ?? gone.entries, "entry")}.`;
        fill(root, heading("Session"), note(words), el("p", {}, el("a", { href: "#/sessions" }, "Back to the sessions")));
        root.querySelector("h1").focus();
        say(words);
      } catch (error) {
        root.append(note(error.message, "error"));
      }
    },
  }, name);
  return el("p", { class: "actions" },
    act("Delete the session", "Delete this session?", `All entries of ${session.session_id} are deleted.`, "/v1/delete"),
    act("Forget the session", "Forget this session?",
      `All entries of ${session.session_id} are erased without a trace.`, "/v1/forget"));
}
