// What needs a script: filters over the samples, panels one under the other on a narrow screen, figures enlarged, and
// what a mark is where the pointer is over it.
// Without it every sample and figure of the page is there as well. Nothing is fetched.
"use strict";
document.documentElement.classList.add("with-script");

function windowOn(image, [left, top, width, height], naturalWidth) {
  const part = document.createElement("div"), copy = document.createElement("img");
  part.className = "window";
  part.style.width = naturalWidth ? `${naturalWidth}px` : "100%";
  part.style.aspectRatio = `${width * image.naturalWidth} / ${height * image.naturalHeight}`;
  copy.src = image.src;
  copy.alt = "";
  copy.style.width = `${100 / width}%`;
  copy.style.left = `${(-100 * left) / width}%`;
  copy.style.top = `${(-100 * top) / height}%`;
  part.append(copy);
  return part;
}

function stackPanels(figure) {
  const image = figure.querySelector("img"), { panels, keys } = JSON.parse(figure.dataset.panels);
  const stack = document.createElement("div");
  stack.className = "panels";
  for (const [box, label] of panels) {
    if (label) stack.append(Object.assign(document.createElement("h5"), { textContent: label }));
    stack.append(windowOn(image, box));
  }
  const legend = document.createElement("div");
  legend.className = "keys";
  for (const box of keys) legend.append(windowOn(image, box, 0.62 * box[2] * image.naturalWidth));
  stack.append(legend);
  image.after(stack);
  figure.classList.add("stacked");
}

// What is said of the mark next to the pointer, within so many pixels.
const NEAR = 14;
const said = document.createElement("div"), ring = document.createElement("div");
said.className = "said";
ring.className = "ring";
document.body.append(said, ring);
said.hidden = ring.hidden = true;

function nearest(marks, box, pointer) {
  let best = null, least = NEAR;
  for (const { name, points } of marks)
    for (const [left, top, text] of points) {
      const x = box.left + left * box.width, y = box.top + top * box.height;
      const distance = Math.hypot(x - pointer.clientX, y - pointer.clientY);
      if (distance < least) [least, best] = [distance, { x, y, text: `${name}, ${text}` }];
    }
  return best;
}

function sayMarks(figure) {
  const image = figure.querySelector("img"), marks = JSON.parse(figure.querySelector("script").textContent);
  image.addEventListener("mousemove", (event) => {
    const found = nearest(marks, image.getBoundingClientRect(), event);
    said.hidden = ring.hidden = !found;
    if (!found) return;
    said.textContent = found.text;
    for (const part of [said, ring]) {
      part.style.left = `${found.x + scrollX}px`;
      part.style.top = `${found.y + scrollY}px`;
    }
    said.classList.toggle("to-the-left", found.x > innerWidth - 260);
  });
  image.addEventListener("mouseleave", () => (said.hidden = ring.hidden = true));
}
document.querySelectorAll("figure").forEach(sayMarks);

const enlarged = document.createElement("dialog");
document.body.append(enlarged);
enlarged.addEventListener("click", () => enlarged.close());
for (const figure of document.querySelectorAll("figure")) {
  const image = figure.querySelector("img");
  figure.addEventListener("click", (event) => {
    if (!event.target.closest("img, .panels")) return;
    enlarged.replaceChildren(Object.assign(document.createElement("img"), { src: image.src, alt: image.alt }));
    enlarged.showModal();
  });
}
// Only then does every image know its size.
addEventListener("load", () => document.querySelectorAll("figure[data-panels]").forEach(stackPanels));

const SHOWN = 12;
const samples = [...document.querySelectorAll(".sample")], filters = document.querySelector(".filters");
if (filters) {
  const more = document.querySelector("button.more"), told = document.querySelector(".matching");
  let shown = SHOWN;
  const texts = samples.map((sample) => sample.textContent.toLowerCase());
  const filter = () => {
    const wanted = Object.fromEntries(new FormData(filters)), words = wanted.words.trim().toLowerCase();
    const fits = (sample, at) =>
      ["label", "arm", "seed", "task"].every((key) => !wanted[key] || sample.dataset[key] === wanted[key]) &&
      (!wanted.hacked || sample.classList.contains("hacked")) && texts[at].includes(words);
    const found = samples.filter(fits);
    samples.forEach((sample) => (sample.hidden = true));
    found.slice(0, shown).forEach((sample) => (sample.hidden = false));
    more.hidden = found.length <= shown;
    told.textContent = `${Math.min(shown, found.length)} of ${found.length} that match are shown.`;
  };
  filters.addEventListener("input", () => ((shown = SHOWN), filter()));
  filters.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => ((shown += 4 * SHOWN), filter()));
  filter();
}

let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("section > details:not([open])")];
  folded.forEach((part) => (part.open = true));
});
addEventListener("afterprint", () => folded.forEach((part) => (part.open = false)));
