"use strict";
// Tables are whole without this: it sorts their rows by a column, and hides those that are not asked for.

const keyOf = (row, column) => {
  const cell = row.cells[column];
  return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
};

const compare = (one, other) => {
  if (typeof one === typeof other) {
    return typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true });
  }
  return typeof one === "number" ? -1 : 1;
};

const sortBy = (table, column, ascending) => {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [keyOf(row, column), row]);
  const known = rows.filter(([key]) => key !== "").sort(([one], [other]) => compare(one, other));
  if (!ascending) known.reverse();
  const unknown = rows.filter(([key]) => key === "");
  body.append(...known.concat(unknown).map(([, row]) => row));  // empty cells come last either way
};

for (const box of document.querySelectorAll(".table-box")) {
  const table = box.querySelector("table");
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sortBy(table, column, ascending);
    });
  });
  if (!("searchable" in box.dataset)) continue;

  const rows = [...table.tBodies[0].rows];
  const search = box.querySelector("input[type=search]");
  const choices = [...box.querySelectorAll("select")];
  const count = box.querySelector("output");
  for (const choice of choices) {
    const values = new Set(rows.map((row) => row.cells[Number(choice.dataset.column)].textContent.trim()));
    const sorted = [...values].sort((one, other) => one.localeCompare(other, "en", { numeric: true }));
    choice.append(...sorted.filter((value) => value !== "").map((value) => new Option(value, value)));
  }
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let visible = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word)) && choices.every(
        (choice) => choice.value === "" || row.cells[Number(choice.dataset.column)].textContent.trim() === choice.value,
      );
      row.hidden = !fits;
      visible += fits ? 1 : 0;
    }
    count.textContent = visible === rows.length ? `${rows.length} rows` : `${visible} of ${rows.length} rows`;
  };
  for (const control of [search, ...choices]) control.addEventListener("input", show);
}

addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
