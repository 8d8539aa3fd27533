// The map: layer by head, any quantity, any filter; and the table beside it.

import { el, number, roving, svg, tipped } from "./dom.js";
import { between, betweenLogits, betweenPercent, hasEnds, percent, plain, sentence, shown, signed } from "./format.js";
import { diverging, labelColour, scaleFor } from "./colours.js";
import { copyButton, drawing } from "./figure.js";
import { sortable } from "./table.js";
import { address, go, views } from "./route.js";
import { loading } from "./card.js";

const LABEL = { name: "label", title: "label", group: "label", description: "What ablating the head does. Repaired and amplified go by intervals and allow for the number of heads tested; the others go by intervals alone.", units: "" };

views.push({ name: "map", title: "Map", show: mapView });

function mapView(place) {
  const { run, filter } = place;
  const quantity = place.quantity === "label" ? LABEL : (run.quantity[place.quantity] ?? run.quantity.self_repair);
  return [
    el("h1", {}, `Every ${place.run.what}`),
    el("div", { class: "controls" }, el("label", {}, "Show ", menu(place, quantity))),
    el("p", { class: "lead" }, sentence(quantity.description)),
    mapFigure(place, quantity),
    headTable(place, quantity),
    el("details", {}, el("summary", {}, "The rule behind the labels"), el("pre", { class: "rule", tabindex: "0" }, run.rule.join("\n"))),
  ];
}

function menu(place, quantity) {
  const option = (one) => el("option", { value: one.name, selected: one.name === quantity.name }, one.title);
  const groups = [...new Set(place.run.quantities.map((one) => one.group))].map((group) => el("optgroup", { label: group }, place.run.quantities.filter((one) => one.group === group).map(option)));
  return el("select", { id: "quantity", onchange: (event) => go({ ...place, quantity: event.target.value }) }, groups, option(LABEL));
}

export function pythonFor(run, filter, quantity, layer, head) {
  const where = layer === undefined ? "" : `, ${run.where(layer, head)}`;
  const cell = `.sel(filter=${JSON.stringify(run.filters[filter].label)}${where})`;
  const interval = quantity.name === "label" ? "" : `low, high = (${run.python}[f"${quantity.name}_{end}"]${cell} for end in ("low", "high"))\n`;
  return loading(run) + `value = ${run.python}["${quantity.name}"]${cell}\n${interval}`;
}

const SIDE = 26;

function mapFigure(place, quantity) {
  const { run, filter } = place;
  const ofLabels = quantity.name === "label";
  const cellOf = (layer, head) => ({ ...run.cell(quantity.name, filter, layer, head), determined: run.determined(quantity, filter, layer, head) });
  const scale = ofLabels ? undefined : scaleFor(known(run, filter, cellOf), quantity);
  const picture = grid(place, quantity, (value) => diverging((value - scale.neutral) / scale.full), cellOf);
  const note = ofLabels ? "" : `A dot: the 95% interval leaves out ${scale.neutral ? shown(scale.neutral, quantity) : "zero"}.`;
  const says = ofLabels ? `The word that the rule below gives each ${run.what}` : `${sentence(quantity.title)}; ${scaleInWords(quantity, scale)}; intervals are 95%, over documents`;
  const figure = drawing({
    title: `${sentence(quantity.title)}, ${run.what} by ${run.what}`,
    caption: `${says}. ${sentence(run.caption(filter))}. Empty: not ablated, or no tokens.`,
    python: pythonFor(run, filter, quantity),
    body: el("div", { class: "map scroll" }, picture),
    note,
  });
  figure.querySelector(".map").before(ofLabels ? labelLegend(run) : scaleLegend(quantity, scale));
  return figure;
}

// Values of the heads that were measured and mean something, which colours go by.
export function known(run, filter, cellOf) {
  const values = [];
  for (let layer = 0; layer < run.layers; layer++) {
    for (let head = 0; head < run.heads; head++) {
      const one = cellOf(layer, head);
      if (run.measured(filter, layer, head) && one.determined) values.push(one.value);
    }
  }
  return values;
}

export function scaleInWords(quantity, { neutral, full, clipped }) {
  const size = shown(full, quantity).replace(/^[+−]/, "");
  const said = `colour is full at ±${size}${neutral ? ` from ${neutral}` : ""}${clipped ? ", beyond which sizes are not told apart" : ""}`;
  return quantity.denominator ? `${said}; grey: ${UNDETERMINED}` : said;
}

