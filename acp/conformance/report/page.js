// Filters rows by words and by verdicts, shows checks or requirements, and indents the JSON of transcripts.
"use strict";
const all = (what, within = document) => [...within.querySelectorAll(what)];
const search = document.querySelector("input[type=search]");
const count = document.querySelector("output");
const state = { view: "checks", verdicts: new Set(["pass", "fail", "advice", "skip"]) };

function show() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const list of all("[data-view]")) list.hidden = list.dataset.view !== state.view;
  for (const row of all(".row")) {
    const text = row.textContent.toLowerCase();
    row.hidden = !state.verdicts.has(row.dataset.verdict) || !words.every((word) => text.includes(word));
    if (!row.hidden && row.parentElement.dataset.view === state.view) shown += 1;
  }
  count.textContent = `${shown} shown`;
}

search.addEventListener("input", show);
for (const button of all("button[data-verdict]")) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    state.verdicts[on ? "add" : "delete"](button.dataset.verdict);
    show();
  });
}
for (const button of all("button[data-to]")) {
  button.addEventListener("click", () => {
    state.view = button.dataset.to;
    for (const other of all("button[data-to]")) other.setAttribute("aria-pressed", String(other === button));
    show();
  });
}
for (const link of all('a[href^="#"]')) {
  link.addEventListener("click", () => {
    search.value = "";
    const row = document.getElementById(link.getAttribute("href").slice(1));
    document.querySelector(`button[data-verdict=${row.dataset.verdict}][aria-pressed=false]`)?.click();
    document.querySelector("button[data-to=checks]").click();
  });
}
for (const code of all(".talk code")) {
  code.title = "click to indent";
  code.addEventListener("click", () => {
    if (String(getSelection())) return; // it is being selected, not asked for
    try {
      const value = JSON.parse(code.textContent);
      code.textContent = JSON.stringify(value, null, code.textContent.includes("\n") ? 0 : 2);
    } catch { /* it is no JSON, and stays as it is */ }
  });
}
show();
