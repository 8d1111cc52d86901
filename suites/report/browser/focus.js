// What has the focus, whether one sees that it has, and whether it is where one looks.
(() => {
  const at = document.activeElement, box = at.getBoundingClientRect(), style = getComputedStyle(at);
  return {
    tag: at.tagName, id: at.id, text: (at.textContent || "").trim().slice(0, 60), href: at.getAttribute("href"),
    outline: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    inside: box.bottom > 0 && box.top < innerHeight && box.width > 0,
  };
})()
