"use strict";
// The pages of a site: tables that sort, and on cards with many results a filter.

(() => {
  const { DocumentRows, Filters, Grid, goTo } = Tables;
  const rest = JSON.parse(document.getElementById("data").textContent);
  const grids = Array.from(document.querySelectorAll("table.grid"), (table) => {
    const more = Object.hasOwn(rest, table.id) ? rest[table.id] : [];
    return new Grid(table, (one, columns) => new DocumentRows(one, columns, more));
  });
  const form = document.getElementById("filters");
  if (form) new Filters(form, grids, (place) => place && goTo(place));
})();
