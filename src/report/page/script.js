"use strict";
// Sorts a table by the column whose head is pressed: numbers as numbers, cells without one last, words by the
// reader's alphabet. A third press brings the file's own order back.
(() => {
  const number = text => {
    const found = /^[^\d−+\-]*([−+\-]?\d[\d,]*(?:\.\d+)?(?:e[−+\-]?\d+)?)/i.exec(text);
    return found ? Number(found[1].replace(/,/g, "").replace(/−/g, "-")) : NaN;
  };
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell ? cell.dataset.sort ?? cell.textContent.trim() : "";
  };
  const compare = (a, b, numeric, sign) => {
    if (!numeric) return sign * a.localeCompare(b, undefined, { numeric: true });
    const [x, y] = [number(a), number(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return sign * (x - y);
  };
  // Rows under a group's head stay under it.
  const groups = rows => {
    const found = [[]];
    for (const row of rows) {
      if (row.classList.contains("group")) found.push([row]);
      else found[found.length - 1].push(row);
    }
    return found;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    if (!body || !table.tHead || body.rows.length < 2) continue;
    const original = [...body.rows];
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((head, column) => {
      if (head.colSpan > 1) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const next = now === "ascending" ? "descending" : now === "descending" ? null : "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        if (!next) return body.append(...original);
        head.setAttribute("aria-sort", next);
        const keys = new Map(original.map(row => [row, key(row, column)]));
        const filled = [...keys.values()].filter(text => text !== "" && text !== "—");
        const numeric = filled.length > 0
          && filled.filter(text => /^[−+\-]?\d/.test(text)).length * 2 >= filled.length;
        const sign = next === "ascending" ? 1 : -1;
        for (const group of groups(original)) {
          const fixed = group.length > 0 && group[0].classList.contains("group") ? group.splice(0, 1) : [];
          group.sort((a, b) => compare(keys.get(a), keys.get(b), numeric, sign));
          body.append(...fixed, ...group);
        }
      });
    });
  }
})();
