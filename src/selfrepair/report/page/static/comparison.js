// Several runs side by side: differences with intervals, and the same map and profile axes.

import { index, runs } from "./data.js";
import { el, nextFrame } from "./dom.js";
import { between, exact, plain, sentence, shown } from "./format.js";
import { diverging, scaleFor } from "./colours.js";
import { band } from "./charts.js";
import { chart, drawing } from "./figure.js";
import { address, go, views } from "./route.js";
import { cutAt, loading } from "./card.js";
import { grid, known, scaleInWords, scaleLegend } from "./map.js";

// What the table of runs shows: all lines of the ledger that one of them has.
const LINES = new Map(runs.flatMap((run) => run.lines).sort((a, b) => a.stroke - b.stroke).map((line) => [line.share, `by ${line.short}`]));
const NUMBERS = { repaired_fraction: "repaired", ...Object.fromEntries(LINES), self_repair: "self-repair", lost_direct_effect: "lost direct effect" };
const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

function called(run) {
  return runs.filter((one) => one.name === run.name).length > 1 ? `${run.name} (${run.number + 1}${run.folder ? ": " + run.folder : ""})` : run.name;
}

function filterIn(run, label) {
  return run.filters.findIndex((one) => one.label === label);
}

views.push({ name: "comparison", title: "Compare", ofRuns: true, show: comparisonView });

async function comparisonView(place) {
  if (runs.length < 2) return [el("h1", {}, "Comparison"), el("p", {}, "This report holds one run. Give several folders to ", el("code", {}, "selfrepair report"), " to lay them side by side.")];
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
    const one = run.whole(name, filterIn(run, label));
    return shownWith(run.quantity[name], one.value, one.low, one.high);
  };
  const rows = having.map((run) => el("tr", {}, el("th", { scope: "row" }, called(run)), Object.keys(NUMBERS).map((name) => el("td", { class: "numeric" }, cell(run, name)))));
  const changes = index.differences.map((one, at) => {
    const filter = one.filters.indexOf(label);
    if (filter < 0) return undefined;
    const quantity = runs[0].quantity;
    return el("tr", { class: "change" }, el("th", { scope: "row" }, `${called(runs[at + 1])} − first`, el("div", { class: "quiet" }, one.how)), Object.keys(NUMBERS).map((name) => el("td", { class: "numeric" }, one.pooled[name]?.[filter] ? shownWith(quantity[name], ...one.pooled[name][filter].map(exact)) : "–")));
  });
  return el("div", { class: "scroll", tabindex: "0" }, el("table", { class: "compare" }, el("caption", {}, `All ${runs[0].what}s together; ${label}; value and 95% interval over documents`), el("thead", {}, el("tr", {}, el("th", {}, "run"), Object.values(NUMBERS).map((title) => el("th", { scope: "col", class: "numeric" }, title)))), el("tbody", {}, rows, changes)));
}

function shownWith(quantity, value, low, high) {
  if (!quantity) return "–";
  return [el("div", {}, shown(value, quantity)), el("div", { class: "quiet" }, between(low, high, quantity))];
}

function profileFigure(having, label) {
  return chart({
    title: "Repair over relative depth",
    caption: `Share of the lost direct effect that is repaired, per layer; band: 95% interval over documents; left out: layers whose lost direct effect may be zero, so that the share may be anything. ${label}. ${having.map((run) => `${called(run)}: ${run.operator}`).join("; ")}.`,
    python: having.map(loading).join("\n"),
    spec: () => {
      const data = having.flatMap((run, at) => {
        const filter = filterIn(run, label);
        const sure = run.losing(filter);
        const pick = (end) => sure.map((layer) => 100 * run.whole("repaired_fraction", filter, layer)[end]);
        return band(sure.map((layer) => layer / run.layers), pick("value"), pick("low"), pick("high"), called(run), PALETTE[at % PALETTE.length]);
      });
      const range = cutAt(data.filter((one) => one.mode === "lines+markers").flatMap((one) => one.y));
      return { data, layout: { xaxis: { title: { text: "relative depth of the ablated head" }, range: [0, 1] }, yaxis: { title: { text: "repaired, %" }, range } } };
    },
  });
}

