"use strict";
const form = document.getElementById("filters");
const findings = [...document.querySelectorAll("#findings > article")];
const shown = document.getElementById("shown");

function filter() {
  const least = Number(form.elements.severity.value);
  const rule = form.elements.rule.value;
  const resource = form.elements.resource.value;
  const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const article of findings) {
    const text = article.textContent.toLowerCase();
    article.hidden = Number(article.dataset.severity) < least
      || (rule !== "" && article.dataset.rule !== rule)
      || (resource !== "" && article.querySelector(".about code:last-child").textContent !== resource)
      || !words.every((word) => text.includes(word));
    count += article.hidden ? 0 : 1;
  }
  shown.textContent = `${count} of ${findings.length} findings`;
}

async function copy(button) {
  const source = button.parentElement.querySelector("pre");
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    // A page from a file may not be allowed to: then it is at least selected.
    getSelection().selectAllChildren(source);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

if (form) {
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
}
for (const block of document.querySelectorAll(".copyable")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", () => copy(button));
  block.append(button);
}
// What is folded would be missing on paper.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
