/* The figures: each function gives the traces and the layout of one, and its numbers as a table. */

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function base(panel, more = {}) {
  const axis = { gridcolor: css("--line"), zerolinecolor: css("--soft"), linecolor: css("--soft"), automargin: true };
  return {
    height: more.height || 320,
    margin: { l: 48, r: 14, t: 40, b: 44 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--text") },
    title: { text: escaped(panel.title), x: 0, xanchor: "left", xref: "container", font: { size: 14 }, pad: { l: 4 } },
    hoverlabel: { bgcolor: css("--card"), bordercolor: css("--soft"), font: { color: css("--text") }, namelength: -1 },
    showlegend: false,
    hovermode: "closest",
    dragmode: "zoom",
    xaxis: { ...axis, ...more.xaxis },
    yaxis: { ...axis, ...more.yaxis },
    shapes: more.shapes || [],
  };
}

const marker = (method, size) => ({ color: method.color, size, symbol: method.symbol, line: { width: 0 } });
const line = (method, width = method.width) => ({ color: method.color, width, dash: method.dash });
const epochs = { title: { text: gettext("epoch") }, rangemode: "tozero" };
const zero = () => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0, line: { color: css("--soft"), width: 1 } });

function within(values, limit) {
  // The range of an axis without losses of runs that diverge; a double click shows them all.
  const inside = values.filter((value) => Math.abs(value) <= limit);
  if (!isNumber(limit) || !inside.length || inside.length === values.length) return {};
  const [low, high] = [Math.min(...inside), Math.max(...inside)];
  const pad = 0.05 * (high - low) || 1;
  return { range: [low - pad, high + pad] };
}

function dots(panel) {
  const rows = shownMethods().map((index) => {
    const runs = runsOf(index).map((run) => ({ seed: run.seed, value: run.final[panel.column] }));
    const values = runs.map((run) => (isNumber(run.value) ? panel.scale * run.value : null));
    return { method: data.methods[index], runs, values, mean: mean(values) };
  }).filter((row) => row.runs.length);
  const rank = (row) => (row.mean === null ? Infinity : panel.better * -row.mean);
  rows.sort((a, b) => rank(b) - rank(a) || 0);
  const traces = [];
  for (const { method, runs, values, mean: center } of rows) {
    const y = escaped(method.name);
    traces.push({
      type: "scatter", mode: "markers", x: values, y: values.map(() => y), marker: { ...marker(method, 9), opacity: 0.6 },
      customdata: runs.map((run) => run.seed), hovertemplate: `${y}<br>${gettext("seed {seed}", { seed: "%{customdata}" })}: %{x:.4~g}<extra></extra>`,
    });
    if (center !== null) {
      traces.push({
        type: "scatter", mode: "markers", x: [center], y: [y],
        marker: { symbol: "line-ns", size: 18, line: { width: 3, color: method.color } },
        hovertemplate: `${y}<br>${gettext("mean")}: %{x:.4~g}<extra></extra>`,
      });
    }
  }
  const values = rows.flatMap((row) => row.values).filter(isNumber);
  const names = rows.map((row) => escaped(row.method.name));
  const order = {
    type: "category", categoryorder: "array", categoryarray: names, range: [-0.6, names.length - 0.4],
    tickvals: names, ticktext: rows.map((row, index) => (row.method.learned ? `<b>${names[index]}</b>` : names[index])),
    tickfont: { size: names.length > 12 ? 10 : 12 },
  };
  const cut = panel.column === "test_accuracy" ? edgeOf(rows, panel.better) : within(values, panel.limit);
  return {
    traces,
    layout: base(panel, { height: Math.max(220, 100 + 24 * names.length), yaxis: order, xaxis: { nticks: 6, ...cut } }),
    head: [gettext("method"), gettext("mean"), gettext("standard deviation"), gettext("seeds")],
    rows: [...rows].reverse().map((row) => [row.method.name, short(row.mean), short(spread(row.values)), row.runs.length]),
  };
}

