"use strict";
// Tables that sort and filter: those of macros.html's `grid`, with the rows that are not in the document from data.
// A row source has `length`, `element(i)`, `keys(column)` to sort by, `texts(column)` and `search(words)`.

const Tables = (() => {
  const SHOWN = 200; // rows at first
  const ALL = 5000; // so many can be shown at once
  const STEP = 1000; // of more, these many more at a time
  const FACETS = ["dataset", "features", "llm", "backbone", "origin"];
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const grouped = new Intl.NumberFormat("en-US");

  /** An element; attributes that are null or false are left out, children are elements or text. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== false && value !== "") element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  }

  function drawn(tag, attributes) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  /** A cell as rows.html has it. cell: [text, value, sub, style, notes, href, span], which may end early. */
  function drawCell(cell, { kind = "text", isHead = false, opens = "", notes = "" }) {
    const [text, value = null, sub = "", style = "", marks = [], href = "", span = null] = cell;
    const element = make(isHead ? "th" : "td", {
      scope: isHead ? "row" : null,
      class: kind === "text" ? null : kind,
      "data-v": value,
    });
    if (opens) {
      const label = `Runs of ${opens}`;
      element.append(make("button", { type: "button", class: "open js", "aria-expanded": "false", "aria-label": label }));
    }
    if (span) {
      const svg = drawn("svg", { class: "span", viewBox: "0 0 100 10", "aria-hidden": "true" });
      svg.append(drawn("path", { d: `M${span[0]} 5H${span[2]}` }), drawn("circle", { cx: span[1], cy: 5, r: 3 }));
      element.append(svg);
    }
    if (href) element.append(make("a", { class: "m", href }, text));
    else if (style || sub || marks.length || span || opens) {
      element.append(make("span", { class: style ? `m ${style}` : "m" }, text));
    } else element.append(text);
    if (sub) element.append(" ", make("small", {}, sub));
    for (const number of marks) {
      const link = make("a", { href: `#${notes}-note-${number}`, "aria-label": `Note ${number}` }, String(number));
      element.append(make("sup", {}, link));
    }
    return element;
  }

  const isText = (kind) => kind === "text" || kind === "long";

  function mainText(element) {
    return (element.querySelector(".m") ?? element).textContent;
  }

  /** Numbers to sort texts by, equal for equal texts; NaN for empty ones. */
  function textKeys(texts) {
    const distinct = [...new Set(texts)];
    // The collator knows that 10 comes after 9, but takes seconds for a hundred thousand ids.
    const compare = distinct.length > 20000 ? (a, b) => (a < b ? -1 : a > b ? 1 : 0) : collator.compare;
    distinct.sort(compare);
    const places = new Map();
    let place = -1;
    distinct.forEach((text, i) => {
      if (i === 0 || compare(text, distinct[i - 1]) !== 0) place = i;
      places.set(text, text === "" ? NaN : place);
    });
    return Float64Array.from(texts, (text) => places.get(text));
  }

  /** The rows in the document, then those of `rest`: [name, key, style, cells], a cell its text or a list. */
  class DocumentRows {
    constructor(table, columns, rest) {
      this.table = table;
      this.columns = columns;
      this.elements = Array.from(table.tBodies[0].rows);
      this.known = this.elements.length;
      this.rest = rest;
      this.length = this.known + rest.length;
      this.cache = new Map();
    }

    element(i) {
      this.elements[i] ??= this.draw(this.rest[i - this.known]);
      return this.elements[i];
    }

    draw([name, key, style, cells]) {
      const row = make("tr", { class: style, "data-row": key >= 0 ? key : null });
      const { head, notes } = this.table.dataset;
      cells.forEach((cell, i) => {
        const options = { kind: this.columns[i].kind, isHead: i === Number(head), notes };
        if (i === 0 && key >= 0) options.opens = name;
        row.append(drawCell(typeof cell === "string" ? [cell] : cell, options));
      });
      return row;
    }

    cached(what, column, compute) {
      const name = `${what} ${column}`;
      if (!this.cache.has(name)) this.cache.set(name, compute());
      return this.cache.get(name);
    }

    texts(column) {
      return this.cached("texts", column, () => [
        ...this.elements.slice(0, this.known).map((row) => mainText(row.cells[column])),
        ...this.rest.map(([, , , cells]) => (typeof cells[column] === "string" ? cells[column] : cells[column][0])),
      ]);
    }

    keys(column) {
      return this.cached("keys", column, () => {
        if (isText(this.columns[column].kind)) return textKeys(this.texts(column));
        return Float64Array.from([
          ...this.elements.slice(0, this.known).map((row) => Number(row.cells[column].dataset.v ?? NaN)),
          ...this.rest.map(([, , , cells]) => Number(typeof cells[column] === "string" ? NaN : cells[column][1] ?? NaN)),
        ]);
      });
    }

    search(words) {
      const haystack = this.cached("haystack", "", () => {
        const { dataset = "", origin = "" } = this.table.dataset;
        const where = `${dataset} ${origin} ${this.table.caption.textContent}`;
        const rows = [
          ...this.elements.slice(0, this.known).map((row) => Array.from(row.cells, (cell) => cell.textContent)),
          ...this.rest.map(([, , , cells]) =>
            cells.map((cell) => (typeof cell === "string" ? cell : `${cell[0]} ${cell[2] ?? ""}`)),
          ),
        ];
        return rows.map((cells) => `${where} ${cells.join(" ")}`.toLowerCase());
      });
      return (i) => words.every((word) => haystack[i].includes(word));
    }
  }

  class Grid {
    /** rows: (table, columns) to a row source. detail: (row key) to what an opened row shows. */
    constructor(table, rows, detail = null) {
      this.table = table;
      this.body = table.tBodies[0];
      this.heads = Array.from(table.tHead.rows[0].cells);
      this.columns = this.heads.map((head) => ({ ...head.dataset }));
      this.rows = rows(table, this.columns);
      this.block = table.closest(".block");
      this.note = this.block.querySelector(".rank-note");
      this.more = this.block.querySelector(".more");
      this.counted = "counted" in table.dataset;
      this.detail = detail;
      this.opened = new Map(); // row element to the element with its details
      this.order = Uint32Array.from({ length: this.rows.length }, (_, i) => i);
      this.mask = null; // of the rows that the filter lets through; null: all
      this.limit = SHOWN;
      this.heads.forEach((head, i) => head.querySelector("button").addEventListener("click", () => this.sortBy(i)));
      this.body.addEventListener("click", (event) => {
        const button = event.target.closest("button.open");
        if (button) this.toggle(button);
      });
      this.body.addEventListener("keydown", (event) => this.escape(event));
      this.drawMore(this.rows.length);
    }

    column(key) {
      return this.columns.findIndex((column) => column.key === key);
    }

    sortBy(column) {
      const descending = this.heads[column].getAttribute("aria-sort") === "ascending";
      this.heads.forEach((head) => head.removeAttribute("aria-sort"));
      this.heads[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
      const keys = this.rows.keys(column);
      const sign = descending ? -1 : 1;
      // Empty cells last, either way; equal ones in the order of the page.
      this.order = Uint32Array.from({ length: this.rows.length }, (_, i) => i).sort((a, b) => {
        const x = keys[a];
        const y = keys[b];
        if (x === y) return a - b;
        if (Number.isNaN(x)) return Number.isNaN(y) ? a - b : 1;
        return Number.isNaN(y) ? -1 : sign * (x - y);
      });
      this.render();
    }

    /** Lets through what matches: words, all of which a row must hold, and values of facets. */
    filter({ words, facets }) {
      const tests = [];
      for (const [facet, value] of Object.entries(facets)) {
        const column = this.columns.findIndex((one) => one.facet === facet);
        if (this.table.dataset[facet]) {
          const matches = this.table.dataset[facet] === value;
          tests.push(() => matches);
        } else if (column >= 0) {
          const texts = this.rows.texts(column);
          tests.push((i) => texts[i] === value);
        } // else the table does not know this facet, and holds for all its values
      }
      if (words.length) tests.push(this.rows.search(words));
      const before = this.mask;
      this.mask = tests.length ? Uint8Array.from(this.order, (_, i) => (tests.every((test) => test(i)) ? 1 : 0)) : null;
      if (this.mask || before) {
        this.limit = SHOWN;
        this.render();
      }
    }

    /** Places of the rows that the filter lets through, in the order of the page. */
    shown() {
      return this.mask ? this.order.filter((i) => this.mask[i]) : this.order;
    }

    render() {
      const shown = this.shown();
      const elements = [];
      const ranks = this.ranks(shown);
      for (const i of shown.subarray(0, this.limit)) {
        const row = this.rows.element(i);
        if (ranks) this.showRank(row, ranks.get(i));
        elements.push(row);
        if (this.opened.has(row)) elements.push(this.opened.get(row));
      }
      this.body.replaceChildren(...elements);
      this.block.hidden = this.mask !== null && shown.length === 0;
      this.drawMore(shown.length);
      this.drawNote(shown.length);
    }

    /** Each row's rank: as computed for the whole table, or among the rows shown; null for a table without ranks. */
    ranks(shown) {
      const column = this.column(this.table.dataset.rank);
      if (column < 0) return null;
      const own = this.rows.keys(column);
      const ranked = Array.from(shown).filter((i) => !Number.isNaN(own[i]));
      if (!this.mask) return new Map(ranked.map((i) => [i, own[i]]));
      const by = this.rows.keys(this.column(this.table.dataset.rankBy));
      const sign = this.table.dataset.rankOrder === "descending" ? -1 : 1;
      ranked.sort((a, b) => sign * (by[a] - by[b]));
      const ranks = new Map();
      ranked.forEach((i, place) => {
        const before = ranked[place - 1];
        ranks.set(i, place && by[before] === by[i] ? ranks.get(before) : place + 1);
      });
      return ranks;
    }

    showRank(row, rank) {
      const cell = row.cells[this.column(this.table.dataset.rank)];
      const place = cell.querySelector(".m") ?? cell;
      const text = rank === undefined ? "" : String(rank);
      if (place.textContent !== text) place.textContent = text;
    }

    drawNote(count) {
      const ranked = Boolean(this.table.dataset.rank);
      this.table.classList.toggle("filtered", this.mask !== null);
      this.note.hidden = !(ranked && this.mask);
      if (this.note.hidden) return;
      const rows = `${grouped.format(count)} ${count === 1 ? "row" : "rows"}`;
      this.note.textContent =
        `Filtered: rank among the ${rows} shown, of ${grouped.format(this.rows.length)}. ` +
        "What else compares rows (p, bold and underlined, fronts) is of the whole table; intervals of ranks are hidden.";
    }

    drawMore(count) {
      const { unit } = this.table.dataset;
      this.more.replaceChildren();
      this.more.hidden = count <= this.limit;
      if (this.more.hidden) return;
      const all = count <= ALL;
      const button = make("button", { type: "button" }, all ? `Show all ${grouped.format(count)} ${unit}` : `Show ${grouped.format(STEP)} more`);
      button.addEventListener("click", () => {
        const first = this.limit;
        this.limit = all ? Infinity : this.limit + STEP;
        this.render();
        // The button may be gone: go on reading where the new rows begin.
        this.rows.element(this.shown()[first])?.querySelector("a, button")?.focus({ preventScroll: true });
      });
      this.more.append(`${grouped.format(this.limit)} of ${grouped.format(count)} ${unit} `, button);
    }

    toggle(button) {
      const row = button.closest("tr");
      const open = !this.opened.has(row);
      button.setAttribute("aria-expanded", String(open));
      if (!open) {
        this.opened.get(row).remove();
        this.opened.delete(row);
        return;
      }
      const cell = make("td", { colspan: this.heads.length });
      cell.append(make("div", { class: "inside" }, this.detail(Number(row.dataset.row))));
      const details = make("tr", { class: "details" });
      details.append(cell);
      this.opened.set(row, details);
      row.after(details);
    }

    /** Escape in an opened row, or in what it shows, closes it. */
    escape(event) {
      if (event.key !== "Escape") return;
      const owner = event.target.closest("tr.details")?.previousElementSibling ?? event.target.closest("tr");
      if (!this.opened.has(owner)) return;
      const button = owner.querySelector("button.open");
      this.toggle(button);
      button.focus();
      event.preventDefault();
    }
  }

  /** The part of the address behind #: a place on the page, then `&name=value` for what the filter holds. */
  const address = {
    read() {
      const values = {};
      let place = "";
      for (const part of location.hash.slice(1).split("&").filter(Boolean)) {
        const at = part.indexOf("=");
        if (at < 0) place = part;
        else values[part.slice(0, at)] = decoded(part.slice(at + 1));
      }
      return { place, values };
    },
    text(place, values) {
      const pairs = Object.entries(values).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
      const parts = [place, ...pairs].filter(Boolean);
      return parts.length ? `#${parts.join("&")}` : location.href.split("#")[0];
    },
    replace(place, values) {
      history.replaceState(null, "", address.text(place, values));
    },
  };

  function decoded(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return text; // a lone % from a hand-made link
    }
  }

  /** The form that filters all grids, and the address that says what it holds. */
  class Filters {
    /** onPlace: told the place in the address whenever it may have changed. */
    constructor(form, grids, onPlace = () => {}) {
      this.form = form;
      this.grids = grids;
      this.onPlace = onPlace;
      this.output = form.querySelector("output");
      let timer = 0;
      form.addEventListener("input", (event) => {
        clearTimeout(timer);
        timer = setTimeout(() => this.changed(), event.target.type === "search" ? 120 : 0);
      });
      form.addEventListener("submit", (event) => event.preventDefault());
      form.addEventListener("reset", () => setTimeout(() => this.changed()));
      document.addEventListener("click", (event) => this.follow(event));
      addEventListener("hashchange", () => this.read());
      // What a link leads to must not lie below the form, which stays in sight where there is room.
      new ResizeObserver(() => {
        const stays = getComputedStyle(form).position === "sticky";
        document.documentElement.style.scrollPaddingTop = stays ? `${form.offsetHeight + 12}px` : "";
      }).observe(form);
      this.read();
    }

    values() {
      const found = {};
      for (const field of this.form.elements) if (field.name && field.value.trim()) found[field.name] = field.value.trim();
      return found;
    }

    changed() {
      const { place } = address.read();
      address.replace(place.startsWith("run-") ? "" : place, this.values());
      this.apply();
    }

    read() {
      const { place, values } = address.read();
      for (const field of this.form.elements) {
        if (!field.name) continue;
        field.value = Object.hasOwn(values, field.name) ? values[field.name] : "";
        if (field.value === "" && field.options) field.selectedIndex = 0; // a value that the page does not have
      }
      this.apply();
      this.onPlace(place);
    }

    apply() {
      const { q = "", ...rest } = this.values();
      const words = q.toLowerCase().split(/\s+/).filter(Boolean);
      const facets = Object.fromEntries(FACETS.filter((name) => rest[name]).map((name) => [name, rest[name]]));
      const filtered = words.length > 0 || Object.keys(facets).length > 0;
      for (const grid of this.grids) grid.filter({ words, facets });
      document.documentElement.classList.toggle("filtering", filtered);
      for (const section of document.querySelectorAll("main > section")) {
        const blocks = section.querySelectorAll(".block");
        section.hidden = filtered && blocks.length > 0 && Array.from(blocks).every((block) => block.hidden);
      }
      const counted = this.grids.filter((grid) => grid.counted);
      const all = counted.reduce((sum, grid) => sum + grid.rows.length, 0);
      const shown = counted.reduce((sum, grid) => sum + grid.shown().length, 0);
      const text = filtered ? `${grouped.format(shown)} of ${grouped.format(all)} rows shown` : `${grouped.format(all)} rows`;
      if (this.output.textContent !== text) this.output.textContent = text;
      const nothing = document.getElementById("nothing");
      if (nothing) nothing.hidden = this.grids.some((grid) => !grid.block.hidden);
    }

    /** Links to places on the page keep the filter in the address. */
    follow(event) {
      const link = event.target.closest('a[href^="#"]');
      if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      const place = link.getAttribute("href").slice(1);
      const hash = address.text(place, this.values());
      if (hash !== location.hash) history.pushState(null, "", hash);
      this.onPlace(place);
    }
  }

  /** Scrolls to an element, again while what comes into sight is laid out and moves it (page.css, heavy). */
  function land(element, times) {
    const before = element.getBoundingClientRect().top;
    element.scrollIntoView();
    const after = element.getBoundingClientRect().top;
    if (times > 0 && (times === 10 || Math.abs(after - before) > 1)) {
      requestAnimationFrame(() => setTimeout(() => land(element, times - 1)));
    }
  }

  /** Brings a place of the page into sight, opening what hides it, and puts the focus there. */
  function goTo(place) {
    const element = document.getElementById(decoded(place)) ?? document.getElementById(place);
    if (!element) return;
    element.closest("details")?.setAttribute("open", "");
    land(element, 10);
    if (!element.hasAttribute("tabindex")) element.setAttribute("tabindex", "-1");
    element.focus({ preventScroll: true });
  }

  return { DocumentRows, Filters, Grid, address, decoded, drawCell, drawn, goTo, grouped, isText, make, textKeys };
})();
