(() => {
  "use strict";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // In the dark every colour of a figure keeps its hue and turns its lightness over; cells stay dark enough for light text on them.
  const [LINES, CELLS] = [86, 50]; // per cent of lightness between white and black
  const turned = (colour, span) => {
    if (/^#fff(fff)?$/i.test(colour)) return getComputedStyle(document.documentElement).getPropertyValue("--paper");
    const parts = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(colour);
    const numbers = parts ? parts.slice(1).map((part) => parseInt(part, 16)) : (colour.match(/[\d.]+/g) || []).map(Number);
    if (!/^(#|rgb)/.test(colour) || numbers.length < 3) return colour;
    const [red, green, blue] = numbers.map((number) => number / 255);
    const [high, low] = [Math.max(red, green, blue), Math.min(red, green, blue)];
    const [light, chroma] = [(high + low) / 2, high - low];
    const saturation = chroma ? chroma / (1 - Math.abs(2 * light - 1) || 1) : 0;
    let hue = 0;
    if (chroma) hue = high === red ? ((green - blue) / chroma + 6) % 6 : high === green ? (blue - red) / chroma + 2 : (red - green) / chroma + 4;
    return `hsla(${(hue * 60).toFixed(1)}, ${(saturation * 100).toFixed(1)}%, ${(8 + (1 - light) * span).toFixed(1)}%, ${numbers[3] ?? 1})`;
  };
  const recoloured = (node, span = 0) => {
    if (typeof node === "string") return span ? turned(node, span) : node;
    if (Array.isArray(node)) return node.map((item) => recoloured(item, span));
    if (node === null || typeof node !== "object") return node;
    return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, recoloured(value, key === "colorscale" ? CELLS : /color/i.test(key) ? LINES : 0)]));
  };

  const config = (layout) => ({ responsive: !layout.width, displayModeBar: false, displaylogo: false, typesetMath: false });
  const markWide = () => {
    for (const box of all(".scroll")) box.classList.toggle("wide", box.scrollWidth > box.clientWidth + 1);
  };
  // The names of rows stay in sight while a wide figure moves under them.
  const keepNames = (node) => {
    const [box, names, { l, t, h }] = [node.closest(".scroll"), node.querySelector(".yaxislayer-above"), node._fullLayout._size];
    if (!names || node._fullLayout.yaxis.fixedrange !== true || node._fullLayout.yaxis.tickmode !== "array") return;
    const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [name, value] of Object.entries({ x: 0, y: t - 12, width: l, height: h + 24, fill: node._fullLayout.paper_bgcolor })) paper.setAttribute(name, value);
    const move = () => {
      names.setAttribute("transform", `translate(${box.scrollLeft},0)`);
      if (box.scrollLeft) names.prepend(paper);
      else paper.remove();
    };
    box.onscroll = move;
  };
  const unpacked = async () => {
    const packed = document.getElementById("drawn");
    if (!packed) return {};
    const bytes = Uint8Array.from(atob(packed.textContent), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  };
  const drawn = unpacked();
  const draw = async (node) => {
    node.dataset.drawn = "started";
    const { template, [node.id]: figure } = await drawn;
    const { data, layout } = (dark.matches ? recoloured : structuredClone)({ ...figure, layout: { template, ...figure.layout } });
    Plotly.newPlot(node, data, layout, config(layout)).then(() => {
      node.dataset.drawn = "yes";
      node.closest("figure").querySelector(".tools").hidden = false;
      markWide();
      keepNames(node);
      link(node);
    });
  };
  const element = (name, text, ...about) => Object.assign(document.createElement(name), { textContent: text }, ...about);
  const write = async (list) => {
    list.dataset.drawn = "started";
    for (const { kind, where, cells } of (await drawn)[list.id]) {
      const [item, head, strip] = [element("li", ""), element("p", ""), element("div", "", { className: "strip", dir: "ltr" })];
      head.append(element("b", kind), ` `, element("span", where));
      strip.append(...cells.map(({ text, hover, shade, is_warm, is_marked, is_boundary }) => element("bdi", text, {
        title: hover,
        className: `${is_warm ? "w" : "s"}${shade}${is_marked ? " marked" : ""}${is_boundary ? " boundary" : ""}`,
      })));
      item.append(head, strip);
      list.append(item);
    }
    list.dataset.drawn = "yes";
  };
  // What shares characters is pointed at together: the same place along x is shown in every such figure.
  const link = (node) => {
    const others = () => all(`.plot[data-link="${node.dataset.link}"][data-drawn="yes"]`).filter((one) => one !== node);
    if (!node.dataset.link) return;
    node.on("plotly_hover", ({ event, points: [{ x }] }) => {
      if (!event) return; // one that was shown from here
      for (const other of others()) {
        const at = other._fullData.flatMap((trace, curveNumber) => {
          const pointNumber = Array.from(trace.x || []).indexOf(x);
          return pointNumber < 0 || trace.hoverinfo === "skip" || trace.z ? [] : [{ curveNumber, pointNumber }];
        });
        if (at.length) Plotly.Fx.hover(other, at.slice(0, 1));
      }
    });
    node.on("plotly_unhover", () => others().forEach((other) => Plotly.Fx.unhover(other)));
  };
  const near = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen)
      if (isIntersecting && !target.dataset.drawn) (target.matches(".plot") ? draw : write)(target);
  }, { rootMargin: "500px" });
  for (const node of all(".plot, .strips")) near.observe(node);
  dark.addEventListener("change", () => all('.plot[data-drawn="yes"]').forEach(draw));
  window.addEventListener("beforeprint", () => all(".plot:not([data-drawn])").forEach(draw));
  window.addEventListener("resize", markWide);

  const saved = (name, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const cell = (value) => {
    const text = value === undefined || value === null ? "" : String(value).replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&#36;/g, "$").replace(/&amp;/g, "&");
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  };
  const table = (node) => {
    const rows = [["trace", "x", "y", "value", "plus", "minus", "text"]];
    for (const trace of node._fullData) {
      const bars = trace.error_x?.array ? trace.error_x : trace.error_y || {};
      const end = (i, j, z) => [z, bars.array?.[i], (bars.arrayminus || bars.array)?.[i], Array.isArray(trace.text) ? (z === "" ? trace.text[i] : trace.text[j]?.[i]) : ""];
      if (trace.z) trace.z.forEach((row, j) => Array.from(row).forEach((z, i) => rows.push([trace.name, trace.x?.[i] ?? i, trace.y?.[j] ?? j, ...end(i, j, z)])));
      else Array.from(trace.x || []).forEach((x, i) => rows.push([trace.name, x, trace.y?.[i], ...end(i, 0, "")]));
    }
    return rows.map((row) => row.map(cell).join(",") + "\n").join("");
  };
  const enlarge = (figure, node) => {
    const isLarge = figure.classList.toggle("large");
    figure.querySelector('[data-do="large"]').textContent = isLarge ? "Close" : "Enlarge";
    document.body.classList.toggle("covered", isLarge);
    node.dataset.height ||= node.style.height;
    node.style.height = isLarge ? `${Math.max(window.innerHeight - 120, parseInt(node.dataset.height, 10))}px` : node.dataset.height;
    Plotly.relayout(node, { height: parseInt(node.style.height, 10) });
    if (!node.layout.width) Plotly.Plots.resize(node);
  };
  document.addEventListener("click", ({ target }) => {
    const what = target.dataset?.do;
    if (!what) return;
    const figure = target.closest("figure");
    const node = figure.querySelector(".plot");
    const name = `${document.title} ${figure.querySelector("h3").textContent}`.replace(/[^\p{L}\p{N}]+/gu, "-").toLowerCase();
    if (what === "large") enlarge(figure, node);
    else if (what === "csv") saved(`${name}.csv`, table(node));
    else Plotly.downloadImage(node, { format: what, filename: name, scale: what === "png" ? 2 : 1 });
  });
  document.addEventListener("keydown", ({ key }) => {
    const figure = key === "Escape" && document.querySelector("figure.large");
    if (figure) enlarge(figure, figure.querySelector(".plot"));
  });

  // A click on a heading sorts; numbers by value, without numbers by the letters, what is missing last.
  const worth = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = parseFloat(text.replace(/,/g, "").replace(/−/g, "-").replace(/^[^\d-]*(?=-?\d)/, ""));
    return [/^[-−+]?[\d.]|^\D{0,6}\d/.test(text) ? number : NaN, text];
  };
  for (const heading of all("table.sortable thead th")) {
    heading.tabIndex = 0;
    const sort = () => {
      const before = [...heading.parentNode.cells].slice(0, heading.cellIndex);
      const [table, column] = [heading.closest("table"), before.reduce((sum, one) => sum + one.colSpan, 0)];
      const rows = [...table.tBodies[0].rows].map((row) => [worth(row, column), row]);
      const [first, second] = rows.some(([[number]]) => !isNaN(number)) ? ["descending", "ascending"] : ["ascending", "descending"];
      const order = heading.getAttribute("aria-sort") === first ? second : first;
      const sign = order === "ascending" ? 1 : -1;
      rows.sort(([[a, s]], [[b, t]]) => (isNaN(a) && isNaN(b) ? sign * s.localeCompare(t) : isNaN(a) ? 1 : isNaN(b) ? -1 : sign * (a - b)));
      for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", order);
      table.tBodies[0].append(...rows.map(([, row]) => row));
    };
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", ({ key }) => key === "Enter" && sort());
  }

  // Panels: of those that answer the same question for other things, the one that is picked.
  const pick = () => {
    const wanted = all("select[data-picks]").map((one) => one.value);
    for (const panel of all("[data-pick]")) panel.hidden = JSON.parse(panel.dataset.pick).some((of, i) => of !== null && of !== wanted[i]);
    for (const box of all(".panels")) box.classList.toggle("none", !all("[data-pick]", box).some((panel) => !panel.hidden));
    markWide();
  };
  for (const one of all("select[data-picks]")) one.addEventListener("change", pick);
  pick();
  markWide();
})();