function edgeOf(rows, better) {
  // As in the still figure: methods far worse than the others do not squeeze them.
  const means = rows.map((row) => row.mean).filter(isNumber).map((value) => better * value).sort((a, b) => a - b);
  const values = rows.flatMap((row) => row.values).filter(isNumber).map((value) => better * value);
  if (means.length < 4) return {};
  const quarter = means[Math.floor(means.length / 4)], best = means[means.length - 1];
  const edge = quarter - 2 * (best - quarter) - 1e-2 * Math.abs(best);
  const high = Math.max(...values);
  if (edge <= Math.min(...values)) return {};
  const ends = [edge, high + 0.05 * (high - edge)];
  return { range: better > 0 ? ends : [-ends[1], -ends[0]] };
}

function overSeeds(runs, column, scale) {
  const columns = runs.map((run) => new Map(run.curves[column][0].map((x, i) => [x, scale * run.curves[column][1][i]])));
  if (!columns.length) return [];
  const shared = [...columns[0].keys()].filter((epoch) => columns.every((one) => one.has(epoch))).sort((a, b) => a - b);
  return shared.map((epoch) => {
    const values = columns.map((one) => one.get(epoch));
    return { epoch, mean: mean(values), spread: spread(values) };
  });
}

function curves(panel) {
  const traces = [], rows = [], values = [];
  for (const index of shownMethods()) {
    const method = data.methods[index];
    const points = overSeeds(runsOf(index), panel.column, panel.scale);
    if (!points.length) continue;
    const x = points.map((point) => point.epoch), name = escaped(method.name);
    if (points.some((point) => point.spread) && (on.methods.size <= panels.bands || method.learned)) {
      const rgb = [1, 3, 5].map((start) => parseInt(method.color.slice(start, start + 2), 16));
      traces.push({
        type: "scatter", mode: "lines", hoverinfo: "skip", fill: "toself", line: { width: 0 },
        fillcolor: `rgba(${rgb},0.15)`, x: [...x, ...[...x].reverse()],
        y: [...points.map((p) => p.mean + p.spread), ...points.map((p) => p.mean - p.spread).reverse()],
      });
    }
    values.push(...points.map((point) => point.mean));
    traces.push({
      type: "scatter", mode: points.length > 1 ? "lines" : "markers", x, y: points.map((point) => point.mean),
      line: line(method), marker: marker(method, 8), customdata: points.map((point) => short(point.spread)),
      hovertemplate: `${name}<br>${gettext("epoch {epoch}", { epoch: "%{x}" })}: %{y:.4~g} ± %{customdata}<extra></extra>`,
    });
    rows.push(...points.map((p) => [method.name, p.epoch, short(p.mean), short(p.spread)]));
  }
  const cut = panel.scale === 1 ? within(values, panel.limit) : {};
  const shapes = panel.column === "generalization_gap" ? [zero()] : [];
  return {
    traces, rows, layout: base(panel, { xaxis: epochs, yaxis: cut, shapes }),
    head: [gettext("method"), gettext("epoch"), gettext("mean"), gettext("standard deviation")],
  };
}

function byRun(panel, column, change = (y) => y) {
  const traces = [], rows = [];
  for (const index of shownMethods()) {
    const method = data.methods[index];
    for (const run of runsOf(index)) {
      const [x, y] = run.curves[column];
      if (!x.length) continue;
      const style = panel.type === "radius" && !method.learned ? { ...line(method, 1.2), dash: "dot" } : line(method, 1.4);
      traces.push({
        type: "scatter", mode: x.length > 1 ? "lines" : "markers", x, y: y.map(change), line: style,
        marker: marker(method, 8), customdata: y.map((value) => short(value)),
        hovertemplate: `${gettext("{method}, seed {seed}", { method: escaped(method.name), seed: run.seed })}<br>`
          + `${gettext("epoch {epoch}", { epoch: "%{x:.3~g}" })}: %{customdata}<extra></extra>`,
      });
      rows.push([method.name, run.seed, short(y[0]), short(y[y.length - 1])]);
    }
  }
  return { traces, rows, head: [gettext("method"), gettext("seed"), gettext("first"), gettext("last")] };
}