const UNDETERMINED = "undetermined, since what it is a share of may be zero: its 95% interval has no ends";

// Cells of all heads; `cellOf(layer, head)` gives {value, low, high, determined}.
export function grid(place, quantity, colourOf, cellOf, what = quantity.title) {
  const { run, filter } = place;
  const [left, top] = [44, 8];
  const [width, height] = [left + SIDE * run.layers + 8, top + SIDE * run.heads + 40];
  const every = run.layers > 40 ? 5 : run.layers > 24 ? 2 : 1;
  const links = [];
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `${what} of every ${run.what}`, style: { minWidth: `${Math.min(width, left + 15 * run.layers)}px`, maxWidth: `${Math.max(width, Math.min(1.6 * width, 1180))}px` } });
  for (let head = 0; head < run.heads; head++) picture.append(svg("text", { x: left - 8, y: top + SIDE * (head + 0.65), "text-anchor": "end", class: "tick" }, run.names ? String(head + 1) : `H${head}`));
  for (let layer = 0; layer < run.layers; layer++) {
    if (layer % every === 0) picture.append(svg("text", { x: left + SIDE * (layer + 0.5), y: top + SIDE * run.heads + 16, "text-anchor": "middle", class: "tick" }, String(layer)));
    for (let head = 0; head < run.heads; head++) {
      if (!run.exists(layer, head)) continue;
      const link = cellLink(place, quantity, colourOf, cellOf, what, layer, head);
      link.setAttribute("transform", `translate(${left + SIDE * layer} ${top + SIDE * head})`);
      links.push(link);
      picture.append(link);
    }
  }
  picture.append(svg("text", { x: left + (SIDE * run.layers) / 2, y: height - 6, "text-anchor": "middle", class: "tick" }, run.names ? "layer in which it starts" : "layer"));
  const across = run.names ? 1 : run.heads; // other interventions need not fill the grid
  const steps = { ArrowDown: 1, ArrowUp: -1, ArrowRight: across, ArrowLeft: -across };
  roving(picture, links, (at, key) => (key === "Home" ? 0 : key === "End" ? links.length - 1 : key in steps ? at + steps[key] : undefined));
  return picture;
}

function cellLink(place, quantity, colourOf, cellOf, what, layer, head) {
  const { run, filter } = place;
  const name = run.nameOf(layer, head);
  const measured = run.measured(filter, layer, head);
  const one = quantity.name === "label" ? {} : cellOf(layer, head);
  const label = run.label(filter, layer, head);
  const grey = measured && one.determined === false;
  const fill = !measured || grey ? "" : quantity.name === "label" ? labelColour(run.labels.indexOf(label)) : colourOf(one.value);
  const neutral = what === quantity.title ? (quantity.neutral ?? 0) : 0;
  const sure = measured && !grey && (one.low > neutral || one.high < neutral);
  const words = quantity.name === "label" ? label : `${shown(one.value, quantity)} (${between(one.low, one.high, quantity)})`;
  const link = svg(
    "a",
    { href: address({ ...place, view: "head", layer, head, quantity: undefined }), class: "cell", "data-head": name, "aria-label": `${name}: ${what} ${words}${grey ? ", undetermined" : ""}` },
    svg("rect", { x: 1, y: 1, width: SIDE - 2, height: SIDE - 2, rx: 3, style: fill ? { fill } : {}, class: !measured ? "empty" : grey ? "undetermined" : "" }),
    sure && svg("circle", { cx: SIDE / 2, cy: SIDE / 2, r: 1.8, class: "sure" }),
  );
  return tipped(link, () => [
    `${name} · ${label}`,
    quantity.name !== "label" && [what, shown(one.value, quantity)],
    quantity.name !== "label" && ["95% interval", between(one.low, one.high, quantity)],
    grey && UNDETERMINED,
    ["tokens, documents", `${run.values.count[run.place(filter, layer, head)]}, ${run.values.documents[run.place(filter, layer, head)]}`],
    run.filters[filter].words,
    run.operator,
  ].filter(Boolean));
}

