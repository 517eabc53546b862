"use strict";
// Points of charts say their values beside the pointer, or by arrow keys; keys of legends switch their series off and on.
(() => {
  const REACH = 14; // pixels from a point at which it is meant

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);
  let shown = null;

  const hide = () => {
    shown?.shape.classList.remove("at");
    shown = null;
    tip.hidden = true;
  };

  const place = () => {
    if (!shown) return;
    const [box, own] = [shown.shape.getBoundingClientRect(), tip.getBoundingClientRect()];
    const left = box.left + box.width / 2 - own.width / 2;
    const top = box.top - own.height - 8;
    tip.style.left = `${Math.max(4, Math.min(left, document.documentElement.clientWidth - own.width - 4))}px`;
    tip.style.top = `${top < 4 ? box.bottom + 8 : top}px`;
  };

  const show = (point) => {
    if (point === shown) return;
    hide();
    shown = point;
    point.shape.classList.add("at");
    const group = point.shape.closest("[data-series]");
    if (point.shape.hasAttribute("transform")) group.parentNode.append(group); // over the curves that would hide it
    tip.hidden = false;
    tip.textContent = point.text; // seen before it changes, so that screen readers say it
    place();
  };

  const distance = ({ shape }, x, y) => {
    const box = shape.getBoundingClientRect();
    return Math.hypot(Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom));
  };

  const nearest = (points, measure) => points.reduce((best, each) => (measure(each) < measure(best) ? each : best));

  const middle = ({ shape }) => {
    const box = shape.getBoundingClientRect();
    return (box.left + box.right) / 2;
  };

  // The point that a key leads to: along the series, or to the same place in another one.
  const next = (points, key) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 };
    if (!(key in steps)) return undefined;
    if (!points.includes(shown)) return points[0];
    if (key === "ArrowRight" || key === "ArrowLeft")
      return points[(points.indexOf(shown) + steps[key] + points.length) % points.length];
    const names = [...new Set(points.map((each) => each.series))];
    const name = names[(names.indexOf(shown.series) + steps[key] + names.length) % names.length];
    const x = middle(shown);
    return nearest(points.filter((each) => each.series === name), (each) => Math.abs(middle(each) - x));
  };

  for (const svg of document.querySelectorAll(".chart svg")) {
    const all = [...svg.querySelectorAll("title")].map((title) => {
      const [shape, text] = [title.parentElement, title.textContent];
      title.remove(); // the browser's own tip, for pages without scripts
      return { shape, text, series: shape.closest("[data-series]")?.dataset.series };
    });
    if (!all.length) continue;
    const seen = () => all.filter(({ shape }) => !shape.closest(".off"));
    svg.tabIndex = 0;
    const point = (event) => {
      const points = seen();
      const measure = (each) => distance(each, event.clientX, event.clientY);
      const found = points.length ? nearest(points, measure) : undefined;
      if (found && measure(found) <= REACH) show(found);
      else hide();
    };
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return hide();
      const points = seen().filter(({ series }) => series !== undefined);
      const found = points.length ? next(points, event.key) : undefined;
      if (!found) return undefined;
      event.preventDefault();
      return show(found);
    });
  }
  addEventListener("scroll", place, { passive: true });

  for (const group of document.querySelectorAll(".charts")) {
    const series = [...group.querySelectorAll(".chart [data-series]")];
    for (const key of group.querySelectorAll(".legend [data-series]")) {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      button.append(...key.childNodes);
      key.append(button);
      const own = series.filter((each) => each.dataset.series === key.dataset.series);
      const mark = (name, is) => {
        for (const each of series) each.classList.toggle(name, is && !own.includes(each));
      };
      button.addEventListener("click", () => {
        const on = button.getAttribute("aria-pressed") === "false";
        button.setAttribute("aria-pressed", String(on));
        for (const each of own) each.classList.toggle("off", !on);
      });
      for (const kind of ["pointerenter", "focus"]) button.addEventListener(kind, () => mark("dim", true));
      for (const kind of ["pointerleave", "blur"]) button.addEventListener(kind, () => mark("dim", false));
    }
  }
})();
