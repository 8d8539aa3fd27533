// What every number is: formula, place in the paper, sign; how intervals are made; how to repeat the run.

import { index } from "./data.js";
import { el } from "./dom.js";
import { copyButton } from "./figure.js";
import { loading } from "./card.js";
import { views } from "./route.js";

views.push({ name: "method", title: "Method", show: methodView });

function methodView({ run }) {
  const { paper, symbols, rows, intervals } = index.method;
  return [
    el("h1", {}, "Method"),
    el("p", { class: "lead" }, "Every attention head is ablated in turn, at all positions, and what happened to the logit of each next token is booked in a ledger that closes: total effect + lost direct effect = self-repair = heads + MLPs + norms."),
    el("h2", {}, "Symbols"),
    el("dl", { class: "symbols" }, symbols.map(([symbol, words]) => [el("dt", {}, symbol), el("dd", {}, words)])),
    el("h2", {}, "Quantities"),
    el("div", { class: "scroll", tabindex: "0" }, el("table", { class: "method" }, el("caption", {}, `Sections and figures are those of ${paper}.`), el("thead", {}, el("tr", {}, ["name", "formula", "unit", "what it is, and its sign", "in the paper"].map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, rows.map(([name, formula, where, words, units]) => el("tr", { id: `method-${name}` }, el("th", { scope: "row" }, el("code", {}, name)), el("td", { class: "formula" }, formula), el("td", {}, units), el("td", {}, words), el("td", {}, where)))))),
    el("h2", {}, "Intervals"),
    el("p", {}, intervals),
    el("p", {}, `Here: ${run.errors}; ${run.leftOut}; ${run.floor}. Numbers of single tokens have no interval. The false discovery rate is over the heads of one filter.`),
    el("h2", {}, "Labels"),
    el("pre", { class: "rule", tabindex: "0" }, run.rule.join("\n")),
    el("h2", {}, "The run again"),
    run.command ? [el("p", {}, "The command that repeats this run:"), el("pre", { class: "command", tabindex: "0" }, run.command), copyButton(run.command, "Copy the command")] : el("p", {}, "The run's plan does not say how it was started."),
    el("h2", {}, "The numbers in Python"),
    el("pre", { tabindex: "0" }, loading(run) + (run.names ? "run.interventions              # everything, as an xarray Dataset with units\n" : "run.heads                      # everything, as an xarray Dataset with units\n") + 'run.table("top 2%")            # heads as a pandas frame\nrun.tokens_frame()             # kept tokens with their ledgers\nrun.extras.closeups            # single tokens, looked at closely'),
    copyButton(loading(run)),
    run.sampled && el("p", { class: "note" }, `${run.sampled}.`),
  ];
}
