// The ledger in words: lines, steps of a waterfall, and what a token's tooltip says.

import { signed } from "./format.js";

export const LINE_NAMES = { repair_heads: "heads", repair_mlps: "MLPs", repair_post_norms: "post-norms", repair_norm: "final norm" };

// From the lost direct effect through the lines to the total effect, of one token.
export function tokenSteps(run, row) {
  return [
    { name: "lost direct effect", value: -row.lost, kind: "whole" },
    ...run.lines.map((line) => ({ name: LINE_NAMES[line], value: row[line] })),
    { name: "total effect", value: row.total_effect, kind: "whole" },
  ];
}

// Components with a bar of their own: as many as can be read.
function single() {
  return innerWidth < 700 ? 4 : 8;
}

// The same for a head's mean over the tokens of a filter, through its largest repairers.
export function headSteps(run, filter, layer, head, parts) {
  const of = (name) => run.cell(name, filter, layer, head);
  const lost = of("lost_direct_effect"), total = of("total_effect");
  const alone = parts.slice(0, single());
  const rest = (line, kinds) => of(line).value - alone.filter((part) => kinds.includes(part.kind)).reduce((sum, part) => sum + part.effect, 0);
  const line = (name) => ({ name: LINE_NAMES[name], ...of(name) });
  const others = [{ name: "other heads", value: rest("repair_heads", ["head", "attention"]) }, { name: "other MLPs", value: rest("repair_mlps", ["mlp"]) }];
  const middle = alone.length
    ? [
        ...alone.map((part) => ({ name: part.name, value: part.effect, low: part.low, high: part.high })),
        ...others.filter((step) => Math.abs(step.value) > 1e-4 * Math.abs(lost.value)),
        ...run.lines.filter((name) => name.endsWith("norms") || name.endsWith("norm")).map(line),
      ]
    : run.lines.map(line);
  return [
    { name: "lost direct effect", value: -lost.value, low: -lost.high, high: -lost.low, kind: "whole" },
    ...middle,
    { name: "total effect", ...total, kind: "whole" },
  ];
}

export function tokenLines(run, row) {
  return [
    ["direct effect", signed(row.direct_effect)],
    ["lost direct effect", signed(row.lost)],
    ["total effect", signed(row.total_effect)],
    ["self-repair", signed(row.self_repair)],
    ...run.lines.map((line) => [`  ${LINE_NAMES[line]}`, signed(row[line])]),
  ];
}