export function scaleLegend(quantity, { neutral, full }) {
  const stops = Array.from({ length: 21 }, (_, at) => diverging(at / 10 - 1));
  const ends = [neutral - full, neutral, neutral + full].map((value) => shown(value, quantity));
  return el(
    "div",
    { class: "legend" },
    el("span", {}, `≤ ${ends[0]}`),
    el("span", { class: "ramp", style: { background: `linear-gradient(90deg, ${stops.join(",")})` } }),
    el("span", {}, `≥ ${ends[2]}`),
    el("span", { class: "quiet" }, `middle: ${ends[1]}`),
    quantity.denominator && el("span", { class: "swatch" }, el("i", { class: "undetermined" }), "undetermined"),
  );
}

function labelLegend(run) {
  return el("div", { class: "legend" }, run.labels.map((label, at) => el("span", { class: "swatch" }, el("i", { style: { background: labelColour(at) } }), label)));
}

const BESIDE = { repaired: " *", amplified: " †" };

function interval(text) {
  return el("div", { class: "quiet" }, text);
}

function headTable(place, quantity) {
  const { run, filter } = place;
  const rows = [];
  for (const { layer, head } of run.every) if (run.measured(filter, layer, head)) rows.push({ layer, head });
  const value = (name) => (row) => run.cell(name, filter, row.layer, row.head).value;
  const column = (name, title, hint) => ({ name, title, hint, numeric: true, value: value(name), cell: (row) => number(value(name)(row), shown(value(name)(row), run.quantity[name]), { "data-name": name }) });
  const repair = column("self_repair", "self-repair", run.quantity.self_repair.description);
  repair.cell = (row) => {
    const one = run.cell("self_repair", filter, row.layer, row.head);
    return [number(one.value, signed(one.value), { "data-name": "self_repair" }), interval(betweenLogits(one.low, one.high))];
  };
  const fraction = column("repaired_fraction", "repaired", "Σ self-repair / Σ lost direct effect; in brackets where lost direct effect may be zero, so that the share may be anything");
  fraction.cell = (row) => {
    const one = run.cell("repaired_fraction", filter, row.layer, row.head);
    const text = percent(one.value, 0);
    return [hasEnds(one) || !Number.isFinite(one.value) ? text : `(${text})`, interval(betweenPercent(one.low, one.high, 0))];
  };
  const columns = [
    { title: run.what, value: (row) => row.layer * run.heads + row.head, cell: (row) => el("a", { href: address({ ...place, view: "head", ...row, quantity: undefined }) }, `${run.nameOf(row.layer, row.head)}${BESIDE[run.label(filter, row.layer, row.head)] ?? ""}`) },
    column("direct_effect", "DE", run.quantity.direct_effect.description),
    column("lost_direct_effect", "lost DE", run.quantity.lost_direct_effect.description),
    column("total_effect", "total", run.quantity.total_effect.description),
    repair,
    fraction,
    ...run.lines.map((line) => column(line.quantity, line.short, line.text)),
    { title: "label", value: (row) => run.label(filter, row.layer, row.head), cell: (row) => run.label(filter, row.layer, row.head) },
    { title: "q", hint: `Benjamini–Hochberg adjusted p-value, over the filter's ${run.what}s: repaired and amplified ones have 0.05 or less`, numeric: true, value: (row) => run.values.q_value[run.place(filter, row.layer, row.head)], cell: (row) => plain(run.values.q_value[run.place(filter, row.layer, row.head)]) },
    { title: "documents", hint: `documents that the ${run.what}'s tokens under this filter come from`, numeric: true, value: (row) => run.values.documents[run.place(filter, row.layer, row.head)], cell: (row) => String(run.values.documents[run.place(filter, row.layer, row.head)]) },
  ];
  const extra = columns.some((one) => one.name === quantity.name) || quantity.name === "label" ? [] : [column(quantity.name, quantity.title, quantity.description)];
  const shownColumns = [...columns.slice(0, 1), ...extra, ...columns.slice(1)];
  const python = loading(run) + `table = run.table(${JSON.stringify(run.filters[filter].label)}, top=None)\n`;
  return el(
    "section",
    {},
    el("div", { class: "figure-head" }, el("h2", {}, "The same as a table"), el("div", { class: "tools" }, copyButton(python))),
    sortable({ columns: shownColumns, rows, sort: { column: Math.max(1, shownColumns.findIndex((one) => one.name === quantity.name)), descending: true }, caption: `${sentence(run.what)}s; mean changes of the target's centred logit. ${sentence(run.caption(filter))}. Below numbers: 95% intervals over documents. ${run.repairedRule}` }),
  );
}
