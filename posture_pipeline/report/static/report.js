// What the report pages do beside standing there: charts, sorting, filters, printing.
// All text comes from the page or its data block and is only ever set as text.
(() => {
  "use strict";
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const data = JSON.parse(document.getElementById("data").textContent);
  const DAY = 86400000;
  const start = Date.parse(data.first + "T00:00:00Z");
  const days = Array.from({ length: data.days }, (_, i) =>
    new Date(start + i * DAY).toISOString().slice(0, 10));
  const SIGNS = ["circle", "rect", "triangle", "rectRot", "star", "crossRot"];
  const DASHES = [[], [7, 3], [2, 2], [9, 3, 2, 3], [4, 4], [1, 3]];
  const SEVERITIES = ["critical", "high", "medium", "low"];
  let range = 90;
  let drawn = [];

  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const shown = (value) => value === null ? "no score" : String(value);

  // --- charts ---------------------------------------------------------------------------------

  function gauge(canvas) {
    const score = canvas.dataset.score === "" ? null : Number(canvas.dataset.score);
    const value = score === null
      ? { data: [0, 100], backgroundColor: [colour("none-arc"), colour("grid")] }
      : { data: [score, 100 - score],
          backgroundColor: [colour(canvas.dataset.band + "-arc"), colour("grid")] };
    return new Chart(canvas, {
      type: "doughnut",
      data: { datasets: [
        { label: "bands", weight: 1, borderWidth: 1, borderColor: colour("card"),
          data: [data.red, data.amber - data.red, 100 - data.amber],
          backgroundColor: ["red-arc", "amber-arc", "green-arc"].map(colour) },
        { label: "gap", weight: 0.4, borderWidth: 0, data: [100],
          backgroundColor: ["transparent"] },
        { label: "score", weight: 3, borderWidth: 0, ...value },
      ] },
      options: {
        rotation: -90, circumference: 180, cutout: "64%", animation: false, events: [],
        responsive: true, maintainAspectRatio: false,
        plugins: { legend: { display: false }, tooltip: { enabled: false } },
      },
    });
  }

  const from = () => Math.max(0, data.days - range);

  // A reader sees 95 as the top of a scale that ends there: room is left below the lowest value.
  function lowest(lines) {
    const values = lines.flatMap((line) => line.values.slice(from())).filter((v) => v !== null);
    return values.length ? Math.max(0, Math.floor((Math.min(...values, data.red) - 2) / 5) * 5) : 0;
  }

  function threshold(name, value, length) {
    return { type: "line", label: name, data: Array(length).fill(value), pointRadius: 0,
             pointHitRadius: 0, pointHoverRadius: 0, borderWidth: 1, borderDash: [3, 3], borderColor: colour(name + "-arc"),
             rule: true, order: 9 };
  }

  function scores(canvas, chart) {
    const first = from();
    const labels = days.slice(first);
    const low = lowest(chart.lines);
    const few = labels.length <= 45;
    // A day between two without a score has no line to either: it is shown as a point.
    const alone = ({ dataset, dataIndex: i }) =>
      (dataset.data[i - 1] ?? null) === null && (dataset.data[i + 1] ?? null) === null;
    const datasets = chart.lines.map((line, i) => ({
      type: "line", label: line.name, data: line.values.slice(first), clip: 8,
      borderColor: colour("line-" + i % 6), backgroundColor: colour("line-" + i % 6),
      borderDash: DASHES[i % 6], borderWidth: 2, tension: 0, pointStyle: SIGNS[i % 6],
      pointRadius: (point) => few || alone(point) ? 3 : 0, pointHoverRadius: 5, order: 2,
    }));
    const marks = new Map(chart.marks.filter(([day]) => day >= first)
      .map(([day, text]) => [day - first, text]));
    if (marks.size) {
      datasets.push({
        type: "bar", label: "control set or method changed", texts: marks, order: 5, barThickness: 1.5, minBarLength: 0,
        data: labels.map((_, i) => marks.has(i) ? [low, 100] : null),
        backgroundColor: colour("muted"), pointStyle: "rectRot",
      }, {
        type: "line", label: "control set or method changed", texts: marks, order: 1, showLine: false, rule: true,
        data: labels.map((_, i) => marks.has(i) ? 100 : null), pointStyle: "rectRot",
        pointRadius: 5, pointHitRadius: 8, backgroundColor: colour("muted"),
        borderColor: colour("card"), clip: false,
      });
    }
    datasets.push(threshold("red", data.red, labels.length),
                  threshold("green", data.amber, labels.length));
    return draw(canvas, labels, datasets, { min: low, max: 100 }, (item) =>
      item.dataset.texts ? item.dataset.texts.get(item.dataIndex)
        : item.dataset.label + ": " + item.parsed.y, chart.missing);
  }

  function counts(canvas, chart) {
    const first = from();
    const labels = days.slice(first);
    const datasets = chart.lines.map((line, i) => ({
      type: "bar", label: line.name, data: line.values.slice(first), stack: "findings",
      backgroundColor: colour(SEVERITIES[i]), borderWidth: 0, barPercentage: 1,
      categoryPercentage: labels.length > 45 ? 1 : 0.8, maxBarThickness: 26,
    }));
    return draw(canvas, labels, datasets, { beginAtZero: true, stacked: true, ticks: { precision: 0 } },
      (item) => item.dataset.label + ": " + item.parsed.y, chart.missing);
  }

  function draw(canvas, labels, datasets, y, label, missing) {
    const why = new Map(missing.map(([day, text]) => [day - data.days + labels.length, text]));
    const text = colour("muted");
    const grid = { color: colour("grid") };
    return new Chart(canvas, {
      data: { labels, datasets },
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, color: colour("text"),
        layout: { padding: { top: 6, right: 8 } },
        interaction: { mode: "index", intersect: false },
        scales: {
          x: { stacked: Boolean(y.stacked), grid: { display: false }, border: grid,
               ticks: { color: text, maxRotation: 0, autoSkipPadding: 14 } },
          y: { ...y, grid, border: { display: false }, ticks: { ...y.ticks, color: text } },
        },
        plugins: {
          legend: { position: "bottom", onClick: null,
            labels: { color: colour("text"), usePointStyle: true, boxHeight: 7, padding: 14,
              filter: (item, of) => !of.datasets[item.datasetIndex].rule } },
          tooltip: { usePointStyle: true,
            callbacks: { label, footer: ([item]) => item ? why.get(item.dataIndex) : undefined },
            filter: ({ dataset, dataIndex }) => !dataset.rule
              && (!dataset.texts || dataset.texts.has(dataIndex)) },
        },
      },
    });
  }

  function drawAll() {
    drawn.forEach((chart) => chart.destroy());
    drawn = all("canvas[data-score]").map(gauge);
    for (const chart of data.charts) {
      const canvas = document.getElementById(chart.id);
      if (canvas) drawn.push((chart.kind === "score" ? scores : counts)(canvas, chart));
    }
    all("details.figures[open]").forEach(figures);
  }

  // The same numbers as a table, for those who cannot hover; made when it is opened.
  function figures(details) {
    const chart = data.charts.find((each) => each.id === details.dataset.chart);
    const table = document.createElement("table");
    const cell = (row, tag, text, scope) => {
      const made = row.appendChild(document.createElement(tag));
      made.textContent = text;
      if (scope) made.scope = scope; else made.className = "num";
    };
    const head = table.createTHead().insertRow();
    cell(head, "th", "Day", "col");
    chart.lines.forEach((line) => cell(head, "th", line.name, "col"));
    const marks = new Map([...chart.missing, ...chart.marks]);
    for (const [day, text] of chart.missing) {
      if (marks.get(day) !== text) marks.set(day, marks.get(day) + "; " + text);
    }
    if (marks.size) cell(head, "th", "Remark", "col");
    const body = table.createTBody();
    for (let i = data.days - 1; i >= from(); i -= 1) {
      if (chart.lines.every((line) => line.values[i] === null) && !marks.has(i)) continue;
      const row = body.insertRow();
      cell(row, "th", days[i], "row");
      chart.lines.forEach((line) => cell(row, "td", shown(line.values[i])));
      if (marks.size) cell(row, "td", marks.get(i) || "");
    }
    details.querySelector(".scroll").replaceChildren(table);
  }

  // --- tables ---------------------------------------------------------------------------------

  // Narrow screens show a row as a block: then cells need their role said, and their heading.
  function labelled(table) {
    const headings = all("thead th", table).map((each) => each.textContent);
    for (const row of table.tBodies[0].rows) {
      row.setAttribute("role", "row");
      for (const cell of row.cells) {
        const first = cell.tagName === "TH";
        cell.setAttribute("role", first ? "rowheader" : "cell");
        if (cell.matches(".heat-cell, .num")) cell.dataset.label = headings[cell.cellIndex];
      }
    }
  }

  function sortable(table) {
    const body = table.tBodies[0];
    all("thead th[data-sort]", table).forEach((heading) => {
      const column = heading.cellIndex;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.textContent = heading.textContent;
      heading.replaceChildren(button);
      button.addEventListener("click", () => {
        const up = heading.getAttribute("aria-sort") !== "ascending";
        all("thead th", table).forEach((each) => each.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
        const value = (row) => {
          const cell = row.cells[column];
          if (heading.dataset.sort === "text") return cell.textContent.trim().toLowerCase();
          return cell.dataset.value === "" ? null : Number(cell.dataset.value);
        };
        const rows = [...body.rows].map((row) => [value(row), row]);
        // What has no score is last either way: it is neither low nor high.
        rows.sort(([a], [b]) => a === b ? 0 : a === null ? 1 : b === null ? -1
          : (a < b ? -1 : 1) * (up ? 1 : -1));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  function filterable(table) {
    const form = document.getElementById("filters");
    const [text, environment, band] = ["f-text", "f-environment", "f-band"]
      .map((id) => document.getElementById(id));
    const count = document.getElementById("f-count");
    const apply = () => {
      const wanted = text.value.trim().toLowerCase();
      let kept = 0;
      for (const row of table.tBodies[0].rows) {
        const fits = row.cells[0].textContent.toLowerCase().includes(wanted)
          && (!environment.value || row.cells[1].textContent === environment.value)
          && (!band.value || row.dataset.bands.split(" ").includes(band.value));
        row.hidden = !fits;
        kept += fits;
      }
      count.textContent = kept + " of " + table.tBodies[0].rows.length + " shown";
    };
    form.hidden = false;
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }

  function choosable(form) {
    const report = document.getElementById("c-report");
    const environment = document.getElementById("c-environment");
    const apply = () => {
      all("[data-report], [data-reports], [data-environment]", document.querySelector("main"))
        .forEach((each) => {
          const reports = (each.dataset.reports || each.dataset.report || "").split(" ");
          each.hidden = Boolean(report.value && reports[0] && !reports.includes(report.value))
            || Boolean(environment.value && each.dataset.environment
                       && each.dataset.environment !== environment.value);
        });
    };
    form.hidden = false;
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }

  // --- the page -------------------------------------------------------------------------------

  function chooseRange(value) {
    range = value;
    all("[data-range]").forEach((button) =>
      button.setAttribute("aria-pressed", String(Number(button.dataset.range) === range)));
    drawAll();
  }

  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  Chart.defaults.font.size = 12;
  all("[data-range]").forEach((button) =>
    button.addEventListener("click", () => chooseRange(Number(button.dataset.range))));
  all("details.figures").forEach((details) =>
    details.addEventListener("toggle", () => { if (details.open) figures(details); }));
  const heat = document.getElementById("heat");
  if (heat) { labelled(heat); sortable(heat); filterable(heat); }
  const choose = document.getElementById("choose");
  if (choose) choosable(choose);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

  // Paper is white, and cannot be unfolded.
  let unfolded = [];
  addEventListener("beforeprint", () => {
    root.dataset.theme = "light";
    unfolded = all("details.block:not(.small):not(.long):not([open])");
    unfolded.forEach((details) => { details.open = true; });
    drawAll();
  });
  addEventListener("afterprint", () => {
    delete root.dataset.theme;
    unfolded.forEach((details) => { details.open = false; });
    drawAll();
  });
  drawAll();
})();
