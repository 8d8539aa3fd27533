// The ledger in words: lines, steps of a waterfall, and what a token's tooltip says.

import { signed } from "./format.js";

// From the lost direct effect through the lines to the total effect, of one token.
export function tokenSteps(run, row) {
  return [
    { name: "lost direct effect", value: -row.lost, kind: "whole" },
    ...run.lines.map((line) => ({ name: line.short, value: row[line.quantity] })),
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
  const rest = (line) => of(line.quantity).value - alone.filter((part) => line.components.includes(part.kind)).reduce((sum, part) => sum + part.effect, 0);
  const step = (line) => ({ name: line.short, ...of(line.quantity) });
  const others = run.lines.filter((line) => line.components.length).map((line) => ({ name: `other ${line.short}`, value: rest(line) }));
  const middle = alone.length
    ? [
        ...alone.map((part) => ({ name: part.name, value: part.effect, low: part.low, high: part.high })),
        ...others.filter((other) => Math.abs(other.value) > 1e-4 * Math.abs(lost.value)),
        ...run.lines.filter((line) => !line.components.length).map(step),
      ]
    : run.lines.map(step);
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
    ...run.lines.map((line) => [`  ${line.short}`, signed(row[line.quantity])]),
  ];
}
