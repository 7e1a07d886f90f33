const form = document.getElementById("filters");
const findings = [...document.querySelectorAll("#findings .resources > li")];
const shown = document.getElementById("shown");

function filter() {
  const least = Number(form.elements.severity.value);
  const rule = form.elements.rule.value;
  const resource = form.elements.resource.value;
  const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const article of document.querySelectorAll("#findings article")) {
    const common = [...article.children].filter((child) => child.tagName !== "UL").map((child) => child.textContent);
    const about = [...common, article.dataset.standards].join(" ").toLowerCase();
    let any = false;
    for (const finding of article.querySelectorAll(".resources > li")) {
      const text = finding.textContent.toLowerCase();
      finding.hidden = Number(article.dataset.severity) < least
        || (rule !== "" && article.dataset.rule !== rule)
        || (resource !== "" && finding.dataset.resource !== resource)
        || !words.every((word) => about.includes(word) || text.includes(word));
      any ||= !finding.hidden;
      count += finding.hidden ? 0 : 1;
    }
    article.hidden = !any;
  }
  shown.textContent = `${count} of ${findings.length} findings`;
}

if (form && findings.length > 1) {
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
}
