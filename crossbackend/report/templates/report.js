"use strict";
(() => {
  document.documentElement.classList.add("js");
  const all = (query, from = document) => Array.from(from.querySelectorAll(query));

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

  // All records: sort, filter, search, download.
  const table = document.getElementById("all");
  if (!table) return;
  const data = JSON.parse(document.getElementById("data").textContent);
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const words = rows.map((row) => row.textContent.toLowerCase());
  const search = document.getElementById("search");
  const selects = all(".tools select");
  const shown = document.getElementById("shown");
  const text = (row, column) => row.cells[column].textContent;

  for (const select of selects) {
    const seen = new Set(rows.map((row) => text(row, select.dataset.column)));
    for (const value of seen) select.add(new Option(value, value));
    select.addEventListener("change", filter);
  }
  search.addEventListener("input", filter);

  function filter() {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, i) => {
      const keep = wanted.every((word) => words[i].includes(word)) &&
        selects.every((s) => s.value === "" || text(row, s.dataset.column) === s.value);
      row.hidden = !keep;
      count += keep;
    });
    shown.textContent = `${count} of ${rows.length} records`;
  }

  // The number behind each column, by its name in the data.
  const behind = { 4: "rtol", 6: "error_all", 7: "forward_nfe", 8: "backward_nfe", 9: "forward_accepted",
    10: "backward_accepted", 11: "reconstruction_error", 12: "time_median_s", 13: "time_first_s",
    14: "time_compile_s", 15: "peak_memory_bytes" };
  const key = (row, column) => {
    if (!(column in behind)) return text(row, column).toLowerCase();
    return data.rows[row.dataset.i][data.columns.indexOf(behind[column])];
  };
  all("thead th", table).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      all("[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = rows.map((row) => [key(row, column), row]);
      keyed.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        const order = a < b ? -1 : a > b ? 1 : 0;
        return down ? -order : order;
      });
      body.append(...keyed.map((pair) => pair[1]));
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
    const kept = Array.from(body.rows).filter((row) => !row.hidden).map((row) => data.rows[row.dataset.i]);
    const lines = [data.columns, ...kept].map((row) => row.map(quote).join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
    link.download = "records.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  document.querySelector(".tools").hidden = false;
  filter();
})();
