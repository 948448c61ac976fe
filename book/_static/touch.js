// What the pieces of the book that a reader can touch have in common.
const Touch = {
  sigmoid: (z) => 1 / (1 + Math.exp(-z)),
  signed: (x, digits = 3) => (x > 0 ? "+" : x < 0 ? "−" : "") + Math.abs(x).toFixed(digits),
  /** Say beside each slider, and to screen readers, where it stands. */
  label(form, words) {
    for (const slider of form.querySelectorAll("[type=range]")) {
      slider.nextElementSibling.textContent = words(slider);
      slider.setAttribute("aria-valuetext", words(slider));
    }
  },
  /** Once the page is there, start each of its pieces of one kind. */
  ready(selector, start) {
    document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(selector).forEach(start));
  },
};
