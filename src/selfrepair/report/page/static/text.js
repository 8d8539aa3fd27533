// Passages with each token coloured by what ablating one head did to its prediction.

import { el, inLines, roving, tipped } from "./dom.js";
import { headName, sentence, signed } from "./format.js";
import { diverging, fullScale, inkOn } from "./colours.js";
import { copyButton } from "./figure.js";
import { tokenLines } from "./ledger.js";
import { address, go, headNamed, leadingHead, views } from "./route.js";
import { loading } from "./card.js";

const COLOURED = { self_repair: "self-repair", direct_effect: "direct effect", total_effect: "total effect" };
const MOST = 40; // windows to choose from; those that were kept whole come first

views.push({
  name: "text",
  title: "Text",
  ofHead: true,
  show: textView,
  path: ({ layer, head }) => (layer === undefined ? "text" : `text/${headName(layer, head)}`),
  parse: ([name, of], run) => (name !== "text" ? undefined : of === undefined ? {} : headNamed(of, run)),
});

async function textView(given) {
  const { run, filter } = given;
  const place = given.layer === undefined ? { ...given, ...leadingHead(run, filter) } : given;
  const { layer, head } = place;
  const name = run.nameOf(layer, head);
  const quantity = place.quantity in COLOURED ? place.quantity : "self_repair";
  const [kept, whole, words, close] = await Promise.all([run.rowsOf(layer, head), run.passagesOf(layer, head), run.words(), run.closeupsOf(layer, head)]);
  const entire = passages(whole);
  const windows = [...new Set([...entire, ...passages(kept)])].slice(0, MOST);
  const asked = words.place(Number(place.passage));
  const window = windows.includes(asked) ? asked : windows[0];
  const rows = new Map([...kept, ...whole].filter((row) => row.window === window).map((row) => [row.position, row]));
  return [
    el("div", { class: "title" }, el("h1", {}, "Text"), el("span", { class: "badge" }, name)),
    controls(place, quantity, windows, window, words),
    window === undefined ? el("p", { class: "warning" }, `The run kept no tokens of this ${run.what}.`) : passage(place, quantity, window, rows, words, close, entire.includes(window)),
  ];
}

function passages(rows) {
  const counts = new Map();
  for (const row of rows) counts.set(row.window, (counts.get(row.window) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]).map(([window]) => window);
}

function controls(place, quantity, windows, window, words) {
  const { run } = place;
  const all = run.every.filter(({ layer, head }) => run.measured(0, layer, head));
  const option = (value, text, selected) => el("option", { value, selected }, text);
  const moved = (change) => (event) => go({ ...place, ...change(event.target.value) });
  return el(
    "div",
    { class: "controls" },
    el("label", {}, `${sentence(run.what)} `, el("select", { id: "text-head", onchange: moved((value) => ({ layer: Number(value.split(".")[0]), head: Number(value.split(".")[1]) })) }, all.map(({ layer, head }) => option(`${layer}.${head}`, run.nameOf(layer, head), layer === place.layer && head === place.head)))),
    el("label", {}, "Colour ", el("select", { id: "text-quantity", onchange: moved((value) => ({ quantity: value })) }, Object.entries(COLOURED).map(([name, title]) => option(name, title, name === quantity)))),
    el("label", {}, "Passage ", el("select", { id: "text-passage", onchange: moved((value) => ({ passage: value })) }, windows.map((one) => option(String(words.numbers[one]), `${words.numbers[one]} · ${words.document(one)}`, one === window)))),
    el("a", { class: "button", href: address({ ...place, view: "head", quantity: undefined }) }, `${run.nameOf(place.layer, place.head)} in numbers`),
  );
}

function passage(place, quantity, window, rows, words, close, whole) {
  const { run, layer, head } = place;
  const full = fullScale([...rows.values()].map((row) => row[quantity]));
  const tokens = [], links = [];
  for (let at = 0; at < words.lengths[window]; at++) {
    const row = rows.get(at - 1);
    const text = words.at(window, at);
    const node = row ? tokenLink(place, quantity, row, text, words, full, close) : el("bdi", { class: "token" }, inLines(text, words.isBreak(window, at)));
    if (row) {
      links.push(node);
      if (!(row.passes & (1 << place.filter)) && !whole) node.classList.add("outside");
    }
    tokens.push(node);
  }
  const group = el("div", { class: "passage", lang: "" }, tokens);
  roving(group, links, (at, key) => (key === "ArrowRight" ? at + 1 : key === "ArrowLeft" ? at - 1 : key === "Home" ? 0 : key === "End" ? links.length - 1 : undefined));
  const stops = Array.from({ length: 21 }, (_, at) => diverging(at / 10 - 1));
  const python =
    loading(run) +
    (whole ? "tokens = run.extras.passages.to_pandas()" : "tokens = run.tokens_frame()") +
    `.query("layer == ${layer} and head == ${head} and window == ${words.numbers[window]}")\n`;
  const scope = whole ? "every scored token of a passage that the run kept whole, whatever its direct effect" : `kept tokens alone are coloured (others were summed, and not kept); underlined thinly: outside the filter, ${run.filters[place.filter].words}`;
  return el(
    "section",
    { class: "figure" },
    el("div", { class: "figure-head" }, el("h3", {}, `${sentence(COLOURED[quantity])} of ${run.nameOf(layer, head)}, window ${words.numbers[window]}`), el("div", { class: "tools" }, copyButton(python))),
    el("div", { class: "legend", "aria-hidden": "true" }, el("span", {}, `≤ ${signed(-full, 2)}`), el("span", { class: "ramp", style: { background: `linear-gradient(90deg, ${stops.join(",")})` } }), el("span", {}, `≥ ${signed(full, 2)} logit`)),
    group,
    el("p", { class: "figcaption" }, `A token's colour: what the ablation did to its own prediction, made one token earlier; ${scope}. Single tokens have no interval. ${sentence(run.operator)}; ${run.leftOut}. Solid underline: looked at closely. Arrow keys move, Enter opens.`),
  );
}

function tokenLink(place, quantity, row, text, words, full, close) {
  const { run } = place;
  const colour = diverging(row[quantity] / full);
  const link = el(
    "a",
    {
      class: close.has(`${row.window}/${row.position}`) ? "token coloured close" : "token coloured",
      href: address({ ...place, view: "token", window: words.numbers[row.window], position: row.position, quantity: undefined }),
      style: { background: colour, color: inkOn(colour) },
    },
    el("bdi", {}, inLines(text, words.isBreak(row.window, row.position + 1))),
  );
  return tipped(link, () => [["target", `“${text}”`], ["predicted after", `“${words.at(row.window, row.position)}”`], ...tokenLines(run, row)]);
}