function radius(panel) {
  const made = byRun(panel, "rho", (value) => (value > 0 ? value : null));
  const values = made.traces.flatMap((trace) => trace.y).filter(isNumber);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  [low, high] = [Math.min(low, high / 4), Math.max(high, low * 4)];  // a constant radius is a flat line
  const pad = 0.04 * Math.log10(high / low);
  const yaxis = { type: "log" };
  if (values.length) {
    const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
    const steps = last - first > 4 ? [1] : [1, 2, 5];
    yaxis.range = [Math.log10(low) - pad, Math.log10(high) + pad];
    yaxis.tickvals = [];
    for (let power = first; power <= last; power += 1) yaxis.tickvals.push(...steps.map((step) => step * 10 ** power));
    yaxis.ticktext = yaxis.tickvals.map(short);
  }
  return { ...made, layout: base(panel, { xaxis: epochs, yaxis }) };
}

function hypergradient(panel) {
  // Plotly has no symmetric logarithmic axis, so the values are mapped and the ticks are labelled here.
  const sizes = data.runs.flatMap((run) => run.curves.hypergradient[1]).map(Math.abs).filter((v) => v > 0).sort((a, b) => a - b);
  const middle = sizes.length ? sizes[Math.floor(sizes.length / 2)] : 1;
  const threshold = 10 ** Math.floor(Math.log10(middle));
  const map = (value) => Math.sign(value) * (Math.abs(value) <= threshold
    ? Math.abs(value) / threshold : 1 + Math.log10(Math.abs(value) / threshold));
  const made = byRun(panel, "hypergradient", map);
  const top = sizes.length ? Math.ceil(map(sizes[sizes.length - 1])) : 1;
  const step = Math.max(1, Math.ceil(top / 4));
  const positive = [];
  for (let power = 1; power <= top; power += step) positive.push(power);
  const ticks = [...positive.map((power) => -power).reverse(), 0, ...positive];
  const text = ticks.map((tick) => short(Math.sign(tick) * threshold * 10 ** (Math.abs(tick) - 1) * (tick ? 1 : 0)));
  return {
    ...made,
    layout: base(panel, { xaxis: epochs, yaxis: { tickvals: ticks, ticktext: text.map((t) => t.replace("-", "\u2212")) }, shapes: [zero()] }),
  };
}

function reliability(panel) {
  const traces = [{
    type: "scatter", mode: "lines", x: [0, 100], y: [0, 100], hoverinfo: "skip",
    line: { color: css("--soft"), width: 1, dash: "dot" },
  }];
  const rows = [];
  for (const index of predicted().filter((method) => on.methods.has(method))) {
    const method = data.methods[index], runs = runsOf(index, found.runs);
    if (!runs.length) continue;
    const add = (name, bin) => sum(runs.map((run) => run[name][bin]));
    const bins = runs[0].count.map((_, bin) => ({
      count: add("count", bin), confidence: add("confidence", bin), correct: add("correct", bin),
    })).filter((bin) => bin.count > 0);
    const x = bins.map((bin) => (100 * bin.confidence) / bin.count), y = bins.map((bin) => (100 * bin.correct) / bin.count);
    traces.push({
      type: "scatter", mode: "lines+markers", x, y, line: line(method),
      marker: { ...marker(method), size: bins.map((bin) => 4 + 10 * Math.sqrt(bin.count / sum(bins.map((b) => b.count)))) },
      customdata: bins.map((bin) => bin.count),
      hovertemplate: `${escaped(method.name)}<br>`
        + `${gettext("confidence {confidence} %, right {right} %", { confidence: "%{x:.1f}", right: "%{y:.1f}" })}<br>`
        + `${gettext("{count} answers", { count: "%{customdata}" })}<extra></extra>`,
    });
    bins.forEach((bin, i) => rows.push([method.name, fixed(x[i], 1), fixed(y[i], 1), bin.count]));
  }
  const range = { range: [-2, 102], dtick: 20 };
  const axes = { xaxis: { title: { text: gettext("confidence %") }, ...range }, yaxis: { title: { text: gettext("right answers %") }, ...range } };
  return { traces, rows, layout: base(panel, { height: 380, ...axes }), head: [gettext("method"), gettext("confidence %"), gettext("right %"), gettext("answers")] };
}

