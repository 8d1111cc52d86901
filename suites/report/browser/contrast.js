// Texts whose contrast with what is behind them is too low (WCAG 2.2, 1.4.3, level AA): [ratio, text, class].
// In drawings a text stands on boxes that are not its ancestors: there every box's colour is tried.
(() => {
  const part = (text) => {
    const found = text.match(/[\d.]+/g).map(Number);
    return { r: found[0], g: found[1], b: found[2], a: found.length > 3 ? found[3] : 1 };
  };
  const light = ({ r, g, b }) => [r, g, b].map((one) => one / 255)
    .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = part(getComputedStyle(at).backgroundColor);
      if (colour.a === 1) return colour;
    }
    throw new Error("nothing opaque behind " + element.outerHTML.slice(0, 80));
  };
  const bad = [];
  const look = (text, element, style, colour, ground) => {
    const [one, other] = [light(colour), light(ground)].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) bad.push([ratio.toFixed(2), text.slice(0, 40), String(element.className.baseVal ?? element.className)]);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || element.closest("script, style, title, .symbols, .paper") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    look(text, element, style, part(element.namespaceURI.endsWith("svg") ? style.fill : style.color), behind(element));
  }
  for (const symbol of document.querySelectorAll(".symbols symbol")) {
    const texts = new Set([...symbol.querySelectorAll("text")].map((one) => one.getAttribute("class")));
    for (const box of symbol.querySelectorAll("rect")) for (const kind of texts) {
      const element = symbol.querySelector(`text.${kind}`), style = getComputedStyle(element);
      look(`${kind} on ${box.getAttribute("class")}`, element, style, part(style.fill), part(getComputedStyle(box).fill));
    }
  }
  return bad;
})()
