// Tables whose columns can be sorted, by mouse and by keyboard; on a phone each row is a card.

// A page of a table, on a phone and elsewhere.
const ROWS = { narrow: 6, wide: 25 };
const narrow = matchMedia("(max-width: 720px)");

// `pages`: what the ids of the buttons for its pages begin with; without, all rows are shown.
// `columns`: [{key, label, number, cell(item) → text or element, sort(item)}]; without `sort` a column cannot be sorted.
class Table {
  constructor({ label, columns, keyOf, sorted, descending = false, onSort = () => {}, pages = "" }) {
    Object.assign(this, { columns, keyOf, sorted, descending, onSort, pages, items: [], from: 0 });
    if (pages) {
      for (const [id, way] of [["before", -1], ["after", 1]]) byId(`${pages}-${id}`).addEventListener("click", () => this.turn(way));
      narrow.addEventListener("change", () => this.show(this.items, true));
    }
    this.headers = new Map();
    const row = make("tr", { role: "row" });
    for (const column of columns) {
      const header = make("th", { scope: "col", role: "columnheader", class: column.number ? "number" : "" });
      if (column.sort) {
        const button = make("button", { type: "button", on: { click: () => this.choose(column) } },
          column.label, make("span", { class: "arrow", "aria-hidden": "true" }));
        header.append(button);
      } else {
        header.append(make("span", {}, column.label));
      }
      this.headers.set(column.key, header);
      row.append(header);
    }
    this.body = make("tbody", { role: "rowgroup" });
    this.hold = new Hold(this.body);
    // The roles are explicit: displayed as cards, CSS no longer treats them as a table.
    this.element = make("table", { role: "table", "aria-label": label }, make("thead", { role: "rowgroup" }, row), this.body);
    this.mark();
  }

  choose(column) {
    if (this.sorted === column.key) this.descending = !this.descending;
    else { this.sorted = column.key; this.descending = Boolean(column.number); }
    this.from = 0;
    this.mark();
    this.show(this.items, true);
    this.onSort();
  }

  // To another page.
  turn(way) {
    const from = this.from + way * this.rows;
    if (from < 0 || from >= this.items.length) return;
    this.from = from;
    this.show(this.items, true);
  }

  get rows() {
    return narrow.matches ? ROWS.narrow : ROWS.wide;
  }

  // The rows of the page that is shown. The page may be gone, or have begun elsewhere before the window was turned.
  page(ordered) {
    if (!this.pages) return ordered;
    const { rows, pages } = this;
    this.from = this.from < ordered.length ? this.from - this.from % rows : 0;
    const shownRows = ordered.slice(this.from, this.from + rows);
    tell(byId(`${pages}-where`), ordered.length > rows ? `${number(this.from + 1)} to ${number(this.from + shownRows.length)} of ${number(ordered.length)}` : "");
    for (const [id, off] of [["before", this.from === 0], ["after", this.from + rows >= ordered.length]]) {
      const button = byId(`${pages}-${id}`);
      button.hidden = ordered.length <= rows;
      // Not `disabled`: the focus would be lost on the last page.
      set(button, { "aria-disabled": off ? "true" : null });
    }
    return shownRows;
  }

  mark() {
    for (const [key, header] of this.headers) {
      const chosen = key === this.sorted;
      set(header, { "aria-sort": chosen ? (this.descending ? "descending" : "ascending") : null });
      const arrow = header.querySelector(".arrow");
      if (arrow) tell(arrow, chosen ? (this.descending ? " ↓ " : " ↑ ") : "");
    }
  }

  hide(key, hidden) {
    this.headers.get(key).hidden = hidden;
    this.hidden = hidden ? key : null;
  }

  // While a row is pointed at, or has the focus, rows only change where they are; `asked`: the person wants other ones.
  show(items, asked = false) {
    this.items = items;
    if (!asked && this.hold.held && this.body.firstChild) {
      const rows = kept.get(this.body);
      for (const item of items) if (rows.has(this.keyOf(item))) this.fill(rows.get(this.keyOf(item)), item);
      return;
    }
    const by = this.columns.find((column) => column.key === this.sorted)?.sort;
    const ordered = by ? items.map((item) => [by(item), item]).sort(([a], [b]) => compare(a, b)).map(([, item]) => item) : [...items];
    if (by && this.descending) ordered.reverse();
    reconcile(this.body, this.page(ordered), this.keyOf, () => this.row(), (row, item) => this.fill(row, item));
  }

  row() {
    return make("tr", { role: "row" }, ...this.columns.map((column) =>
      make("td", { role: "cell", "data-label": column.label, class: column.number ? "number" : "" })));
  }

  fill(row, item) {
    this.columns.forEach((column, index) => {
      const cell = row.children[index];
      cell.hidden = this.hidden === column.key;
      const content = column.cell(item);
      if (content instanceof Node) {
        if (cell.contains(document.activeElement) && cell !== document.activeElement) return;
        if (cell.textContent !== content.textContent || !cell.firstElementChild) cell.replaceChildren(content);
      } else {
        tell(cell, content);
      }
      if (column.tone) cell.className = `${column.number ? "number " : ""}${column.tone(item)}`;
    });
  }
}

function compare(a, b) {
  if (typeof a === "number") return a - b;
  return a < b ? -1 : a > b ? 1 : 0;
}
