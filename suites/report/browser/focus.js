// What has the focus, whether one sees that it has, and, once the page has scrolled to it, whether it is there.
new Promise((told) => requestAnimationFrame(() => requestAnimationFrame(() => {
  const at = document.activeElement, box = at.getBoundingClientRect(), style = getComputedStyle(at);
  told({
    tag: at.tagName, id: at.id, text: (at.textContent || "").trim().slice(0, 60), href: at.getAttribute("href"),
    outline: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    inside: box.bottom > 0 && box.top < innerHeight && box.width > 0,
  });
})))