function classDots(panel) {
  const score = find("#class-score").value, traces = [], rows = [];
  const names = found.classes.map(escaped);
  for (const index of predicted().filter((method) => on.methods.has(method))) {
    const method = data.methods[index], runs = runsOf(index, found.runs);
    const x = found.classes.map((_, i) => {
      const known = runs.map((run) => run[score][i]).filter(isNumber);
      return known.length ? 100 * mean(known) : null;
    });
    traces.push({
      type: "scatter", mode: "markers", x, y: names, marker: { ...marker(method, 10), opacity: 0.8 },
      hovertemplate: `%{y}<br>${escaped(method.name)}: %{x:.1f} %<extra></extra>`,
    });
    x.forEach((value, i) => rows.push([found.classes[i], method.name, short(value)]));
  }
  const title = { f1: "F1", precision: gettext("Precision"), recall: gettext("Recall") }[score];
  const order = { type: "category", categoryorder: "array", categoryarray: [...names].reverse(), range: [-0.6, names.length - 0.4], dtick: 1 };
  return {
    traces, rows, head: [gettext("class"), gettext("method"), `${title} %`],
    layout: base({ title: gettext("{score} of each class (%)", { score: title }) }, { height: Math.max(240, 100 + 22 * names.length), yaxis: order }),
  };
}

function fits(panel) {
  const traces = [], rows = [];
  for (const index of predicted().filter((method) => on.methods.has(method))) {
    const method = data.methods[index], runs = runsOf(index, found.runs);
    if (!runs.length) continue;
    const y = found.targets.map((_, i) => mean(runs.map((run) => run.predicted[i])));
    traces.push({
      type: "scatter", mode: "markers", x: found.targets, y, marker: { ...marker(method, 6), opacity: 0.6 },
      hovertemplate: `${escaped(method.name)}<br>`
        + `${gettext("target {target}, predicted {predicted}", { target: "%{x:.4~g}", predicted: "%{y:.4~g}" })}<extra></extra>`,
    });
    y.forEach((value, i) => rows.push([method.name, short(found.targets[i]), short(value)]));
  }
  const ends = [Math.min(...found.targets), Math.max(...found.targets)];
  traces.push({ type: "scatter", mode: "lines", x: ends, y: ends, hoverinfo: "skip", line: { color: css("--soft"), width: 1, dash: "dot" } });
  const axes = { xaxis: { title: { text: gettext("target") } }, yaxis: { title: { text: gettext("predicted") } } };
  return { traces, rows, layout: base(panel, { height: 380, ...axes }), head: [gettext("method"), gettext("target"), gettext("predicted")] };
}

function residuals(panel) {
  const traces = [], rows = [];
  const middles = found.edges.slice(1).map((edge, i) => (edge + found.edges[i]) / 2);
  for (const index of predicted().filter((method) => on.methods.has(method))) {
    const method = data.methods[index], runs = runsOf(index, found.runs);
    if (!runs.length) continue;
    const y = middles.map((_, bin) => mean(runs.map((run) => (100 * run.counts[bin]) / sum(run.counts))));
    traces.push({
      type: "scatter", mode: "lines", x: middles, y, line: { ...line(method), shape: "hvh" },
      hovertemplate: `${escaped(method.name)}<br>`
        + `${gettext("residual {residual}: {share} % of the samples", { residual: "%{x:.3~g}", share: "%{y:.1f}" })}<extra></extra>`,
    });
    y.forEach((value, bin) => rows.push([method.name, short(middles[bin]), short(value)]));
  }
  const axes = { xaxis: { title: { text: gettext("target minus prediction") } }, yaxis: { title: { text: gettext("samples %") }, rangemode: "tozero" } };
  return { traces, rows, layout: base(panel, axes), head: [gettext("method"), gettext("residual"), gettext("samples %")] };
}

const makers = { dots, curves, radius, hypergradient, reliability, classes: classDots, fits, residuals };
