/* Makes elements. What is shown goes in as text: nothing in this page reads HTML out of data. */

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

/** Return an element of HTML; functions among the attributes listen to the event of that name. */
export const el = (name, attributes = {}, ...children) =>
  filled(document.createElement(name), attributes, children);

/** Return an element of SVG. */
export const svg = (name, attributes = {}, ...children) =>
  filled(document.createElementNS(SVG, name), attributes, children);

/** Put children in the place of those that are there. */
export function fill(node, ...children) {
  node.replaceChildren();
  return filled(node, {}, children);
}

/** Tell a screen reader what has happened. */
export function say(text) {
  document.getElementById("status").textContent = text;
}

/** Return the heading of a view, which takes the focus when the view is shown. */
export const heading = (text, ...more) => el("h1", { tabindex: "-1", class: "view-title" }, text, ...more);

/** Return a note; of kind "error" it is told at once. */
export const note = (text, kind = "note") =>
  el("p", { class: kind === "error" ? "note error" : "note", role: kind === "error" ? "alert" : null }, text);

/** Return an address within the page. */
export function address(view, parameters = {}) {
  const told = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== null && one !== "") told.append(name, one);
  }
  const query = told.toString();
  return `#/${view}${query ? `?${query}` : ""}`;
}

export const entryAddress = (one) => address("entry", { id: one.id, namespace: one.namespace });
export const sessionAddress = (one) => address("session", { id: one.session_id, namespace: one.namespace });

/** Ask whether something is meant; true when it is confirmed. */
export function confirmed({ title, told, yes, danger = false }) {
  const dialog = document.getElementById("confirm-dialog");
  const [accept, refuse] = [document.getElementById("confirm-yes"), document.getElementById("confirm-no")];
  document.getElementById("confirm-title").textContent = title;
  document.getElementById("confirm-told").textContent = told;
  accept.textContent = yes;
  accept.classList.toggle("danger", danger);
  return new Promise((resolve) => {
    let answer = false;
    accept.onclick = () => { answer = true; dialog.close(); };
    refuse.onclick = () => dialog.close();
    dialog.onclose = () => resolve(answer);
    dialog.showModal();
    refuse.focus();
  });
}
