// The picture viewer: one view (centre and zoom, in pixels of the picture) that all panes share.
(() => {
  const root = document.querySelector(".viewer");
  if (!root) return;
  const { images, entries } = JSON.parse(document.getElementById("viewer-data").textContent);
  const form = root.querySelector("form");
  const fields = form.elements;
  const stage = root.querySelector(".stage");
  const status = root.querySelector(".status");
  const readout = root.querySelector(".readout");

  const { KINDS, decibels, difference, drawDivider, entryNear, inside, pictureLoader } = pictureTools;
  const loadEntry = pictureLoader(images);
  const TITLES = { original: "Original", decoded: "Decoded", filtered: "Filtered", difference: "Difference" };
  const PICKS = ["sequence", "picture", "qp", "network"];
  const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32];
  const STEP = 0.1; // of the visible part, for one press of an arrow
  const NEAR_DIVIDER = 24; // CSS pixels
  const STILL = 4; // a pointer that moved less has clicked

  let current = null; // the entry that is shown
  let pixels = {}; // kind -> {canvas, data}
  let panes = [];
  let [shown, before] = ["filtered", "decoded"]; // Space flips between them
  const view = { x: 0, y: 0, zoom: 1 };

  // ---- drawing

  const option = (name) => form.querySelector(`[name="${name}"]:checked`).value;
  const title = (kind) => {
    if (kind === "difference") return `${fields.pair.selectedOptions[0].text}, ${fields.gain.value} x around grey`;
    const db = current.psnr_y_db[kind];
    return TITLES[kind] + (db === undefined ? "" : `, ${decibels(db)} luma`);
  };

  const layout = () => {
    const mode = option("view");
    for (const part of form.querySelectorAll("[data-for]")) part.hidden = part.dataset.for !== mode;
    const wanted = { flip: [[option("show")]], slide: [[fields.left.value, fields.right.value]], side: [...KINDS, "difference"].map((kind) => [kind]) }[mode];
    stage.classList.toggle("side", mode === "side");
    stage.style.maxWidth = `calc(${current.width / current.height} * ${mode === "side" ? 0.95 : 0.85} * 100vh)`;
    while (panes.length > wanted.length) panes.pop().figure.remove();
    while (panes.length < wanted.length) panes.push(newPane());
    panes.forEach((pane, number) => label(pane, wanted[number]));
    draw();
    announce();
  };

  const newPane = () => {
    const figure = document.createElement("figure");
    figure.className = "pane";
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    const captions = [0, 1].map((number) => {
      const caption = document.createElement("figcaption");
      if (number) caption.className = "right";
      return caption;
    });
    figure.append(canvas, ...captions);
    stage.append(figure);
    listen(canvas);
    sizes.observe(canvas);
    return { figure, canvas, captions, kinds: [] };
  };

  const label = (pane, kinds) => {
    pane.kinds = kinds;
    pane.captions.forEach((caption, number) => {
      caption.hidden = number >= kinds.length;
      caption.textContent = kinds[number] ? title(kinds[number]) : "";
    });
    pane.canvas.style.aspectRatio = `${current.width} / ${current.height}`;
    const place = `${current.sequence}, QP ${current.qp}, ${current.network}`;
    pane.canvas.setAttribute("aria-label", `${kinds.map(title).join(" and ")} of ${place}`);
    pane.figure.dataset.kinds = kinds.join(" ");
  };

  const split = () => fields.split.value / 100;

  const draw = () => {
    [view.x, view.y] = [inside(view.x, current.width, view.zoom), inside(view.y, current.height, view.zoom)];
    for (const pane of panes) {
      const { canvas, kinds } = pane;
      const density = devicePixelRatio || 1;
      const width = Math.max(1, Math.round(canvas.clientWidth * density));
      const height = Math.max(1, Math.round((width * current.height) / current.width));
      if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
      const context = canvas.getContext("2d");
      const scale = (width / current.width) * view.zoom;
      context.imageSmoothingEnabled = scale < 1.5;
      context.imageSmoothingQuality = "high";
      kinds.forEach((kind, number) => {
        const from = kinds.length > 1 && number ? Math.round(split() * width) : 0;
        const to = kinds.length > 1 && !number ? Math.round(split() * width) : width;
        context.save();
        context.beginPath();
        context.rect(from, 0, to - from, height);
        context.clip();
        context.setTransform(scale, 0, 0, scale, width / 2 - view.x * scale, height / 2 - view.y * scale);
        context.drawImage(pixels[kind].canvas, 0, 0);
        context.restore();
      });
      if (kinds.length > 1) drawDivider(context, Math.round(split() * width), height, density);
    }
    fields.scale.value = `${((panes[0].canvas.clientWidth / current.width) * view.zoom).toFixed(1)} x`;
    stage.dataset.view = [view.x, view.y, view.zoom].map((value) => Math.round(value * 100) / 100).join(" ");
  };

  const announce = () => {
    const { decoded, filtered } = current.psnr_y_db;
    const both = typeof decoded === "number" && typeof filtered === "number";
    const gain = both ? ` (${filtered < decoded ? "" : "+"}${(filtered - decoded).toFixed(3)} dB)` : "";
    const titles = panes.map((pane) => pane.kinds.map((kind) => TITLES[kind]).join(" | ")).join(", ");
    status.textContent = `${titles}: ${current.sequence}, picture ${current.picture}, QP ${current.qp}, ${current.network}. Luma PSNR: decoded ${decibels(decoded)}, filtered ${decibels(filtered)}${gain}.`;
    stage.dataset.shown = panes.map((pane) => pane.kinds.join(" ")).join(",");
    read(view.x, view.y, "centre");
  };

  const read = (x, y, where) => {
    const column = Math.min(current.width - 1, Math.max(0, Math.floor(x)));
    const row = Math.min(current.height - 1, Math.max(0, Math.floor(y)));
    const at = 4 * (row * current.width + column);
    const values = KINDS.map((kind) => `${kind} ${[...pixels[kind].data.data.slice(at, at + 3)].join(" ")}`);
    readout.textContent = `${where}: x ${column + current.left}, y ${row + current.top} · RGB ${values.join(" · ")}`;
  };

  // ---- choosing

  const fill = () => {
    let left = entries;
    for (const name of PICKS) {
      const values = [...new Set(left.map((entry) => entry[name]))];
      fields[name].replaceChildren(...values.map((value) => new Option(value, value, false, value === current[name])));
      fields[name].closest("label").hidden = new Set(entries.map((entry) => entry[name])).size < 2 && name !== "sequence";
      left = left.filter((entry) => entry[name] === current[name]);
    }
  };

  let wanted = 0;
  const choose = async (entry) => {
    const ticket = ++wanted;
    let found;
    try {
      found = await loadEntry(entry);
    } catch {
      status.textContent = `${entry.sequence}: this browser cannot show the picture (lossless WebP).`;
      return;
    }
    if (ticket !== wanted) return; // another one was chosen meanwhile
    const same = current && current.sequence === entry.sequence && current.width === entry.width && current.height === entry.height;
    [current, pixels] = [entry, found];
    if (!same) Object.assign(view, { x: entry.width / 2, y: entry.height / 2, zoom: 1 });
    fill();
    subtract();
    layout();
    root.dataset.ready = entries.indexOf(entry);
  };

  const subtract = () => {
    const [first, second] = fields.pair.value.split("-");
    pixels.difference = difference(pixels[first], pixels[second], Number(fields.gain.value));
  };

  const remember = (kind) => {
    if (kind !== shown) [before, shown] = [shown, kind];
  };

  const show = (kind) => {
    if (option("view") !== "flip") return;
    remember(kind);
    form.querySelector(`[name="show"][value="${kind}"]`).checked = true;
    layout();
  };

  const zoomBy = (steps, x = view.x, y = view.y) => {
    const at = ZOOMS.reduce((best, zoom, number) => (Math.abs(zoom - view.zoom) < Math.abs(ZOOMS[best] - view.zoom) ? number : best), 0);
    const zoom = ZOOMS[Math.min(ZOOMS.length - 1, Math.max(0, at + steps))];
    zoomTo(zoom, x, y);
  };
  // The picture's point (x, y) stays where it is on the screen.
  const zoomTo = (zoom, x, y) => {
    const kept = view.zoom / zoom;
    Object.assign(view, { x: x + (view.x - x) * kept, y: y + (view.y - y) * kept, zoom });
    draw();
    for (const pane of panes) pane.canvas.style.touchAction = zoom > 1 ? "none" : "pan-y";
  };

  const move = (x, y) => {
    view.x += x;
    view.y += y;
    draw();
    read(view.x, view.y, "centre");
  };

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    const { name, value } = event.target;
    if (PICKS.includes(name)) return void choose(entryNear(entries, PICKS, current, name, value));
    if (name === "show") remember(value);
    if (name === "split") return draw();
    if (name === "pair" || name === "gain") subtract();
    layout();
  });
  for (const button of form.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => {
      if (button.dataset.zoom === "fit") zoomTo(1, view.x, view.y);
      else zoomBy(button.dataset.zoom === "in" ? 2 : -2);
    });
  }

  // ---- keys

  const step = () => [(current.width / view.zoom) * STEP, (current.height / view.zoom) * STEP];
  const slide = (by) => {
    fields.split.value = Number(fields.split.value) + by;
    draw();
  };
  const KEYS = {
    1: () => show("original"),
    2: () => show("decoded"),
    3: () => show("filtered"),
    4: () => show("difference"),
    " ": () => show(before),
    "[": () => choose(entries[(entries.indexOf(current) + entries.length - 1) % entries.length]),
    "]": () => choose(entries[(entries.indexOf(current) + 1) % entries.length]),
    "+": () => zoomBy(1),
    "=": () => zoomBy(1),
    "-": () => zoomBy(-1),
    0: () => zoomTo(1, view.x, view.y),
    ArrowLeft: (shift) => (shift ? slide(-5) : move(-step()[0], 0)),
    ArrowRight: (shift) => (shift ? slide(5) : move(step()[0], 0)),
    ArrowUp: () => move(0, -step()[1]),
    ArrowDown: () => move(0, step()[1]),
  };
  stage.addEventListener("keydown", (event) => {
    const action = KEYS[event.key];
    if (!action || !current || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    action(event.shiftKey);
  });

  // ---- pointers

  const pointers = new Map();
  let drag = null;

  const listen = (canvas) => {
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      const scale = (box.width / current.width) * view.zoom;
      return [view.x + (event.clientX - box.left - box.width / 2) / scale, view.y + (event.clientY - box.top - box.height / 2) / scale];
    };
    const perPixel = () => current.width / canvas.clientWidth / view.zoom;
    const spread = () => {
      const [a, b] = [...pointers.values()];
      return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    };
    canvas.addEventListener("pointerdown", (event) => {
      pointers.set(event.pointerId, event);
      canvas.setPointerCapture(event.pointerId);
      const box = canvas.getBoundingClientRect();
      const near = option("view") === "slide" && Math.abs(event.clientX - box.left - split() * box.width) < NEAR_DIVIDER;
      drag = { x: event.clientX, y: event.clientY, moved: 0, divider: near, spread: pointers.size > 1 ? spread() : 0, zoom: view.zoom };
    });
    canvas.addEventListener("pointermove", (event) => {
      read(...place(event), "pointer");
      if (!drag || !pointers.has(event.pointerId)) return;
      pointers.set(event.pointerId, event);
      if (pointers.size > 1 && drag.spread) return zoomTo(Math.min(ZOOMS.at(-1), Math.max(1, (drag.zoom * spread()) / drag.spread)), ...place(event));
      const [x, y] = [event.clientX - drag.x, event.clientY - drag.y];
      [drag.x, drag.y, drag.moved] = [event.clientX, event.clientY, drag.moved + Math.abs(x) + Math.abs(y)];
      if (drag.divider) {
        const box = canvas.getBoundingClientRect();
        fields.split.value = (100 * (event.clientX - box.left)) / box.width;
        return draw();
      }
      move(-x * perPixel(), -y * perPixel());
    });
    const release = (event) => {
      pointers.delete(event.pointerId);
      if (event.type === "pointerup" && drag && drag.moved < STILL && !pointers.size) show(before);
      drag = null;
    };
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("wheel", (event) => {
      // The page scrolls as ever until the viewer has the focus.
      if (!event.ctrlKey && document.activeElement !== stage) return;
      event.preventDefault();
      zoomBy(event.deltaY < 0 ? 1 : -1, ...place(event));
    }, { passive: false });
  };

  const sizes = new ResizeObserver(() => current && draw());
  root.hidden = false;
  choose(entries.find((entry) => entry.sequence === entries[0].sequence && entry.qp === Math.max(...entries.map((each) => each.qp))) ?? entries[0]);
})();
