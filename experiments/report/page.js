"use strict";
// Tables sort by a button in each head; on paper everything that can be opened is open.
(() => {
  const numeric = (cell) => (cell.dataset.value === undefined ? NaN : Number(cell.dataset.value));

  const compare = (a, b, down) => {
    const [x, y] = [numeric(a), numeric(b)];
    if (Number.isNaN(x) && Number.isNaN(y)) {
      const order = a.textContent.localeCompare(b.textContent, "en", { numeric: true });
      return down ? -order : order;
    }
    if (Number.isNaN(x)) return 1; // what has no number stays at the end
    if (Number.isNaN(y)) return -1;
    return down ? y - x : x - y;
  };

  const sort = (head, original) => {
    const place = head.cellIndex;
    const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort") ?? "none"];
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    const rows = [...original];
    if (next !== "none") {
      head.setAttribute("aria-sort", next);
      rows.sort((a, b) => compare(a.cells[place], b.cells[place], next === "descending"));
    }
    head.closest("table").tBodies[0].append(...rows);
  };

  for (const table of document.querySelectorAll("table")) {
    const original = [...table.tBodies[0].rows];
    if (original.length < 2) continue;
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(head, original));
    }
  }

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const each of closed) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of closed) each.open = false;
  });
})();
