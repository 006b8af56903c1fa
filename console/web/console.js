'use strict';
// What moves on the page: it puts pieces that the server has rendered in their places, and dots on the map. Without it the page works, and stands still.
(() => {
  const keptRows = 200, maxDots = 80, travels = 1100; // ms that a dot takes
  const byId = (id) => document.getElementById(id);
  const live = byId('live'), pause = byId('pause'), rows = byId('rows'), rate = byId('rate'), trouble = byId('trouble');
  const still = matchMedia('(prefers-reduced-motion: reduce)');
  let source = null, again = 0, paused = false;

  const say = (text, on) => {
    if (live.textContent !== text) live.textContent = text;
    live.className = on ? 'on' : 'off';
  };

  const parse = (html) => {
    const template = document.createElement('template');
    template.innerHTML = html;
    return template.content;
  };

  // Rows are known by their ids: a stream that begins again may send some that are there.
  const addRows = (html) => {
    const fresh = [...parse(html).children].filter((row) => !row.id || !byId(row.id));
    for (const row of fresh) {
      if (fresh.length < 5) row.classList.add('fresh'); // where all are, none stands out
      rows.prepend(row);
    }
    while (rows.children.length > keptRows && !rows.lastElementChild.contains(document.activeElement)) rows.lastElementChild.remove();
    byId('none')?.remove();
  };

  // What somebody has opened or is on stays so.
  const replace = (part, html) => {
    const at = byId('part-' + part);
    const opened = [...at.querySelectorAll('details[open][id]')].map((d) => d.id);
    const here = document.activeElement;
    const all = [...at.querySelectorAll('a, button, summary, [tabindex]')];
    const index = at.contains(here) ? all.indexOf(here) : -1;
    const scrolled = at.querySelector('.scroll')?.scrollTop;
    at.replaceChildren(parse(html));
    opened.forEach((id) => { const d = byId(id); if (d) d.open = true; });
    if (scrolled) at.querySelector('.scroll')?.scrollTo(0, scrolled);
    if (index >= 0) at.querySelectorAll('a, button, summary, [tabindex]')[index]?.focus({ preventScroll: true });
    if (part === 'map') readMap();
  };

  // The map: lines by what they connect.
  const lines = new Map(), dots = new Set();
  let layer = null, topics = new Map();
  const name = (kind, from, to) => JSON.stringify([kind, from, to]);
  const readMap = () => {
    lines.clear();
    document.querySelectorAll('.map .lines path').forEach((p) => lines.set(name(p.dataset.kind, p.dataset.from, p.dataset.to), p));
    topics = new Map([...document.querySelectorAll('.narrow li')].map((row) => [row.dataset.topic, row]));
    layer = document.querySelector('.map .dots');
    if (layer) layer.append(...[...dots].map((d) => d.circle));
  };

  const flash = (element) => {
    if (!element || element.classList.contains('busy')) return;
    element.classList.add('busy');
    setTimeout(() => element.classList.remove('busy'), 500);
  };

  const send = (key, kind, n) => {
    if (!lines.has(key) || !layer || document.hidden) return;
    flash(lines.get(key));
    if (still.matches) return;
    // what groups have committed is told every 3 s, what came several times a second
    const many = kind === 'consume' ? Math.min(8, n) : Math.min(3, n), apart = kind === 'consume' ? 3000 / many : 160;
    for (let i = 0; i < many && dots.size < maxDots; i++) {
      const circle = document.createElementNS('http://www.w3.org/2000/svg', 'circle');
      circle.setAttribute('r', Math.min(7, 3 + Math.log10(n)).toFixed(1));
      circle.setAttribute('class', kind);
      circle.setAttribute('cx', -20);
      layer.append(circle);
      dots.add({ key, circle, starts: performance.now() + (i + Math.random()) * apart });
    }
    if (dots.size) requestAnimationFrame(move);
  };

  let moved = -1;
  const move = (now) => {
    if (now === moved) return; // once a frame
    moved = now;
    for (const dot of dots) {
      const done = (now - dot.starts) / travels, line = lines.get(dot.key);
      if (done >= 1 || !line) {
        dot.circle.remove();
        dots.delete(dot);
      } else if (done >= 0) {
        const p = line.getPointAtLength(line.getTotalLength() * done);
        dot.circle.setAttribute('cx', p.x);
        dot.circle.setAttribute('cy', p.y);
      }
    }
    if (dots.size) requestAnimationFrame(move);
  };

  let counted = [];
  const flow = (all) => {
    counted.push([performance.now(), all.total]);
    for (const e of all.edges || []) {
      // a dead letter and what is sent back travel where the events of the group do
      send(name(e.kind === 'publish' ? 'publish' : 'consume', e.from, e.to), e.kind, e.n);
      flash(topics.get(e.kind === 'publish' ? e.to : e.from));
    }
  };
  setInterval(() => {
    const since = performance.now() - 5000;
    counted = counted.filter(([at]) => at > since);
    const n = counted.reduce((sum, [, total]) => sum + total, 0) / 5;
    const text = paused || !source ? '' : (n > 0 && n < 1 ? 'less than 1' : Math.round(n).toLocaleString('en')) + ' events/s';
    if (rate.textContent !== text) rate.textContent = text;
  }, 1000);

  const connect = () => {
    clearTimeout(again);
    source = new EventSource(document.body.dataset.stream);
    source.onopen = () => say('live', true);
    source.onerror = () => {
      say('reconnecting', false);
      if (source.readyState === EventSource.CLOSED) again = setTimeout(connect, 3000); // refused: the browser would not try again
    };
    source.addEventListener('rows', (e) => addRows(e.data));
    source.addEventListener('flow', (e) => flow(JSON.parse(e.data)));
    source.addEventListener('trouble', (e) => {
      const text = JSON.parse(e.data);
      trouble.hidden = text === '';
      trouble.textContent = text === '' ? '' : 'Not all events come: ' + text;
    });
    for (const part of ['health', 'map', 'groups', 'blocked']) source.addEventListener(part, (e) => replace(part, e.data));
  };

  pause.hidden = false;
  pause.addEventListener('click', () => {
    paused = !paused;
    pause.setAttribute('aria-pressed', String(paused));
    if (paused) {
      clearTimeout(again);
      source.close();
      say('paused', false);
    } else {
      connect();
    }
  });
  readMap();
  connect();
})();
