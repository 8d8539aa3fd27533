// A picture with its caption, and buttons that save it or copy the Python that gives the same numbers.

import { el, said } from "./dom.js";
import { asText, layout, plotly } from "./charts.js";
import { theme } from "./colours.js";

const redraws = new Map();

// A chart by plotly. `spec()` gives its data and layout, once for every theme.
export function chart({ title, caption, python, spec, height = 340, note, opens }) {
  const body = el("div", { class: "plot", style: { height: `${height}px` } });
  const figure = framed({ title, caption, python, body, note, save: (kind) => saveChart(spec(), title, caption, kind) });
  figure.draw = async () => {
    const library = await plotly();
    if (!body.isConnected) return;
    const { data, layout: given } = spec();
    await library.react(body, data, layout(given), { displayModeBar: false, responsive: true });
    figure.dataset.drawn = "yes";
    if (opens && !body.dataset.opens) {
      body.dataset.opens = "yes";
      body.on("plotly_click", (event) => opens(event.points[0]));
    }
  };
  redraws.set(figure, figure.draw);
  return figure;
}

// A picture that is drawn here, as an SVG element in `body`.
export function drawing({ title, caption, python, body, note }) {
  return framed({ title, caption, python, body, note, save: (kind) => saveSvg(body.querySelector("svg"), title, caption, kind) });
}

export async function redrawAll() {
  for (const [figure, draw] of redraws) {
    if (figure.isConnected) await draw();
    else redraws.delete(figure);
  }
}

function framed({ title, caption, python, body, note, save }) {
  const tools = el(
    "div",
    { class: "tools" },
    python && copyButton(python),
    el("button", { type: "button", onclick: () => save("svg") }, "SVG"),
    el("button", { type: "button", onclick: () => save("png") }, "PNG"),
  );
  return el(
    "figure",
    {},
    el("div", { class: "figure-head" }, el("h3", {}, title), tools),
    note && el("p", { class: "note" }, note),
    body,
    el("figcaption", {}, caption),
  );
}

export function copyButton(python, words = "Copy Python") {
  const give = async () => {
    try {
      await navigator.clipboard.writeText(python);
      said("Copied. It gives the same numbers in Python.");
    } catch {
      showCode(python);
    }
  };
  return el("button", { type: "button", class: "copy", "data-python": python, onclick: give }, words);
}

// Where the clipboard is closed to a page from disk: the code, to be copied by hand.
function showCode(python) {
  const dialog = el("dialog", { class: "code", onclose: () => dialog.remove() }, el("pre", { tabindex: "0" }, python), el("form", { method: "dialog" }, el("button", {}, "Close")));
  document.body.append(dialog);
  dialog.showModal();
}

const WIDTH = 960;

async function saveChart({ data, layout: given }, title, caption, kind) {
  const library = await plotly();
  const whole = layout(given);
  const lines = wrapped(caption, 120);
  const picture = {
    data,
    layout: {
      ...whole,
      paper_bgcolor: theme().paper,
      plot_bgcolor: theme().paper,
      title: { text: `${asText(title)}<br><span style="font-size:12px">${lines.map(asText).join("<br>")}</span>`, x: 0.02, xanchor: "left", font: { size: 17 } },
      margin: { ...whole.margin, t: 96 + 16 * lines.length },
    },
  };
  const address = await library.toImage(picture, { format: kind, width: WIDTH, height: 560, scale: kind === "png" ? 2 : 1 });
  download(address, title, kind);
}

function wrapped(text, most) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1).length + word.length > most) lines.push("");
    lines[lines.length - 1] += word + " ";
  }
  return lines.map((line) => line.trim());
}

const INLINED = ["fill", "stroke", "stroke-width", "stroke-dasharray", "font-size", "font-family", "font-weight", "text-anchor", "opacity"];

async function saveSvg(given, title, caption, kind) {
  const copy = given.cloneNode(true);
  const [theirs, ours] = [given.querySelectorAll("*"), copy.querySelectorAll("*")];
  ours.forEach((node, at) => {
    const style = getComputedStyle(theirs[at]);
    for (const name of INLINED) node.setAttribute(name, style.getPropertyValue(name));
  });
  const [width, height] = [given.viewBox.baseVal.width, given.viewBox.baseVal.height];
  const lines = [title, ...wrapped(caption, Math.max(40, Math.floor(width / 6.2)))];
  const above = 16 * lines.length + 14;
  copy.setAttribute("viewBox", `0 ${-above} ${width} ${height + above}`);
  copy.setAttribute("width", width);
  copy.setAttribute("height", height + above);
  const colour = theme();
  const paper = document.createElementNS(copy.namespaceURI, "rect");
  for (const [name, value] of Object.entries({ x: 0, y: -above, width, height: height + above, fill: colour.paper })) paper.setAttribute(name, value);
  copy.prepend(paper);
  lines.forEach((line, at) => {
    const text = document.createElementNS(copy.namespaceURI, "text");
    for (const [name, value] of Object.entries({ x: 8, y: 18 - above + 16 * at, fill: colour.ink, "font-family": "system-ui, sans-serif", "font-size": at ? 11 : 14 })) text.setAttribute(name, value);
    text.textContent = line;
    copy.append(text);
  });
  const source = new XMLSerializer().serializeToString(copy);
  const address = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(source);
  download(kind === "svg" ? address : await asPng(address, width, height + above), title, kind);
}

async function asPng(address, width, height) {
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = el("canvas", { width: 2 * width, height: 2 * height });
  canvas.getContext("2d").drawImage(image, 0, 0, 2 * width, 2 * height);
  return canvas.toDataURL("image/png");
}

function download(address, title, kind) {
  const name = title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  const link = el("a", { href: address, download: `${name}.${kind}` });
  document.body.append(link);
  link.click();
  link.remove();
  said(`Saved as ${name}.${kind}.`);
}
