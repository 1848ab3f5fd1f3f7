// Toggles of methods and roles, and folds that open for printing.
(function () {
  "use strict";
  function toggle(attribute, hidden) {
    return function (event) {
      var wanted = "[data-" + attribute + '="' + event.target.value + '"]';
      document.querySelectorAll(wanted).forEach(function (element) {
        element.classList.toggle(hidden, !event.target.checked);
      });
      // A line of several series is there as long as one of them is.
      document.querySelectorAll("[data-several]").forEach(function (element) {
        var shown = element.dataset.several.split("-").some(function (index) {
          return document.querySelector('input[data-toggle="series"][value="' + index + '"]').checked;
        });
        element.classList.toggle("without-series", !shown);
      });
    };
  }
  document.querySelectorAll("input[data-toggle]").forEach(function (box) {
    box.checked = true;
    box.addEventListener("change", toggle(box.dataset.toggle, "without-" + box.dataset.toggle));
  });
  document.querySelectorAll("button[data-open]").forEach(function (button) {
    button.addEventListener("click", function () {
      var folds = document.querySelectorAll("#" + button.dataset.open + " details");
      var open = !Array.prototype.every.call(folds, function (fold) { return fold.open; });
      folds.forEach(function (fold) { fold.open = open; });
      button.textContent = open ? "Close all" : "Open all";
    });
  });
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details.print").forEach(function (fold) { fold.open = true; });
  });
})();
