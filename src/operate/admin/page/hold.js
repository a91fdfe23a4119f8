// What a person points at, or has the focus in, stays where it is.

// Whether the pointer is over the element, or the focus in it. A finger that was lifted points at nothing.
class Hold {
  constructor(element) {
    this.element = element;
    this.over = false;
    element.addEventListener("pointerenter", (event) => { this.over = event.pointerType !== "touch"; });
    element.addEventListener("pointerleave", () => { this.over = false; });
  }

  get held() {
    return this.over || this.element.contains(document.activeElement);
  }

  // What the person asked for is shown at once.
  release() {
    this.over = false;
    if (this.element.contains(document.activeElement)) document.activeElement.blur();
  }
}

let pointed = null;
document.addEventListener("pointerover", (event) => { pointed = event.pointerType === "touch" ? null : event.target; });
document.documentElement.addEventListener("pointerleave", () => { pointed = null; });

// Runs what may change the height of things further up, and then scrolls, so that the element under the pointer, or the
// one with the focus, does not move. If the page cannot be scrolled so far, room is added, until nothing is pointed at.
function steady(run) {
  const main = byId("main");
  const inside = (element) => element instanceof Element && element.isConnected && element !== main && main.contains(element);
  const anchor = [pointed, document.activeElement].find(inside);
  if (!anchor) {
    main.style.marginTop = main.style.paddingBottom = "";
    return run();
  }
  const before = anchor.getBoundingClientRect().top;
  run();
  const moved = () => (anchor.isConnected ? Math.round(anchor.getBoundingClientRect().top - before) : 0);
  const scroll = () => window.scrollBy({ top: moved(), behavior: "instant" });
  scroll();
  if (moved() > 0) {
    main.style.paddingBottom = `${parseFloat(getComputedStyle(main).paddingBottom) + moved()}px`;
    scroll();
  } else if (moved() < 0) {
    main.style.marginTop = `${parseFloat(getComputedStyle(main).marginTop) - moved()}px`;
  }
}
