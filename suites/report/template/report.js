// All of the page is there without this; it adds a filter, and opens what a link points to.
"use strict";
(() => {
  document.documentElement.classList.add("js");
  const text = document.getElementById("filter-text");
  const told = document.getElementById("filter-told");
  const boxes = [...document.querySelectorAll('#filter input[type="checkbox"]')];
  const tests = [...document.querySelectorAll("details.test")];
  const words = new Map(tests.map((one) => [one, one.querySelector("summary").textContent.toLowerCase() +
    " " + (one.querySelector(".proves")?.textContent.toLowerCase() ?? "") + " " +
    one.querySelector("dd code").textContent.toLowerCase()]));

  function filter() {
    const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const statuses = new Set(boxes.filter((one) => one.checked).map((one) => one.value));
    const known = new Set(boxes.map((one) => one.value));
    let shown = 0;
    for (const test of tests) {
      const status = known.has(test.dataset.status) ? test.dataset.status : "failed";
      const kept = statuses.has(status) && wanted.every((word) => words.get(test).includes(word));
      test.hidden = !kept;
      shown += kept;
    }
    for (const file of document.querySelectorAll("details.file")) {
      file.hidden = !file.querySelector("details.test:not([hidden])");
      if (wanted.length && !file.hidden) file.open = true;
    }
    told.textContent = `${shown} of ${tests.length} tests`;
  }

  function reveal() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let at = target; at; at = at.parentElement) {
      if (at.tagName === "DETAILS") at.open = true;
      if (at.hidden) at.hidden = false;
    }
    target.scrollIntoView({ block: "start" });
    if (target.tagName === "DETAILS") target.querySelector("summary").focus({ preventScroll: true });
  }

  document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());
  text.addEventListener("input", filter);
  boxes.forEach((one) => one.addEventListener("change", filter));
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link && link.getAttribute("href") === location.hash) reveal();
  });
  filter();
  reveal();
})();
