// Shows the form #filters and hides rows of all tables by it; keeps form and order in the address.
// A row says what it is in data- of its .facets; a column of a task has data-task in its head.
{
  const form = document.getElementById("filters"), count = document.getElementById("count");
  const tables = Array.from(document.querySelectorAll("table"))
    .filter((table) => table.querySelector(".facets"));
  const names = ["organisation", "licence", "size"];
  const chosen = (name) => form.elements.namedItem(name)?.value ?? "";

  const filter = () => {
    const task = chosen("task");
    const words = chosen("words").toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0, all = 0;
    for (const table of tables) {
      const heads = Array.from(table.tHead.rows[0].cells);
      const tasks = heads.map((head) => head.querySelector("[data-task]")?.dataset.task);
      heads.forEach((head, at) => { head.hidden = Boolean(task && tasks[at] && tasks[at] !== task); });
      for (const row of table.tBodies[0].rows) {
        const cells = Array.from(row.cells);
        cells.forEach((cell, at) => { cell.hidden = heads[at].hidden; });
        const facets = row.querySelector(".facets").dataset;
        const text = row.cells[0].textContent.toLowerCase();
        const runs = !task || cells.some((cell, at) =>
          tasks[at] === task && cell.dataset.value !== undefined);
        row.hidden = !(runs && words.every((word) => text.includes(word)) &&
          names.every((name) => !chosen(name) || facets[name] === chosen(name)));
        all += 1;
        shown += !row.hidden;
      }
    }
    count.textContent = `${shown} of ${all} rows`;
  };

  const order = () => {
    const entries = tables.map((table, number) => {
      const at = Array.from(table.tHead.rows[0].cells).findIndex((head) => head.hasAttribute("aria-sort"));
      return at < 0 ? "" : `${number}.${at}.${table.tHead.rows[0].cells[at].getAttribute("aria-sort")}`;
    });
    return entries.filter(Boolean).join("-");
  };

  const keep = () => {
    const query = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value) query.set(name, value);
    if (order()) query.set("sort", order());
    const text = query.toString();
    try {
      history.replaceState(null, "", (text ? `?${text}` : location.pathname) + location.hash);
    } catch { /* an address that may not change, as of some pages from the disk */ }
  };

  const query = new URLSearchParams(location.search);
  for (const element of form.elements) {
    const value = query.get(element.name);
    if (value !== null && (!element.options || Array.from(element.options).some((one) => one.value === value)))
      element.value = value;
  }
  for (const entry of (query.get("sort") || "").split("-")) {
    const [table, at, wanted] = entry.split(".");
    const head = tables[table]?.tHead.rows[0].cells[at];
    const button = head?.querySelector("button");
    for (let times = 0; button && times < 2 && head.getAttribute("aria-sort") !== wanted; times += 1)
      button.click();
  }
  form.hidden = false;
  filter();
  form.addEventListener("input", () => { filter(); keep(); });
  form.addEventListener("reset", () => setTimeout(() => { filter(); keep(); }));
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const table of tables) table.tHead.addEventListener("click", keep);
}
