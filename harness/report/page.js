// Draws the figures when they come into view, and sorts the tables.
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
