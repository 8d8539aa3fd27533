// The audit page's program: copying, pinning components of the drawing, finding and walking prompts, light and dark.
// Everything is in the page already; nothing here makes markup from text.

const byId = (id) => document.getElementById(id);

let fading;

function say(text) {
  clearTimeout(fading);
  byId("said").textContent = text;
  fading = setTimeout(() => (byId("said").textContent = ""), 2500);
}

// Copying

async function copy(id) {
  const source = byId(id);
  try {
    await navigator.clipboard.writeText(source.textContent);
    say("Copied.");
  } catch {
    getSelection().selectAllChildren(source); // without a clipboard: chosen, ready for Ctrl-C
    source.scrollIntoView({ block: "center" });
    say("Press Ctrl-C to copy what is chosen.");
  }
}

for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button.dataset.copy));

// The drawing

const nodes = [...document.querySelectorAll("#drawing .node")];

function pin(name) {
  const pinned = byId("drawing").dataset.pinned === name ? "" : name;
  byId("drawing").dataset.pinned = pinned;
  for (const node of nodes) node.setAttribute("aria-pressed", String(node.dataset.node === pinned));
  const near = new Set([pinned]);
  for (const edge of document.querySelectorAll("#drawing .edge")) {
    const touched = [edge.dataset.source, edge.dataset.target].includes(pinned);
    edge.classList.toggle("near", touched);
    if (touched) near.add(edge.dataset.source).add(edge.dataset.target);
  }
  for (const node of nodes) node.classList.toggle("far", pinned !== "" && !near.has(node.dataset.node));
  for (const block of document.querySelectorAll("#pins .pin")) block.hidden = block.id !== `pin-${pinned}`;
}

function step(from, key) {
  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[key];
  if (by) nodes[(nodes.indexOf(from) + by + nodes.length) % nodes.length].focus();
  return Boolean(by);
}

for (const node of nodes) {
  node.addEventListener("click", () => pin(node.dataset.node));
  node.addEventListener("keydown", (event) => {
    const chosen = event.key === "Enter" || event.key === " ";
    if (chosen) pin(node.dataset.node);
    if (chosen || step(node, event.key)) event.preventDefault();
  });
}

for (const button of document.querySelectorAll("[data-follow]")) {
  const node = nodes.find((one) => one.dataset.node === button.dataset.follow);
  button.disabled = !node; // not drawn
  button.addEventListener("click", () => {
    pin(node.dataset.node);
    node.focus();
  });
}

// Prompts

const list = byId("prompt-list");
const prompts = [...list.children];
const ORDERS = {
  place: (one) => Number(one.dataset.place),
  total: (one) => -Math.abs(Number(one.dataset.total)),
  repair: (one) => -Number(one.dataset.repair),
};

byId("order").addEventListener("change", (event) => {
  const order = ORDERS[event.target.value];
  list.append(...prompts.toSorted((one, other) => order(one) - order(other)));
});

byId("find").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const prompt of prompts) prompt.hidden = !prompt.textContent.toLowerCase().includes(wanted);
  say(`${prompts.filter((one) => !one.hidden).length} prompts`);
});

function walk(by) {
  const visible = [...list.children].filter((one) => !one.hidden);
  if (!visible.length) return;
  const from = visible.findIndex((one) => one.open);
  const next = visible[from < 0 ? 0 : Math.min(Math.max(from + by, 0), visible.length - 1)];
  for (const one of visible) one.open = one === next;
  next.querySelector("summary").focus();
  next.scrollIntoView({ block: "nearest" });
}

function opened() {
  const target = /^#prompt-\d+$/.test(location.hash) && byId(location.hash.slice(1));
  if (!target) return;
  target.open = true;
  target.scrollIntoView();
}

addEventListener("hashchange", opened);
opened();

// Light and dark, and keys

const dark = () =>
  document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
const drawTheme = () => (byId("theme").textContent = dark() ? "☀" : "☾");
byId("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  drawTheme();
});
drawTheme();

addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || event.metaKey || event.ctrlKey || event.altKey;
  if (typing) return;
  if (event.key === "[" || event.key === "]") walk(event.key === "]" ? 1 : -1);
  if (event.key === "/") {
    event.preventDefault();
    byId("find").focus();
  }
  if (event.key === "Escape" && byId("drawing").dataset.pinned) pin(byId("drawing").dataset.pinned);
});
document.documentElement.dataset.ready = "yes";
