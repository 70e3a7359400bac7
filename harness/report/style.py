"""The style sheet of the page and its few lines of script. Fonts are those of the reader; nothing is fetched."""

CSS = """
:root { color-scheme: light; --ink: #222; --faint: #6b6b6b; --rule: #dedad2; --paper: #fbfaf7; --accent: #b3541e; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: break-word;
  font: 17px/1.55 Charter, "Iowan Old Style", "Palatino Linotype", Palatino, Georgia, serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 96px; }
header p.kicker, nav, table, figcaption, select, label, .small, button { font-family: system-ui, sans-serif; }
p.kicker { max-width: none; margin: 0 0 8px; color: var(--faint); font-size: 14px; }
h1 { font-size: clamp(26px, 4.2vw, 42px); line-height: 1.16; margin: 0 0 16px; font-weight: 600; max-width: 24em;
  text-wrap: balance; letter-spacing: -0.01em; }
h2 { font-size: 24px; line-height: 1.25; margin: 64px 0 12px; padding-top: 12px; border-top: 1px solid var(--rule);
  font-weight: 600; }
h3 { font-size: 18px; margin: 32px 0 8px; font-weight: 600; }
p { max-width: 42em; margin: 0 0 12px; }
p.lead { font-size: 20px; }
a { color: inherit; text-decoration-color: var(--faint); text-underline-offset: 3px; }
nav { font-size: 14px; margin: 24px 0 32px; display: flex; flex-wrap: wrap; gap: 4px 18px; }
ol.findings { list-style: none; padding: 0; margin: 24px 0; max-width: 46em; }
ol.findings li { padding: 10px 0; border-top: 1px solid var(--rule); }
ol.findings li:first-child { border-left: 3px solid var(--accent); padding-left: 14px; border-top: 0; }
ol.findings .claim { display: block; color: var(--faint); font: 13px/1.4 system-ui, sans-serif; }
ul.notes { color: var(--faint); font: 14px/1.5 system-ui, sans-serif; padding-left: 18px; max-width: 56em; }
figure { margin: 20px 0 28px; min-width: 0; }
figcaption { color: var(--faint); font-size: 14px; line-height: 1.5; max-width: 56em; margin-top: 6px; }
.plot { width: 100%; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 0 28px; }
.three { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 0 20px; }
.box { overflow: auto; margin: 12px 0 20px; border: 1px solid var(--rule); background: #fff; max-width: 100%; }
.box.tall { max-height: 560px; }
table { border-collapse: separate; border-spacing: 0; font-size: 14px; line-height: 1.35;
  font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { padding: 6px 12px; text-align: left; vertical-align: top;
  border-bottom: 1px solid #eeebe4; white-space: nowrap; }
td.w { white-space: normal; min-width: 20em; max-width: 32em; overflow-wrap: anywhere; }
.formula { white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { position: sticky; top: 0; background: #f4f2ec; font-weight: 600; z-index: 1; }
tbody th { font-weight: 500; position: sticky; left: 0; background: #fff; }
thead th:first-child { left: 0; z-index: 2; }
td.n, th.n { text-align: right; }
td em { color: var(--accent); font-style: normal; }
th button { all: unset; cursor: pointer; } th button:focus-visible { outline: 2px solid var(--accent); }
th[aria-sort=ascending] button::after { content: " \\2191"; } 
th[aria-sort=descending] button::after { content: " \\2193"; }
pre { overflow: auto; background: #fff; border: 1px solid var(--rule); padding: 12px;
  font: 13px/1.5 ui-monospace, monospace; }
code { font: 0.88em ui-monospace, monospace; }
details summary { cursor: pointer; font: 15px/1.6 system-ui, sans-serif; }
select { font-size: 16px; padding: 6px 8px; border: 1px solid var(--rule); background: #fff; max-width: 100%; }
label { font-size: 14px; color: var(--faint); display: inline-flex; gap: 10px; align-items: center; flex-wrap: wrap; }
[hidden] { display: none !important; }
@media (max-width: 600px) {
  body { font-size: 16px; } main { padding: 24px 16px 64px; } p.lead { font-size: 18px; }
  h2 { margin-top: 48px; } tbody th { min-width: 6.5em; max-width: 10em; white-space: normal; overflow-wrap: normal; }
  td, th { padding: 6px 9px; }
}
@media print { .box, .box.tall { overflow: visible; max-height: none; } }
"""

JS = """
const narrow = () => window.innerWidth < 600;
function draw(holder) {
  if (holder.dataset.drawn) return;
  holder.dataset.drawn = "yes";
  const figure = JSON.parse(document.getElementById(holder.dataset.figure).textContent);
  const layout = figure.layout;
  if (narrow()) {
    layout.dragmode = false;
    layout.margin = {...layout.margin, l: 44, r: 8};
    layout.font = {...layout.font, size: 12};
    if (layout.coloraxis && layout.coloraxis.colorbar) layout.coloraxis.colorbar.len = 0.95;
  }
  Plotly.newPlot(holder, figure.data, layout, {
    responsive: true, displaylogo: false, displayModeBar: narrow() ? false : "hover", showSendToCloud: false,
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
  });
}
document.querySelectorAll("select[data-choose]").forEach((select) => {
  const show = () => document.querySelectorAll("." + select.dataset.choose).forEach((part) => {
    part.hidden = part.dataset.name !== select.value;
    if (!part.hidden) part.querySelectorAll(".plot").forEach(draw);
  });
  select.addEventListener("change", show);
  show();
});
document.querySelectorAll(".plot").forEach((holder) => { if (holder.offsetParent !== null) draw(holder); });
document.querySelectorAll("table.sortable").forEach((table) => {
  table.querySelectorAll("thead th").forEach((head, column) => head.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = table.tBodies[0], key = (row) => row.cells[column].dataset.v;
    const compare = (a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = head.classList.contains("n") ? x - y : x.localeCompare(y);
      return up ? order : -order;
    };
    body.append(...[...body.rows].sort(compare));
  }));
});
"""
