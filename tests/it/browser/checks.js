// What is wrong with the page as it is seen now: a list of sentences. Evaluated in the page by tests/it/browser.
(async () => {
  const CONTRAST_MIN = 4.5;
  const faults = new Set();
  const say = (what, element) => faults.add(`${what}: <${element.nodeName.toLowerCase()} ${element.className?.baseVal ?? element.className ?? ''}> "${element.textContent.trim().slice(0, 60)}"`);

  const colour = (text) => {
    const [red, green, blue, alpha = 1] = text.match(/[\d.]+/g).map(Number);
    return [red, green, blue, alpha];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((part, at) => part * a + under[at] * (1 - a)).concat(1);
  const light = (parts) => {
    const [r, g, b] = parts.slice(0, 3).map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const layer = colour(getComputedStyle(at).backgroundColor);
      if (layer[3] > 0) layers.push(layer);
      if (layer[3] === 1) break;
    }
    return layers.reduceRight((under, layer) => over(layer, under), [255, 255, 255, 1]);
  };

  const known = await (await fetch('texts/en.json')).json();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    const text = node.data.trim();
    if (!text || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) || element.closest('noscript, .skip')) continue;
    seen += 1;
    if (text in known) say('a text that is missing', element);
    if (/undefined|NaN|\[object|\{\w+[|}]/.test(text) && !element.closest('pre, code')) say('no text for people', element);
    if (element.closest(':disabled')) continue;
    const style = getComputedStyle(element);
    const under = behind(element);
    const drawn = colour(element instanceof SVGElement ? style.fill : style.color);
    let seenThrough = drawn[3];
    for (let at = element; at; at = at.parentElement) seenThrough *= Number(getComputedStyle(at).opacity);
    const found = contrast(over([...drawn.slice(0, 3), seenThrough], under), under);
    if (found < CONTRAST_MIN) say(`contrast ${found.toFixed(2)}`, element);
  }
  if (seen < 10) faults.add(`only ${seen} texts are seen`);

  const room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > room) {
    faults.add(`${document.documentElement.scrollWidth} pixels wide where there are ${room}`);
    for (const element of document.querySelectorAll('body *')) {
      if (element.getBoundingClientRect().right > room + 1 && !element.closest('.scroll, nav')) say('beyond the edge', element);
    }
  }
  for (const element of document.querySelectorAll('button, a[href], input, select, textarea')) {
    const name = element.textContent.trim() || element.getAttribute('aria-label') || element.closest('label')?.textContent.trim();
    if (!name && element.checkVisibility()) faults.add(`nothing says what this is for: ${element.outerHTML.slice(0, 120)}`);
  }
  return [...faults];
})()
