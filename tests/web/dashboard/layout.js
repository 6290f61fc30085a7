// The faults of a page's layout, as lines. An expression; the test puts the width of the screen in CSS pixels at `SCREEN`.
(() => {
  const WIDTH = SCREEN;
  const SLACK = 1;   // browsers round positions to whole pixels in some places
  const MIN_FONT = 11;
  // hidden from sight on purpose: names for screen readers, and the link that shows itself when it has the focus
  const unseen = element => {
    for (let at = element; at; at = at.parentElement) {
      if (getComputedStyle(at).clipPath === "inset(50%)" || at.matches(".skip")) return true;
    }
    return !element.checkVisibility();
  };
  const inside = (rect, box) =>
    rect.left >= box.left - SLACK && rect.right <= box.right + SLACK &&
    rect.top >= box.top - SLACK && rect.bottom <= box.bottom + SLACK;
  const scrolls = style => /auto|scroll/.test(style.overflowX);
  const cuts = style => /hidden|clip/.test(style.overflowX + style.overflowY);

  function faultsOfText(node) {
    const faults = new Set();
    const parent = node.parentElement;
    const text = node.data.trim();
    if (parseFloat(getComputedStyle(parent).fontSize) < MIN_FONT) faults.add("small");
    const range = document.createRange();
    range.selectNodeContents(node);
    const rects = [...range.getClientRects()];
    let nearest = true;   // the box that the text belongs to, the first that is not part of a line
    for (let at = parent; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (scrolls(style)) return faults;
      if (style.display === "inline" || style.display === "contents") continue;
      const box = at.getBoundingClientRect();
      const whole = rects.every(rect => inside(rect, box));
      if (nearest && !whole) faults.add("outside its box");
      // an ellipsis shortens the text's own rectangle, but not the width of what its box holds
      const cut = cuts(style) && (!whole || (nearest && at.scrollWidth > at.clientWidth + SLACK));
      if (cut && !at.title.includes(text)) faults.add("cut");
      nearest = false;
    }
    if (rects.some(rect => rect.left < -SLACK || rect.right > WIDTH + SLACK)) faults.add("off the screen");
    return faults;
  }

  const faults = [];
  const page = document.scrollingElement.scrollWidth;
  if (page > WIDTH) faults.push(`wide: ${page}`);
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode;
    if (!node.data.trim() || unseen(node.parentElement)) continue;
    for (const fault of faultsOfText(node)) {
      const { tagName, className } = node.parentElement;
      faults.push(`${fault}: ${tagName}.${className} ${node.data.trim().slice(0, 40)}`);
    }
  }
  return faults;
})()
