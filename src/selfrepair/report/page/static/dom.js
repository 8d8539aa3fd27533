// Elements, made from text and never from markup: what comes from data stays data.

const SVG = "http://www.w3.org/2000/svg";

export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style") styled(node, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

function styled(node, given) {
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.style[name] = value;
  }
}

// A token's visible text, broken where the token breaks the line.
export function inLines(text, breaks) {
  if (!breaks) return [text];
  return text.split("⏎").flatMap((part, at, all) => (at < all.length - 1 ? [`${part}⏎`, el("br")] : [part]));
}

// A number with its exact value beside what is shown of it.
export function number(value, text, attributes = {}) {
  return el("data", { value: Number.isFinite(value) ? String(value) : "", ...attributes }, text);
}

export function said(text) {
  document.getElementById("said").textContent = text;
}

const GAP = 12;

// The one tooltip: lines of text beside an element. Lines are strings or [label, value].
export function tip(anchor, lines) {
  const box = document.getElementById("tip");
  box.replaceChildren(
    ...lines.map((line) => (Array.isArray(line) ? el("div", { class: "pair" }, el("span", {}, line[0]), el("span", {}, line[1])) : el("div", {}, line))),
  );
  box.hidden = false;
  const at = anchor.getBoundingClientRect();
  const size = box.getBoundingClientRect();
  const left = Math.min(Math.max(8, at.left + at.width / 2 - size.width / 2), innerWidth - size.width - 8);
  const below = at.bottom + GAP + size.height < innerHeight;
  box.style.left = `${left}px`;
  box.style.top = `${below ? at.bottom + GAP : Math.max(8, at.top - GAP - size.height)}px`;
}

export function noTip() {
  document.getElementById("tip").hidden = true;
}

export function tipped(node, lines) {
  for (const kind of ["pointerenter", "focus"]) node.addEventListener(kind, () => tip(node, lines()));
  for (const kind of ["pointerleave", "blur"]) node.addEventListener(kind, noTip);
  return node;
}

// Arrow keys move within a group of which one member is in the tab order.
export function roving(group, members, step) {
  const select = (node, focus) => {
    for (const one of members) one.setAttribute("tabindex", one === node ? "0" : "-1");
    if (focus) node.focus();
  };
  if (members.length) select(members[0], false);
  group.addEventListener("keydown", (event) => {
    const from = members.indexOf(document.activeElement);
    const to = from < 0 ? undefined : step(from, event.key);
    if (to === undefined || !members[to]) return;
    event.preventDefault();
    select(members[to], true);
  });
  group.addEventListener("focusin", (event) => members.includes(event.target) && select(event.target, false));
}

export function nextFrame() {
  return new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
}
