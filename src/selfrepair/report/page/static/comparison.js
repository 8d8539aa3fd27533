// Several runs side by side: differences with intervals, and the same map and profile axes.

import { index, runs } from "./data.js";
import { el, nextFrame } from "./dom.js";
import { headName, percent, sentence, shown } from "./format.js";
import { diverging, fullScale } from "./colours.js";
import { band } from "./charts.js";
import { chart, drawing } from "./figure.js";
import { address, go } from "./route.js";
import { cutAt, loading } from "./card.js";
import { grid } from "./map.js";

const NUMBERS = { repaired_fraction: "repaired", fraction_heads: "by heads", fraction_mlps: "by MLPs", fraction_norm: "by the norm", self_repair: "self-repair", lost_direct_effect: "lost direct effect" };
const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

function called(run) {
  return runs.filter((one) => one.name === run.name).length > 1 ? `${run.name} (${run.number + 1}${run.folder ? ": " + run.folder : ""})` : run.name;
}

function filterIn(run, label) {
  return run.filters.findIndex((one) => one.label === label);
}

export async function comparisonView(place) {
  if (runs.length < 2) return [el("h1", {}, "Comparison"), el("p", {}, "This report holds one run. Give several folders to `selfrepair report` to lay them side by side.")];
  await Promise.all(runs.map((run) => run.ready()));
  const label = place.run.filters[place.filter].label;
  const having = runs.filter((run) => filterIn(run, label) >= 0);
  const profile = profileFigure(having, label);
  const quantity = place.run.quantity[place.quantity] ?? place.run.quantity.self_repair;
  return {
    content: [
      el("h1", {}, "Side by side"),
      el("p", { class: "lead" }, `${sentence(place.run.filters[place.filter].words)}. Differences are each run minus the first, with 95% intervals over documents.`),
      numbersTable(having, label),
      profile,
      el("div", { class: "controls" }, el("label", {}, "Maps show ", el("select", { id: "comparison-quantity", onchange: (event) => go({ ...place, quantity: event.target.value }) }, place.run.quantities.map((one) => el("option", { value: one.name, selected: one.name === quantity.name }, one.title))))),
      maps(having, label, quantity),
      differenceLists(label),
    ],
    finish: async () => {
      await nextFrame();
      await profile.draw();
    },
  };
}

function numbersTable(having, label) {
  const cell = (run, name) => {
    const at = filterIn(run, label);
    const part = (ending) => run.pooled.pooled[name + ending]?.[at] ?? NaN;
    return shownWith(run.quantity[name], part(""), part("_low"), part("_high"));
  };
  const rows = having.map((run) => el("tr", {}, el("th", { scope: "row" }, called(run)), Object.keys(NUMBERS).map((name) => el("td", { class: "numeric" }, cell(run, name)))));
  const changes = index.differences.map((one, at) => {
    const filter = one.filters.indexOf(label);
    if (filter < 0) return undefined;
    const quantity = runs[0].quantity;
    return el("tr", { class: "change" }, el("th", { scope: "row" }, `${called(runs[at + 1])} − first`, el("div", { class: "quiet" }, one.how)), Object.keys(NUMBERS).map((name) => el("td", { class: "numeric" }, one.pooled[name]?.[filter] ? shownWith(quantity[name], ...one.pooled[name][filter].map((value) => value ?? NaN)) : "–")));
  });
  return el("div", { class: "scroll", tabindex: "0" }, el("table", { class: "compare" }, el("caption", {}, `All heads together; ${label}; value and 95% interval over documents`), el("thead", {}, el("tr", {}, el("th", {}, "run"), Object.values(NUMBERS).map((title) => el("th", { scope: "col", class: "numeric" }, title)))), el("tbody", {}, rows, changes)));
}

function shownWith(quantity, value, low, high) {
  if (!quantity) return "–";
  return [el("div", {}, shown(value, quantity)), el("div", { class: "quiet" }, Number.isFinite(low) ? `${shown(low, quantity)} to ${shown(high, quantity)}` : "")];
}

function profileFigure(having, label) {
  return chart({
    title: "Repair over relative depth",
    caption: `Share of the lost direct effect that is repaired, per layer; band: 95% interval over documents; layers that lose nothing for sure are left out. ${label}. ${having.map((run) => `${called(run)}: ${run.operator}`).join("; ")}.`,
    python: having.map(loading).join("\n"),
    spec: () => {
      const data = having.flatMap((run, at) => {
        const filter = filterIn(run, label);
        const of = (name) => run.pooled.layer[name][filter].map((value) => value ?? NaN);
        const lost = of("lost_direct_effect"), error = of("lost_direct_effect_standard_error");
        const sure = lost.map((_, layer) => layer).filter((layer) => Math.abs(lost[layer]) > 2 * error[layer]);
        const pick = (ending) => sure.map((layer) => 100 * of("repaired_fraction" + ending)[layer]);
        return band(sure.map((layer) => layer / run.layers), pick(""), pick("_low"), pick("_high"), called(run), PALETTE[at % PALETTE.length]);
      });
      const range = cutAt(data.filter((one) => one.mode === "lines+markers").flatMap((one) => one.y));
      return { data, layout: { xaxis: { title: { text: "relative depth of the ablated head" }, range: [0, 1] }, yaxis: { title: { text: "repaired, %" }, range } } };
    },
  });
}

