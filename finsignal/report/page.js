"use strict";
(function () {
  var drawings = JSON.parse(document.getElementById("drawings").textContent);
  var narrow = window.matchMedia("(max-width: 520px)").matches;
  drawings.forEach(function (drawing) {
    drawing.height = drawing.layout.height;
    var place = document.getElementById("figure-" + drawing.id);
    Plotly.newPlot(place, drawing.data, drawing.layout, {
      responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover",
      // Plotly would offer to send the chart to its own service.
      showSendToCloud: false, showLink: false, plotlyServerURL: "", topojsonURL: "",
      modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"]
    });
  });

  // What is folded would be missing on paper.
  var opened = [];
  window.addEventListener("beforeprint", function () {
    opened = Array.prototype.slice.call(document.querySelectorAll(".question details:not([open])"));
    opened.forEach(function (part) { part.open = true; });
  });
  window.addEventListener("afterprint", function () { opened.forEach(function (part) { part.open = false; }); });

  // A chart keeps its pixel width on paper and would be cut off there.
  window.addEventListener("beforeprint", function () {
    drawings.forEach(function (drawing) { Plotly.relayout("figure-" + drawing.id, { width: 680, height: drawing.id === "equity" ? 400 : drawing.height }); });
  });
  window.addEventListener("afterprint", function () {
    drawings.forEach(function (drawing) { Plotly.relayout("figure-" + drawing.id, { width: null, height: drawing.height, autosize: true }); });
  });

  var list = document.getElementById("trade-list");
  if (!list) { return; }
  var trades = Array.prototype.slice.call(list.children);
  var symbol = document.getElementById("trade-symbol");
  var order = document.getElementById("trade-order");
  symbol.addEventListener("change", function () {
    trades.forEach(function (trade) { trade.hidden = symbol.value !== "" && trade.dataset.s !== symbol.value; });
  });
  order.addEventListener("change", function () {
    var sign = order.value === "gain" ? -1 : 1;
    var sorted = trades.slice();
    if (order.value !== "time") {
      sorted.sort(function (a, b) { return sign * (a.dataset.r - b.dataset.r); });
    }
    sorted.forEach(function (trade) { list.appendChild(trade); });
  });
  document.getElementById("trade-open").addEventListener("click", function () {
    var open = trades.some(function (trade) { return !trade.hidden && !trade.open; });
    trades.forEach(function (trade) { if (!trade.hidden) { trade.open = open; } });
  });
})();
