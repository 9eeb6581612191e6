/* Drawing, the switches of the page, and its start. */

// drawing
async function unpackedPlotly() {
  const packed = Uint8Array.from(atob(find("#plotly").textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  script.remove();
  return window.Plotly;
}

function fillNumbers(details, made) {
  const table = document.createElement("table");
  const body = [made.head, ...made.rows].map((cells, index) => {
    const row = document.createElement("tr");
    cells.forEach((text, column) => {
      const cell = document.createElement(index && column ? "td" : "th");
      cell.textContent = text;
      cell.scope = index ? "row" : "col";
      row.append(cell);
    });
    return row;
  });
  table.append(...body);
  find("div", details).replaceChildren(table);
}

function draw(Plotly, figure) {
  const panel = panels.figures[figure.dataset.figure];
  const made = makers[panel.type](panel);
  const plot = find(".plot", figure);
  const config = { responsive: true, displaylogo: false, displayModeBar: "hover", modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };
  const still = find(".still", figure);
  if (still) still.hidden = true;
  figure.hidden = false;
  plot.hidden = false;
  Plotly.react(plot, made.traces, made.layout, config);
  const details = find(".numbers", figure);
  details.hidden = false;
  details.ontoggle = () => { if (details.open) fillNumbers(details, makers[panel.type](panel)); };
  details.ontoggle();
}

function updateTables() {
  updateResults();
  updateShifts();
  if (!found) return;
  updateClasses();
  updateConfusion();
  updateByMethod();
}

// switches
function keep(theme) {
  try {
    localStorage.setItem("letsam-theme", theme);
  } catch { /* a page in a file may not have a storage */ }
}

function kept() {
  try {
    return localStorage.getItem("letsam-theme");
  } catch {
    return null;
  }
}

function setTheme(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

async function start() {
  const theme = find("#theme");
  theme.value = ["light", "dark"].includes(kept()) ? kept() : "system";
  setTheme(theme.value);
  all("[data-script]").forEach((element) => { element.hidden = false; });
  updateTables();
  let redraw = () => {};
  const change = () => { updateTables(); redraw(); };
  theme.addEventListener("change", () => { setTheme(theme.value); keep(theme.value); redraw(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());
  all(".switches input").forEach((box) => box.addEventListener("change", () => {
    const set = on[box.name];
    if (box.checked) set.add(Number(box.value));
    else if (set.size > 1) set.delete(Number(box.value));
    else box.checked = true;  // nothing would be left to show
    change();
  }));
  all("#class-score, #confusion-method, #shift-quantity").forEach((select) => select.addEventListener("change", change));
  let Plotly;
  try {
    Plotly = await unpackedPlotly();
  } catch {
    return;  // a browser that cannot unpack it keeps the still pictures
  }
  all("[data-still]").forEach((element) => { element.hidden = true; });
  const figures = all("figure[data-figure]");
  redraw = () => figures.forEach((figure) => draw(Plotly, figure));
  redraw();
  document.documentElement.dataset.ready = "yes";
}

start();