function maps(having, label, quantity) {
  const all = having.flatMap((run) => {
    const filter = filterIn(run, label);
    return Array.from({ length: run.layers * run.heads }, (_, at) => run.cell(quantity.name, filter, Math.floor(at / run.heads), at % run.heads).value);
  });
  const full = fullScale(all, quantity.neutral);
  return el(
    "div",
    { class: "two" },
    having.map((run) =>
      drawing({
        title: `${sentence(quantity.title)}: ${called(run)}`,
        caption: `Colour is full at ±${shown(full, quantity).replace(/^[+−]/, "")}, the same for all runs. ${sentence(run.caption(filterIn(run, label)))}.`,
        python: loading(run) + `value = run.heads["${quantity.name}"].sel(filter=${JSON.stringify(label)})\n`,
        body: el("div", { class: "map scroll", tabindex: "0" }, mapOf(run, label, quantity, full)),
      }),
    ),
    differenceMaps(label, quantity),
  );
}

function mapOf(run, label, quantity, full) {
  const filter = filterIn(run, label);
  const colour = (value) => diverging((value - quantity.neutral) / full);
  return grid({ run, filter }, quantity, colour, (layer, head) => run.cell(quantity.name, filter, layer, head));
}

// Second run minus first, head by head, where both have the same heads.
function differenceMaps(label, quantity) {
  return index.differences.map((one, at) => {
    const cells = one.heads[quantity.name]?.[one.filters.indexOf(label)];
    if (!cells) return undefined;
    const full = fullScale(cells.flat().map((cell) => cell[0] ?? NaN));
    const cellOf = (layer, head) => {
      const [value, low, high] = cells[layer][head].map((part) => part ?? NaN);
      return { value, low, high };
    };
    const place = { run: runs[0], filter: filterIn(runs[0], label) };
    const picture = grid(place, quantity, (value) => diverging(value / full), cellOf, `difference of ${quantity.title}`);
    return drawing({
      title: `Difference of ${quantity.title}: ${called(runs[at + 1])} − ${called(runs[0])}`,
      caption: `${sentence(one.how)}; colour is full at ±${shown(full, quantity).replace(/^[+−]/, "")}; a dot: the 95% interval over documents leaves out zero. ${label}.`,
      python: [runs[0], runs[at + 1]].map((run, which) => loading(run).replaceAll("run =", `run_${which + 1} =`)).join("\n") + `difference = run_2.heads["${quantity.name}"].sel(filter=${JSON.stringify(label)}) - run_1.heads["${quantity.name}"].sel(filter=${JSON.stringify(label)})\n`,
      body: el("div", { class: "map scroll", tabindex: "0" }, picture),
    });
  });
}

const DIFFERING = 12;

function differenceLists(label) {
  return index.differences.map((one, at) => {
    const filter = one.filters.indexOf(label);
    const cells = filter < 0 ? undefined : one.heads.self_repair?.[filter];
    if (!cells) return el("p", { class: "note" }, `${called(runs[at + 1])}: heads are not compared one by one: ${one.unrelated || "no such filter in one of the runs"}.`);
    const rows = cells.flatMap((heads, layer) => heads.map(([value, low, high], head) => ({ layer, head, value, low, high, size: Math.abs(value) / ((high - low) / 2 || Infinity) })));
    rows.sort((a, b) => (b.size || 0) - (a.size || 0));
    const quantity = runs[0].quantity.self_repair, fraction = runs[0].quantity.repaired_fraction;
    return el(
      "section",
      {},
      el("h2", {}, "Heads that differ most"),
      el("p", { class: "note" }, `${called(runs[at + 1])} minus ${called(runs[0])}; ${label}; ${one.how}; by difference of self-repair over the half-width of its 95% interval.`),
      el(
        "table",
        { class: "plain" },
        el("thead", {}, el("tr", {}, ["head", "self-repair", "95% interval", "repaired"].map((text) => el("th", { scope: "col" }, text)))),
        el("tbody", {}, rows.slice(0, DIFFERING).map((row) => el("tr", {}, el("td", {}, el("a", { href: address({ run: runs[0], filter: filterIn(runs[0], label), view: "head", layer: row.layer, head: row.head }) }, headName(row.layer, row.head))), el("td", { class: "numeric" }, shown(row.value ?? NaN, quantity)), el("td", { class: "numeric" }, `${shown(row.low ?? NaN, quantity)} to ${shown(row.high ?? NaN, quantity)}`), el("td", { class: "numeric" }, percent(one.heads.repaired_fraction?.[filter]?.[row.layer]?.[row.head]?.[0] ?? NaN))))),
      ),
    );
  });
}