function maps(having, label, quantity) {
  const cellOf = (run) => (layer, head) => ({ ...run.cell(quantity.name, filterIn(run, label), layer, head), determined: run.determined(quantity, filterIn(run, label), layer, head) });
  const scale = scaleFor(having.flatMap((run) => known(run, filterIn(run, label), cellOf(run))), quantity);
  return el(
    "div",
    { class: "two" },
    having.map((run) =>
      mapFigureOf({
        title: `${sentence(quantity.title)}: ${called(run)}`,
        caption: `${sentence(scaleInWords(quantity, scale))}, the same for all runs; a dot: the 95% interval over documents leaves out ${scale.neutral ? shown(scale.neutral, quantity) : "zero"}. ${sentence(run.caption(filterIn(run, label)))}.`,
        python: loading(run) + `value = ${run.python}["${quantity.name}"].sel(filter=${JSON.stringify(label)})\n`,
        picture: grid({ run, filter: filterIn(run, label) }, quantity, (value) => diverging((value - scale.neutral) / scale.full), cellOf(run)),
        legend: scaleLegend(quantity, scale),
      }),
    ),
    differenceMaps(label, quantity),
  );
}

function mapFigureOf({ title, caption, python, picture, legend }) {
  const figure = drawing({ title, caption, python, body: el("div", { class: "map scroll", tabindex: "0" }, picture) });
  figure.querySelector(".map").before(legend);
  return figure;
}

// Second run minus first, head by head, where both have the same heads.
function differenceMaps(label, quantity) {
  return index.differences.map((one, at) => {
    const cells = one.heads[quantity.name]?.[one.filters.indexOf(label)];
    if (!cells) return undefined;
    const [first, second] = [runs[0], runs[at + 1]];
    const cellOf = (layer, head) => {
      const [value, low, high] = cells[layer][head].map(exact);
      return { value, low, high, determined: [first, second].every((run) => run.determined(quantity, filterIn(run, label), layer, head)) };
    };
    const place = { run: first, filter: filterIn(first, label) };
    const scale = scaleFor(known(first, place.filter, cellOf), quantity, 0);
    return mapFigureOf({
      title: `Difference of ${quantity.title}: ${called(second)} − ${called(first)}`,
      caption: `${sentence(one.how)}; ${scaleInWords(quantity, scale)}; a dot: the 95% interval over documents leaves out zero. ${label}.`,
      python: [first, second].map((run, which) => loading(run).replaceAll("run =", `run_${which + 1} =`)).join("\n") + `difference = ${[second, first].map((run, which) => `${run.python.replace("run", `run_${2 - which}`)}["${quantity.name}"].sel(filter=${JSON.stringify(label)})`).join(" - ")}\n`,
      picture: grid(place, quantity, (value) => diverging(value / scale.full), cellOf, `difference of ${quantity.title}`),
      legend: scaleLegend(quantity, scale),
    });
  });
}

const DIFFERING = 12;

// A difference of shares with its interval.
function points(given) {
  const [value, low, high] = (given ?? []).map(exact);
  return [plain(100 * value, 1), " ", el("span", { class: "quiet" }, between(low ?? NaN, high ?? NaN, runs[0].quantity.repaired_fraction).replaceAll("%", ""))];
}

function differenceLists(label) {
  return index.differences.map((one, at) => {
    const filter = one.filters.indexOf(label);
    const cells = filter < 0 ? undefined : one.heads.self_repair?.[filter];
    if (!cells) return el("p", { class: "note" }, `${called(runs[at + 1])}: ${runs[0].what}s are not compared one by one: ${one.unrelated || "no such filter in one of the runs"}.`);
    const rows = cells.flatMap((heads, layer) => heads.map((given, head) => {
      const [value, low, high] = given.map(exact);
      return { layer, head, value, low, high, size: Math.abs(value) / ((high - low) / 2 || Infinity) };
    })).filter((row) => Number.isFinite(row.value));
    rows.sort((a, b) => (b.size || 0) - (a.size || 0));
    const quantity = runs[0].quantity.self_repair;
    return el(
      "section",
      {},
      el("h2", {}, `${sentence(runs[0].what)}s that differ most`),
      el("p", { class: "note" }, `${called(runs[at + 1])} minus ${called(runs[0])}; ${label}; ${one.how}; by difference of self-repair over the half-width of its 95% interval.`),
      el(
        "table",
        { class: "plain" },
        el("thead", {}, el("tr", {}, [runs[0].what, "self-repair", "95% interval", "repaired, points"].map((text) => el("th", { scope: "col" }, text)))),
        el("tbody", {}, rows.slice(0, DIFFERING).map((row) => el("tr", {}, el("td", {}, el("a", { href: address({ run: runs[0], filter: filterIn(runs[0], label), view: "head", layer: row.layer, head: row.head }) }, runs[0].nameOf(row.layer, row.head))), el("td", { class: "numeric" }, shown(row.value, quantity)), el("td", { class: "numeric" }, between(row.low, row.high, quantity)), el("td", { class: "numeric" }, points(one.heads.repaired_fraction?.[filter]?.[row.layer]?.[row.head]))))),
      ),
    );
  });
}
