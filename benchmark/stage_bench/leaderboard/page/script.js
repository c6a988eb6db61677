"use strict";
// The page of a report: its tables, the runs of a row, and the details of a run.

(() => {
  const { DocumentRows, Filters, Grid, address, decoded, drawCell, drawn, goTo, grouped, isText, make, textKeys } =
    Tables;
  const LISTED = 200; // runs in an opened row
  const data = JSON.parse(document.getElementById("data").textContent);

  /** A packed column (run_data.py) by place: values, null where empty. */
  function unpack(column) {
    if ("each" in column) return (i) => column.each[i];
    if ("of" in column) return (i) => column.of[column.at[i]];
    return () => column.all;
  }

  const keys = Object.fromEntries(Object.entries(data.keys.columns).map(([name, column]) => [name, unpack(column)]));
  const ofRun = Object.fromEntries(Object.entries(data.runs.columns).map(([name, column]) => [name, unpack(column)]));
  for (const [name, value] of Object.entries(keys)) ofRun[name] = (i) => value(ofRun.key(i));

  function seconds(value) {
    return value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : grouped.format(Math.round(value));
  }

  function shown(name, value) {
    if (value === null || value === "") return "";
    if (name.endsWith("_accuracy")) return value.toFixed(4);
    if (name.endsWith("_seconds")) return seconds(value);
    if (name.endsWith("_mb")) return grouped.format(Math.round(value));
    if (name.endsWith("_seed") || name === "schema_version") return String(value);
    return typeof value === "number" ? grouped.format(value) : value;
  }

  const STYLES = { failed: "failed", missing: "partial" };

  /** A cell of the table of all runs, as run_data.py has it. */
  function runCell(name, kind, i) {
    const value = ofRun[name](i);
    const text = shown(name, value).split("\n").filter(Boolean).join(" ");
    if (name === "id") return [text, null, "", "", [], `#run-${encodeURIComponent(text)}`];
    const style = name === "status" ? (STYLES[value] ?? "quiet") : "";
    return [text, isText(kind) ? null : value, "", style];
  }

  /** The row source of the table of all runs; the first rows stay as they are in the document. */
  class RunRows {
    constructor(table, columns) {
      this.columns = columns;
      this.length = data.runs.length;
      this.elements = Array.from(table.tBodies[0].rows);
      this.cache = new Map();
    }

    element(i) {
      this.elements[i] ??= make(
        "tr",
        {},
        ...this.columns.map(({ key, kind }, place) => drawCell(runCell(key, kind, i), { kind, isHead: place === 0 })),
      );
      return this.elements[i];
    }

    values(column) {
      const { key } = this.columns[column];
      if (!this.cache.has(key)) this.cache.set(key, Array.from({ length: this.length }, (_, i) => ofRun[key](i)));
      return this.cache.get(key);
    }

    texts(column) {
      const { key } = this.columns[column];
      const name = `texts ${key}`;
      if (!this.cache.has(name)) this.cache.set(name, this.values(column).map((value) => (value === null ? "" : String(value))));
      return this.cache.get(name);
    }

    keys(column) {
      if (isText(this.columns[column].kind)) return textKeys(this.texts(column));
      return Float64Array.from(this.values(column), (value) => (value === null ? NaN : Number(value)));
    }

    search(words) {
      // By distinct values: of a hundred thousand runs most say the same.
      const columns = this.columns.filter(({ kind }) => isText(kind)).map(({ key }) => distinct(key));
      const known = words.map(() => columns.map(({ size }) => new Uint8Array(size))); // 0: not looked at, 1: no, 2: yes
      return (i) =>
        words.every((word, w) =>
          columns.some(({ code, text }, c) => {
            const place = code(i);
            known[w][c][place] ||= text(place).toLowerCase().includes(word) ? 2 : 1;
            return known[w][c][place] === 2;
          }),
        );
    }
  }

  /** A text column of the runs as distinct values: how many, each one's text, and which one a run has. */
  function distinct(name) {
    if (Object.hasOwn(keys, name)) return { size: data.keys.length, text: keys[name], code: ofRun.key };
    const column = data.runs.columns[name];
    if ("of" in column) return { size: column.of.length, text: (place) => column.of[place], code: (i) => column.at[i] };
    return { size: data.runs.length, text: ofRun[name], code: (i) => i };
  }

  // --- the runs of a row

  function pairs(items, more = "") {
    return make("dl", { class: `pairs ${more}`.trim() }, ...items.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
  }

  function small(headings, rows) {
    const head = make("tr", {}, ...headings.map(([text, kind]) => make("th", { scope: "col", class: kind }, text)));
    const table = make("table", { class: "small" }, make("thead", {}, head), make("tbody", {}, ...rows));
    return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": headings[0][0] }, table);
  }

  const RUN_FACTS = [
    ["id", "Run", "text"],
    ["split_seed", "Split seed", "number"],
    ["init_seed", "Init. seed", "number"],
    ["status", "Status", "text"],
    ["test_accuracy", "Test accuracy", "number"],
    ["val_accuracy", "Val. accuracy", "number"],
    ["train_seconds", "Train s", "number"],
    ["infer_seconds", "Infer s", "number"],
    ["error", "Error", "long"],
  ];

  function runsOf(key) {
    const found = [];
    for (let i = 0; i < data.runs.length; i += 1) if (ofRun.key(i) === key) found.push(i);
    return found;
  }

  function rowDetails(key) {
    const found = runsOf(key);
    const facts = RUN_FACTS.filter(([name]) => name === "id" || found.some((i) => shown(name, ofRun[name](i)) !== ""));
    const rows = found.slice(0, LISTED).map((i) =>
      make("tr", {}, ...facts.map(([name, , kind], place) => drawCell(runCell(name, kind, i), { kind, isHead: !place }))),
    );
    const inside = document.createDocumentFragment();
    if (data.facts[key].length) inside.append(pairs(data.facts[key]));
    inside.append(small(facts.map(([, heading, kind]) => [heading, kind]), rows));
    if (found.length > LISTED) {
      inside.append(make("p", {}, `${LISTED} of ${grouped.format(found.length)} runs; the others are in the table of all runs.`));
    }
    return inside;
  }

  // --- one run

  const dialog = document.getElementById("run");
  const title = document.getElementById("run-title");
  const body = document.getElementById("run-body");

  function placeOfRun(id) {
    for (let i = 0; i < data.runs.length; i += 1) if (ofRun.id(i) === id) return i;
    return -1;
  }

  function flat(value, name, found = []) {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) {
      for (const [key, inner] of Object.entries(value)) flat(inner, name ? `${name}.${key}` : key, found);
      return found;
    }
    found.push([name, typeof value === "string" ? value : JSON.stringify(value)]);
    return found;
  }

  function shared(places) {
    const found = [];
    for (const [name, place] of Object.entries(places ?? {})) flat(data.details.shared[place], name, found);
    return found;
  }

  function part(heading, ...children) {
    return make("section", {}, make("h3", {}, heading), ...children);
  }

  const KEY = ["dataset", "split", "features", "llm", "instruction", "backbone"];
  const FIRST = ["status", "test_accuracy", "val_accuracy", "train_accuracy"];
  const APART = [...KEY, "id", "key", "error"];

  function measured(i) {
    const rest = Object.keys(ofRun).filter((name) => !FIRST.includes(name) && !APART.includes(name));
    const items = [...FIRST, ...rest].map((name) => [name.replaceAll("_", " "), shown(name, ofRun[name](i))]);
    return pairs(items.filter(([, text]) => text !== ""), "two");
  }

  function weights(found) {
    const rows = Object.entries(found).map(([id, weight]) => {
      const i = placeOfRun(id);
      const name = i < 0 ? id : `${id} (${ofRun.backbone(i)})`;
      const member = i < 0 ? [name] : [name, null, "", "", [], `#run-${encodeURIComponent(id)}`];
      return make("tr", {}, drawCell(member, { isHead: true }), drawCell([shown("", weight)], { kind: "number" }));
    });
    return small([["Member", "text"], ["Weight", "number"]], rows);
  }

  /** Validation accuracy by epoch as a line; a gap where an epoch has no number. */
  function curve(values, best) {
    // As wide as there is room, so that its letters keep their size on a telephone.
    const width = Math.max(280, Math.min(680, body.clientWidth));
    const [height, left, right, top, bottom] = [220, 44, 12, 12, 34];
    const known = values.filter((value) => value !== null);
    const low = Math.min(...known);
    const high = Math.max(...known);
    const step = niceStep((high - low || 0.1) / 4);
    const from = Math.floor(low / step) * step;
    const to = Math.max(Math.ceil(high / step) * step, from + step);
    const x = (i) => left + (values.length > 1 ? (i / (values.length - 1)) * (width - left - right) : 0);
    const y = (value) => top + ((to - value) / (to - from)) * (height - top - bottom);
    const text = `Validation accuracy of ${values.length} epochs, ${known[0].toFixed(4)} at first, ${high.toFixed(4)} at best.`;
    const svg = drawn("svg", { class: "curve", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": text });
    const label = (content, place) => {
      const element = drawn("text", place);
      element.textContent = content;
      svg.append(element);
    };
    const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
    for (let k = 0; from + k * step <= to + step / 2; k += 1) {
      const value = from + k * step;
      svg.append(drawn("path", { class: "grid-line", d: `M${left} ${y(value)}H${width - right}` }));
      label(value.toFixed(digits), { x: left - 8, y: y(value) + 4, "text-anchor": "end" });
    }
    label("1", { x: x(0), y: height - bottom + 16, "text-anchor": "middle" });
    if (values.length > 1) {
      label(String(values.length), { x: x(values.length - 1), y: height - bottom + 16, "text-anchor": "end" });
    }
    label("epoch", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" });
    let path = "";
    values.forEach((value, i) => {
      if (value === null) return;
      const begins = i === 0 || values[i - 1] === null;
      path += `${begins ? "M" : "L"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
    });
    svg.append(drawn("path", { class: "line", d: path }));
    if (best && values[best - 1] != null) {
      svg.append(drawn("circle", { class: "best-epoch", cx: x(best - 1), cy: y(values[best - 1]), r: 4 }));
    }
    const caption = best ? `Validation accuracy by epoch; the dot is the best epoch, ${best}.` : "Validation accuracy by epoch.";
    return make("figure", {}, svg, make("figcaption", {}, caption));
  }

  function niceStep(step) {
    const power = 10 ** Math.floor(Math.log10(step));
    return power * [1, 2, 5, 10].find((factor) => factor * power >= step);
  }

  function showRun(id) {
    const i = placeOfRun(id);
    if (!dialog.open) dialog.showModal();
    title.textContent = `Run ${id}`;
    body.replaceChildren();
    if (i < 0) body.append(make("p", {}, "This report has no such run."));
    else {
      const detail = Object.hasOwn(data.details.runs, id) ? data.details.runs[id] : null;
      body.append(make("p", { class: "lead" }, KEY.map((name) => ofRun[name](i)).filter(Boolean).join(" · ")));
      if (ofRun.error(i)) body.append(part("Error", make("pre", { tabindex: "0" }, ofRun.error(i))));
      body.append(part("Measured", measured(i)));
      if (detail?.curve.some((value) => value !== null)) {
        body.append(part("Learning curve", curve(detail.curve, ofRun.best_epoch(i))));
      }
      if (detail && Object.keys(detail.weights).length) body.append(part("Members", weights(detail.weights)));
      for (const [heading, name] of [["Configuration", "configuration"], ["Environment", "environment"]]) {
        const items = detail ? shared(detail[name]) : [];
        if (items.length) body.append(part(heading, pairs(items)));
      }
      const left = detail ? "The whole record" : "Configuration, environment and learning curve";
      const command = make("code", {}, `stage-bench show run ${id}`);
      body.append(make("p", { class: "basis" }, `${left}: in the results folder, `, command, "."));
    }
    dialog.scrollTop = 0;
    title.focus();
  }

  document.getElementById("run-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // on what lies around it
  });
  dialog.addEventListener("close", () => {
    const { place, values } = address.read();
    if (place.startsWith("run-")) address.replace("", values);
  });

  function onPlace(place) {
    if (place.startsWith("run-")) showRun(decoded(place.slice(4)));
    else {
      if (dialog.open) dialog.close();
      if (place) goTo(place);
    }
  }

  const grids = Array.from(document.querySelectorAll("table.grid"), (table) => {
    if (table.id === "runs-table") return new Grid(table, (one, columns) => new RunRows(one, columns));
    const rest = Object.hasOwn(data.tables, table.id) ? data.tables[table.id] : [];
    return new Grid(table, (one, columns) => new DocumentRows(one, columns, rest), rowDetails);
  });
  new Filters(document.getElementById("filters"), grids, onPlace);
})();
