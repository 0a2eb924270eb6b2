/* Asks the server, with the API key where there is one. The key lies in this tab's sessionStorage and nowhere else. */

const KEPT = "llmspell-memory.key";
let asking = null;

/** An answer that was no success, as the server tells it (RFC 9457). */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const hasKey = () => sessionStorage.getItem(KEPT) !== null;
export const dropKey = () => sessionStorage.removeItem(KEPT);

/** Have the person give a key; many requests may wait for the one dialog. */
function askForKey(detail) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("key-dialog");
    const input = document.getElementById("key-input");
    const told = "This memory has API keys. Yours stays in this tab, and is gone when you close it.";
    document.getElementById("key-told").textContent = detail ? `${detail}. ${told}` : told;
    input.value = "";
    dialog.oncancel = (event) => event.preventDefault();
    dialog.onclose = () => { if (asking !== null) dialog.showModal(); }; // a browser lets a second Escape through
    document.getElementById("key-form").onsubmit = () => {
      sessionStorage.setItem(KEPT, input.value.trim());
      input.value = "";
      asking = null;
      known = null;
      resolve();
    };
    if (!dialog.open) dialog.showModal();
    input.focus();
  });
  return asking;
}

function target(path, query = {}) {
  const told = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") told.append(name, one);
    }
  }
  const text = told.toString();
  return text ? `${path}?${text}` : path;
}

/** Return what the server answers; `body` is sent as JSON, `file` as lines of it. */
export async function ask(method, path, { query, body, file, signal } = {}) {
  for (;;) {
    const headers = {};
    const key = sessionStorage.getItem(KEPT);
    if (key !== null) headers.Authorization = `Bearer ${key}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (file !== undefined) headers["Content-Type"] = "application/x-ndjson";
    let response;
    try {
      response = await fetch(target(path, query), {
        method, headers, signal, body: file ?? (body === undefined ? undefined : JSON.stringify(body)),
        credentials: "omit", cache: "no-store", redirect: "error",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, "the server does not answer; is it running?");
    }
    if (response.status === 401) {
      if (sessionStorage.getItem(KEPT) === key) await askForKey(key === null ? "" : "That key is not known");
      signal?.throwIfAborted();
      continue;
    }
    const told = await response.json().catch(() => null);
    if (!response.ok) throw new Problem(response.status, told?.detail ?? `the server answered ${response.status}`);
    return told;
  }
}

let known = null;

/** Return what the key may do, and the limits; asked once for each key. */
export function caller() {
  known ??= ask("GET", "/v1/caller").catch((error) => { known = null; throw error; });
  return known;
}

/** Ask anew who asks: another key is in use. */
export function forgetCaller() {
  known = null;
}

/** Return the conditions that mean this entry and no other, as a body's `where`. */
export const onlyEntry = (one) => ({ ids: [one.id], namespace: one.namespace, below: false, expired: "any" });

/** Return the conditions that mean this session. */
export const onlySession = (one) => ({
  session_id: one.session_id, namespace: one.namespace, below: false, expired: "any",
});
