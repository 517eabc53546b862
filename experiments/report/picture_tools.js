"use strict";
// What the viewer does with pictures, apart from showing them.
const pictureTools = (() => {
  const KINDS = ["original", "decoded", "filtered"];

  // A picture with its pixels: {canvas, data}.
  const load = async (base64) => {
    const image = new Image();
    image.src = `data:image/webp;base64,${base64}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return { canvas, data: context.getImageData(0, 0, canvas.width, canvas.height) };
  };

  // The pictures of an entry by kind; those that the entry before has as well are kept.
  const pictureLoader = (images) => {
    const loaded = new Map();
    return async (entry) => {
      for (const place of loaded.keys()) if (!entry.images.includes(place)) loaded.delete(place);
      for (const place of entry.images) if (!loaded.has(place)) loaded.set(place, load(images[place]));
      const found = await Promise.all(entry.images.map((place) => loaded.get(place)));
      return Object.fromEntries(KINDS.map((kind, number) => [kind, found[number]]));
    };
  };

  // 128 + gain * (first - second) in each channel, cut to 0 to 255.
  const difference = (first, second, gain) => {
    const [a, b] = [first.data.data, second.data.data];
    const { width, height } = first.canvas;
    const out = new ImageData(width, height);
    for (let i = 0; i < a.length; i += 4) {
      for (let c = i; c < i + 3; c++) out.data[c] = 128 + gain * (a[c] - b[c]);
      out.data[i + 3] = 255;
    }
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    canvas.getContext("2d").putImageData(out, 0, 0);
    return { canvas, data: out };
  };

  // The entry with another value of one pick that has the picks before it, and most of those after it, in common.
  const entryNear = (entries, picks, current, name, value) => {
    const before = picks.slice(0, picks.indexOf(name));
    const fits = entries.filter((entry) => before.every((pick) => entry[pick] === current[pick]) && String(entry[name]) === value);
    const alike = (entry) => picks.filter((pick) => entry[pick] === current[pick]).length;
    return fits.reduce((best, entry) => (alike(entry) > alike(best) ? entry : best));
  };

  const drawDivider = (context, at, height, density) => {
    context.fillStyle = "#000";
    context.fillRect(at - 2 * density, 0, 4 * density, height);
    context.fillStyle = "#fff";
    context.fillRect(at - density, 0, 2 * density, height);
  };

  const decibels = (db) => (typeof db === "number" ? `${db.toFixed(3)} dB` : "identical");

  // A centre on one axis from which no view reaches over the picture's edge.
  const inside = (centre, side, zoom) => Math.min(side - side / 2 / zoom, Math.max(side / 2 / zoom, centre));

  return { KINDS, decibels, difference, drawDivider, entryNear, inside, pictureLoader };
})();
