/* Tests under shift: figures by severity, and their tables. */

const shifts = data.shifts;
const shiftRuns = (method) => runsOf(method, shifts.runs);
const chosenQuantity = () => Number(find("#shift-quantity")?.value ?? 0);

function severityCurve(method, quantity, kinds) {
  const { factor } = shifts.quantities[quantity];
  const severities = [...new Set(kinds.flat().map(([severity]) => severity))].sort((a, b) => a - b);
  return severities.map((severity) => {
    const places = kinds.flat().filter(([one]) => one === severity).map(([, place]) => place);
    const values = shiftRuns(method).map((run) => mean(places.map((place) => run.values[quantity][place])));
    const known = values.every(isNumber) ? values.map((value) => factor * value) : [];
    return { severity, mean: mean(known), spread: spread(known) };
  }).filter((point) => point.mean !== null);
}

const shownShiftMethods = () => shifts.methods.filter((method) => on.methods.has(method) && shiftRuns(method).length);

function sharedRange(quantity) {
  const curves = shownShiftMethods().flatMap((method) => shifts.drawn.map((points) => severityCurve(method, quantity, [points])));
  const values = curves.flat().map((point) => point.mean);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = 0.05 * (high - low) || 1;
  return values.length ? { range: [low - pad, high + pad] } : {};
}

function severity(panel) {
  const small = panel.kind !== undefined;
  const quantity = small ? chosenQuantity() : panel.quantity;
  const one = shifts.quantities[quantity];
  const kinds = small ? [shifts.drawn[panel.kind]] : shifts.complete;
  const traces = [], rows = [];
  for (const index of shownShiftMethods()) {
    const method = data.methods[index], points = severityCurve(index, quantity, kinds);
    if (!points.length) continue;
    traces.push({
      type: "scatter", mode: points.length > 2 ? "lines" : "lines+markers", x: points.map((point) => point.severity),
      y: points.map((point) => point.mean), line: line(method), marker: marker(method, 7),
      customdata: points.map((point) => short(point.spread)),
      hovertemplate: `${escaped(method.name)}<br>${gettext("severity {severity}", { severity: "%{x}" })}: %{y:.4~g} ± %{customdata}<extra></extra>`,
    });
    rows.push(...points.map((point) => [method.name, point.severity, short(point.mean), short(point.spread)]));
  }
  const cut = within(traces.flatMap((trace) => trace.y), one.limit);
  const yaxis = small && one.shared ? sharedRange(quantity) : cut;
  const xaxis = { title: { text: gettext("severity") }, range: [-0.15, 5.15], dtick: 1, zeroline: false };
  const title = small ? shifts.titles[panel.kind] : one.title;
  return {
    traces, rows, layout: base({ title }, { height: small ? 230 : 320, xaxis, yaxis: small ? { ...yaxis, nticks: 5 } : yaxis }),
    head: [gettext("method"), gettext("severity"), gettext("mean"), gettext("standard deviation")],
  };
}

makers.severity = severity;

function updateShifts() {
  if (!shifts) return;
  const overKinds = (run, quantity) => mean(shifts.kinds.map((places) => mean(places.map((p) => run.values[quantity][p]))));
  all("#shift-methods tbody tr").forEach((row, index) => {
    const method = shifts.methods[index], runs = shiftRuns(method);
    row.hidden = !on.methods.has(method) || !runs.length;
    if (!runs.length) return;
    setRow(row, shifts.quantities.flatMap(({ factor, digits, corruption }, quantity) => {
      const under = runs.map((run) => overKinds(run, quantity));
      const errors = under.map((value) => (value === null ? null : 1 - value));
      const columns = [runs.map((run) => run.values[quantity][0]), under, ...(corruption ? [errors] : [])];
      return columns.map((values) => spreadText(values, factor, digits));
    }));
  });
  shifts.quantities.forEach(({ name, factor, digits }, quantity) => {
    const table = find(`#shift-${name}-table`);
    all("tbody tr", table).forEach((row, index) => {
      const places = index ? shifts.kinds[index - 1] : [0];
      setRow(row, shifts.methods.map((method) => {
        const values = shiftRuns(method).map((run) => mean(places.map((place) => run.values[quantity][place])));
        return values.length ? spreadText([mean(values)], factor, digits) : DASH;
      }));
    });
    all("tr", table).forEach((row) => {
      [...row.cells].slice(1).forEach((cell, index) => { cell.hidden = !on.methods.has(shifts.methods[index]); });
    });
  });
}
