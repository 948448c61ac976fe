// What scrolls sideways has to be reached by keyboard, also what was folded when the page came.
document.addEventListener("DOMContentLoaded", () => {
  const reach = ({ target }) => { target.tabIndex = target.scrollWidth > target.clientWidth ? 0 : -1; };
  const watched = new ResizeObserver((boxes) => boxes.forEach(reach));
  document.querySelectorAll("article pre").forEach((box) => watched.observe(box));
});
