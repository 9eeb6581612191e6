/* The tables that follow the seeds and methods that are switched on. */

function setRow(row, texts) {
  const cells = [...row.cells].slice(-texts.length);
  texts.forEach((text, index) => { cells[index].textContent = text; });
}

function updateResults() {
  const table = find("table.results");
  if (!table) return;
  let best = null;
  const rows = all("tbody tr", table);
  const most = Math.max(0, ...data.methods.map((_, method) => runsOf(method).length));
  rows.forEach((row, method) => {
    const runs = runsOf(method);
    row.hidden = !on.methods.has(method) || !runs.length;
    if (!runs.length) return;
    const value = mean(runs.map((run) => run.final.test_accuracy));
    const better = best === null || (panels.lower ? value < best.value : value > best.value);
    if (!row.hidden && value !== null && better) best = { value, row };
    const name = data.methods[method].name;
    find(".name", row).textContent = runs.length === most
      ? name : gettext("{method} ({count}/{most} seeds)", { method: name, count: runs.length, most });
    setRow(row, resultCells(runs, data.methods[method].learned));
  });
  rows.forEach((row) => row.classList.toggle("best", best !== null && row === best.row));
}

function resultCells(runs, learned) {
  const of = (name) => runs.map((run) => run.final[name]);
  const values = of("test_accuracy");
  let metric = plain(mean(values) === null ? null : panels.scale * mean(values), panels.digits);
  if (runs.length > 1 && mean(values) !== null) metric += ` ± ${plain(panels.scale * spread(values), panels.digits)}`;
  if (mean(values) !== null) {
    const steps = sum(of("steps")), skipped = sum(of("skipped_steps")), diverged = runs.filter((run) => run.diverged);
    if (skipped && skipped >= 0.01 * steps) {
      const share = fixed((100 * skipped) / Math.max(steps, skipped), 0);
      metric = gettext("{value} ({share} % skipped)", { value: metric, share });
    }
    if (diverged.length) metric = gettext("{value} ({count} diverged)", { value: metric, count: diverged.length });
  }
  const first = of("rho_initial").filter((rho) => rho !== null), last = of("rho_final").filter((rho) => rho !== null);
  let radius = DASH;
  if (first.length && last.length) {
    const [from, to] = [general(mean(first), 3), general(mean(last), 3)];
    radius = from === to && !learned ? from : `${from} \u2192 ${to}`;
  }
  return [
    metric, plain(mean(of("test_loss")), 3), plain(mean(of("generalization_gap")), 3), radius,
    thousands(mean(of("gradient_passes"))), plain(mean(of("seconds")), 1),
  ];
}

function methodColumns(table, first) {
  // Switch the columns of the methods; those before `first` are always shown.
  all("tr", table).forEach((row) => {
    [...row.cells].slice(first).forEach((cell, index) => { cell.hidden = !on.methods.has(predicted()[index]); });
  });
}

const found = data.predictions;
const predicted = () => [...new Set(found.runs.map((run) => run.method))];

function updateClasses() {
  const table = find("#class-table");
  if (!table) return;
  const score = find("#class-score").value;
  all("tbody tr", table).forEach((row, index) => {
    const texts = predicted().map((method) => {
      const known = runsOf(method, found.runs).map((run) => run[score][index]).filter(isNumber);
      return known.length ? fixed(100 * mean(known), 1) : DASH;
    });
    setRow(row, texts);
  });
  methodColumns(table, 2);
}

function updateConfusion() {
  const table = find("#confusion-table");
  if (!table) return;
  const runs = runsOf(Number(find("#confusion-method").value), found.runs);
  const size = found.classes.length;
  all("tbody tr", table).forEach((row, i) => {
    const counts = [...Array(size).keys()].map((j) => mean(runs.map((run) => run.confusion[i * size + j])));
    const total = sum(counts.map((count) => count || 0)) || 1;
    [...row.cells].slice(1).forEach((cell, j) => {
      const count = counts[j];
      cell.textContent = count === null ? DASH : count ? fixed(count, runs.length > 1 ? 1 : 0) : "0";
      cell.style.setProperty("--shade", ((count || 0) / total).toFixed(3));
      cell.title = gettext("{share} % of {one} are taken for {other}", {
        share: fixed((100 * (count || 0)) / total, 1), one: found.classes[i], other: found.classes[j],
      });
    });
  });
}

function expectedError(run) {
  const wrong = run.count.map((_, bin) => Math.abs(run.confidence[bin] - run.correct[bin]));
  return sum(wrong) / sum(run.count);
}

function spreadText(values, scale, digits) {
  const center = mean(values);
  if (center === null) return DASH;
  const text = fixed(scale * center, digits);
  return values.length > 1 ? `${text} ± ${fixed(scale * spread(values), digits)}` : text;
}

function updateByMethod() {
  const cells = {
    "#calibration-table": (runs) => [
      spreadText(runs.map(expectedError), 100, 2),
      fixed(100 * mean(runs.map((run) => sum(run.confidence) / sum(run.count))), 2),
      fixed(100 * mean(runs.map((run) => sum(run.correct) / sum(run.count))), 2),
    ],
    "#residual-table": (runs) => ["rmse", "mae", "r2"].map((name) => spreadText(runs.map((run) => run[name]), 1, 4)),
  };
  for (const [selector, make] of Object.entries(cells)) {
    all(`${selector} tbody tr`).forEach((row, index) => {
      const method = predicted()[index];
      const runs = runsOf(method, found.runs);
      row.hidden = !on.methods.has(method) || !runs.length;
      if (runs.length) setRow(row, make(runs));
    });
  }
}
