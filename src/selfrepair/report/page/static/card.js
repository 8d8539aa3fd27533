// The model's card: where the numbers come from, the headline, its profile over depth, what the run cannot say.

import { index } from "./data.js";
import { el, number } from "./dom.js";
import { between, betweenLogits, hasEnds, percent, sentence, signed } from "./format.js";
import { theme } from "./colours.js";
import { band } from "./charts.js";
import { chart } from "./figure.js";
import { address, views } from "./route.js";

// How the share of each line is drawn over depth: dash and colour.
const STROKES = [["dot", "#e69f00"], ["dash", "#009e73"], ["dashdot", "#56b4e9"], ["longdash", "#cc79a7"], ["longdashdot", "#0072b2"], ["solid", "#d55e00"]];

export function loading(run) {
  const where = run.folder === null ? "# `run` is the run that this report was made from" : `from selfrepair import load_run\n\nrun = load_run(${JSON.stringify(run.folder)})`;
  return where + "\n";
}

views.push({ name: "card", title: "Card", show: cardView });

function cardView({ run, filter }) {
  const of = (name) => run.whole(name, filter);
  const whole = of("repaired_fraction"), lost = of("lost_direct_effect");
  const one = run.filters[filter];
  return [
    run.status && el("p", { class: "warning" }, run.status),
    el(
      "section",
      { class: "hero" },
      el("p", { class: "over" }, `${run.operator} · ${one.words}`),
      el("p", { class: "headline" }, number(whole.value, percent(whole.value), { "data-name": "pooled_repaired_fraction" }), el("span", {}, ` of the direct effect that ${run.lose} is repaired`)),
      el("p", {}, `95% interval ${between(whole.low, whole.high, run.quantity.repaired_fraction)}, over documents${hasEnds(whole) ? "" : ": there may be nothing lost, so that the share may be anything"}. ${sentence(run.lose)} ${signed(lost.value)} logit on average (${betweenLogits(lost.low, lost.high)}); what the rest of the model makes up of it is the sum of self-repair over the sum of lost direct effect, all ${run.what}s together.`),
      splitBar(run.lines.map((line) => ({ title: line.short, ...of(line.share) })), whole.value),
      el("p", { class: "note" }, `${sentence(one.discoveries)}. ${run.repairedRule} ${sentence(one.amount)}. ${run.errors}; ${run.leftOut}.`),
    ),
    el("div", { class: "two" }, profile(run, filter), factsSection(run)),
    el("section", {}, el("h2", {}, "What this run cannot say"), el("ul", {}, run.limits.map((text) => el("li", {}, text)), run.sampled && el("li", {}, `${run.sampled}.`))),
    el("section", {}, el("h2", {}, "Look closer"), el("p", { class: "ways" }, ways(run, filter))),
  ];
}

function ways(run, filter) {
  const links = [["map", `the map of all ${run.what}s`], ["text", "passages, token by token"], ["method", "what each number is"]];
  if (index.runs.length > 1) links.splice(2, 0, ["comparison", "the runs side by side"]);
  return links.map(([view, words]) => el("a", { class: "button", href: address({ run, filter, view }) }, words));
}

const SHARE = { units: "1", percent: true };

// Shares that add up to the whole; those below zero to the left.
function splitBar(parts, whole) {
  const size = Math.max(...parts.map((part) => Math.abs(part.value) || 0), Math.abs(whole) || 0, 1e-9);
  return el(
    "table",
    { class: "split" },
    el("caption", {}, "Who repairs, as shares of the lost direct effect (95% interval over documents)"),
    el(
      "tbody",
      {},
      parts.map((part) => {
        const width = `${Math.abs(50 * (part.value || 0)) / size}%`;
        const bar = el("span", { class: part.value < 0 ? "bar negative" : "bar positive", style: part.value < 0 ? { right: "50%", width } : { left: "50%", width } });
        return el("tr", {}, el("th", { scope: "row" }, part.title), el("td", { class: "numeric" }, percent(part.value)), el("td", { class: "track", "aria-hidden": "true" }, bar), el("td", { class: "quiet" }, between(part.low, part.high, SHARE)));
      }),
    ),
  );
}

// Shares of little are wild: the axis shows what lies between -150 and 250%, and no more than there is.
export function cutAt(values) {
  const known = values.filter(Number.isFinite);
  const [low, high] = [Math.max(-150, Math.min(0, ...known)), Math.min(250, Math.max(100, ...known))];
  return [low - 0.05 * (high - low), high + 0.05 * (high - low)];
}

function profile(run, filter) {
  const sure = run.losing(filter);
  const pick = (name, end = "value") => sure.map((layer) => 100 * run.whole(name, filter, layer)[end]);
  return chart({
    title: "Repair over depth",
    caption: `Share of the lost direct effect that is repaired, per layer ${run.names ? "in which interventions start" : "of the ablated heads"}; band: 95% interval over documents; left out: layers whose lost direct effect may be zero, so that the share may be anything; the axis ends where it would hide the rest. ${sentence(run.caption(filter))}.`,
    python: loading(run) + `layers = ${run.names ? "run.interventions" : "run.heads"}["layer_repaired_fraction"].sel(filter=${JSON.stringify(run.filters[filter].label)})\n`,
    spec: () => {
      const colour = theme();
      const cut = cutAt([...pick("repaired_fraction"), ...run.lines.flatMap((line) => pick(line.share))]);
      const stroke = (line) => STROKES[line.stroke % STROKES.length];
      return {
        data: [
          ...band(sure, pick("repaired_fraction"), pick("repaired_fraction", "low"), pick("repaired_fraction", "high"), "all", colour.accent),
          ...run.lines.map((line) => ({ type: "scatter", mode: "lines", x: sure, y: pick(line.share), name: line.short, line: { dash: stroke(line)[0], color: stroke(line)[1], width: 1.8 } })),
        ],
        layout: { xaxis: { title: { text: run.names ? "layer in which interventions start" : "layer of the ablated head" } }, yaxis: { title: { text: "repaired, %" }, range: cut } },
      };
    },
  });
}

function factsSection(run) {
  return el(
    "section",
    { class: "facts" },
    el("h3", {}, "The run"),
    el("dl", {}, run.facts.map(([label, value]) => [el("dt", {}, label), el("dd", {}, value)])),
  );
}
