"use strict";
(() => {
  document.documentElement.classList.add("js");
  const all = (query, from = document) => Array.from(from.querySelectorAll(query));
  const within = (value, low, high) => Math.max(low, Math.min(value, high));

  // Charts: a series is shown where its backend, its norm and its stepping are switched on.
  const switches = all("[data-switch]");
  const redraw = (event) => {
    if (event) {
      const { dataset, value, checked } = event.target;
      for (const box of switches) {
        if (box.dataset.switch === dataset.switch && box.value === value) box.checked = checked;
      }
    }
    const off = { b: new Set(), n: new Set(), s: new Set() };
    switches.filter((box) => !box.checked).forEach((box) => off[box.dataset.switch].add(box.value));
    for (const mark of all(".mark")) {
      const { b, n, s } = mark.dataset;
      mark.style.display = off.b.has(b) || off.n.has(n) || off.s.has(s) ? "none" : "";
    }
  };
  switches.forEach((box) => box.addEventListener("change", redraw));
  if (switches.length) redraw();

  // Charts: values under a pointer, a finger or the arrow keys. The words are the drawing's own titles, which a
  // browser without scripts shows by itself.
  const NEAR = 24;  // pixels
  const tip = Object.assign(document.createElement("div"), { id: "tip", hidden: true });
  const said = Object.assign(document.createElement("div"), { className: "unseen" });
  said.setAttribute("role", "status");
  const known = new WeakMap();
  let shown = null;

  const pointsOf = (chart) => {
    if (!known.has(chart)) {
      known.set(chart, all("title", chart).map((title) => {
        const at = title.parentElement;
        const words = title.textContent;
        title.remove();  // or the browser would show it beside ours
        return { at, words, mark: at.closest(".mark") || at, spot: at.localName === "use" };
      }));
    }
    return known.get(chart).filter(({ mark }) => mark.style.display !== "none");
  };
  const middle = ({ at }) => {
    const box = at.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const hide = () => {
    if (!shown) return;
    shown.chart.classList.remove("reading");
    shown.point.at.classList.remove("here");
    shown.point.mark.classList.remove("here");
    tip.hidden = true;
    shown = null;
  };
  // Of bars, the one under the pointer: `BACKEND, NORM: 36 accepted` becomes `..: 3 accepted, t from 1.2 to 1.3`.
  const barUnder = ({ at, words }, event) => {
    const { low, high, counts } = at.dataset;
    if (!counts || !event) return words;
    const each = counts.split(" ");
    const box = at.getBoundingClientRect();
    const bar = within(Math.floor((event.clientX - box.x) / box.width * each.length), 0, each.length - 1);
    const edge = (k) => Number((+low + (high - low) * k / each.length).toPrecision(3));
    return `${words.replace(/: [\d.]+ /, `: ${each[bar]} `)}, t from ${edge(bar)} to ${edge(bar + 1)} (${words.match(/: ([\d.]+) /)[1]} in all)`;
  };
  const show = (chart, point, event) => {
    const text = barUnder(point, event);
    if (shown && shown.point === point && tip.textContent === text) return;
    hide();
    shown = { chart, point };
    chart.classList.add("reading");
    point.at.classList.add("here");
    point.mark.classList.add("here");
    tip.textContent = text;
    tip.hidden = false;
    const [x, y] = point.at.dataset.counts && event ? [event.clientX, event.clientY] : middle(point);
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${within(x + 14, 4, Math.max(innerWidth - width - 4, 4))}px`;
    tip.style.top = `${y - height - 12 < 4 ? y + 16 : y - height - 12}px`;
  };
  const nearest = (chart, event) => {
    let best = null;
    let least = NEAR;
    for (const point of pointsOf(chart)) {
      if (!point.spot) continue;
      const [x, y] = middle(point);
      const far = Math.hypot(x - event.clientX, y - event.clientY);
      if (far < least) [best, least] = [point, far];
    }
    return best || pointsOf(chart).find(({ at, spot }) => !spot && at.contains(event.target));
  };
  const read = new WeakMap();
  const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  for (const chart of all(".chart")) {
    if (!chart.querySelector("title")) continue;
    chart.tabIndex = 0;
    chart.setAttribute("aria-roledescription", "chart, arrow keys read its values");
    const point = (event) => {
      const found = nearest(chart, event);
      if (found) show(chart, found, event);
      else hide();
    };
    chart.addEventListener("pointermove", point);
    chart.addEventListener("pointerdown", point);
    chart.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
    chart.addEventListener("blur", hide);
    chart.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
      if (!(event.key in move)) return;
      event.preventDefault();
      const points = pointsOf(chart);
      const at = points.indexOf(read.get(chart));  // -1 where none was read yet, or its series is switched off
      const next = points[within(at + move[event.key], 0, points.length - 1)];
      if (!next) return;
      read.set(chart, next);
      show(chart, next);
      said.textContent = next.words;
    });
  }
  document.body.append(tip, said);
  document.addEventListener("pointerdown", (event) => { if (!event.target.closest(".chart")) hide(); });
  document.addEventListener("scroll", hide, { passive: true, capture: true });

  // On paper a table that opens on demand is open.
  const folds = all("details");
  let shut = [];
  addEventListener("beforeprint", () => {
    shut = folds.filter((fold) => !fold.open);
    shut.forEach((fold) => { fold.open = true; });
  });
  addEventListener("afterprint", () => shut.forEach((fold) => { fold.open = false; }));

  // All records: sort, filter, search, page by page, download.
  const whole = document.getElementById("whole");
  if (!whole) return;
  const parsed = new DOMParser().parseFromString(whole.textContent, "text/html");
  const table = document.adoptNode(parsed.getElementById("all"));
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  body.replaceChildren();
  whole.replaceWith(table);
  const data = JSON.parse(document.getElementById("data").textContent);
  // What a search looks through: every cell by itself, and the tolerances as one would type them.
  const typed = ["rtol", "atol"].map((name) => data.columns.indexOf(name));
  const words = rows.map((row, i) => [
    ...Array.from(row.cells, (cell) => cell.textContent),
    ...typed.map((at) => Number(data.rows[i][at]).toExponential()),
  ].join("\n").toLowerCase());
  const search = document.getElementById("search");
  const selects = all(".tools select");
  const [back, next] = ["back", "next"].map((id) => document.getElementById(id));
  const text = (row, column) => row.cells[column].firstChild?.textContent ?? "";
  const PAGE = 100;
  let order = rows.map((_, i) => i);
  let kept = order;
  let first = 0;

  const turn = (to) => {
    first = within(to, 0, Math.max(kept.length - 1, 0));
    first -= first % PAGE;
    const end = Math.min(first + PAGE, kept.length);
    body.replaceChildren(...kept.slice(first, end).map((i) => rows[i]));
    document.getElementById("page").textContent = kept.length ? `${first + 1} to ${end} of ${kept.length}` : "none";
    // Not `disabled`: a button that disables itself drops the focus.
    back.setAttribute("aria-disabled", first === 0);
    next.setAttribute("aria-disabled", end >= kept.length);
    table.parentElement.scrollTop = 0;
  };
  const filter = () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = selects.filter((select) => select.value !== "");
    kept = order.filter((i) => wanted.every((word) => words[i].includes(word)) &&
      chosen.every((select) => text(rows[i], select.dataset.column) === select.value));
    document.getElementById("shown").textContent = `${kept.length} of ${rows.length} records`;
    turn(0);
  };
  for (const select of selects) {
    const seen = new Set(rows.map((row) => text(row, select.dataset.column)));
    for (const value of seen) select.add(new Option(value, value));
    select.addEventListener("change", filter);
  }
  search.addEventListener("input", filter);
  const step = (by) => (event) => { if (event.target.getAttribute("aria-disabled") !== "true") turn(first + by); };
  back.addEventListener("click", step(-PAGE));
  next.addEventListener("click", step(PAGE));
  addEventListener("beforeprint", () => body.replaceChildren(...kept.map((i) => rows[i])));
  addEventListener("afterprint", () => turn(first));

  const heads = all("thead tr:last-child th", table);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    const at = data.columns.indexOf(head.dataset.key);
    const key = (i) => (at < 0 ? text(rows[i], column).toLowerCase() : data.rows[i][at]);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = rows.map((_, i) => [key(i), i]);
      keyed.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);  // what was not measured comes last
        return (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1);
      });
      order = keyed.map(([, i]) => i);
      filter();
    });
  });

  // A cell that a spreadsheet would run as a formula gets a leading apostrophe.
  const quote = (value) => {
    if (value === null) return "";
    if (typeof value === "number") return String(value);
    const safe = /^[=+\-@\t\r]/.test(value) ? "'" + value : value;
    return /[",\n\r]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
  };
  document.getElementById("csv").addEventListener("click", () => {
    const lines = [data.columns, ...kept.map((i) => data.rows[i])].map((row) => row.map(quote).join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
    link.download = "records.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);  // not before the browser has read it
  });
  all(".tools").forEach((tools) => { tools.hidden = false; });
  filter();
})();
