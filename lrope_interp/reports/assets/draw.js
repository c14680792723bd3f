
(() => {
  "use strict";
  const config = (layout) => ({
    responsive: !layout.width,
    displaylogo: false,
    typesetMath: false,
    showSendToCloud: false,
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]],
    toImageButtonOptions: { format: "svg", filename: "lrope-interp" },
  });
  const markWide = () => {
    for (const box of document.querySelectorAll(".scroll")) {
      box.classList.toggle("wide", box.scrollWidth > box.clientWidth + 1);
    }
  };
  const draw = (node) => {
    if (node.dataset.drawn) return;
    node.dataset.drawn = "started";
    const figure = JSON.parse(document.getElementById(node.id + "-data").textContent);
    Plotly.newPlot(node, figure.data, figure.layout, config(figure.layout)).then(() => {
      node.dataset.drawn = "yes";
      markWide();
    });
  };
  const drawOpen = (root) => {
    for (const node of root.querySelectorAll(".plot")) {
      if (!node.closest("details:not([open])")) draw(node);
    }
  };
  for (const fold of document.querySelectorAll("details")) {
    fold.addEventListener("toggle", () => drawOpen(fold));
  }
  window.addEventListener("resize", markWide);
  markWide();
  drawOpen(document);
})();
