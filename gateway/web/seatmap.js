/**
 * The seat map: draws a venue of tens of thousands of seats on a canvas, and lets a finger, a mouse or the
 * keyboard move, zoom and choose. Far away a section is one shape, filled as far as it is sold; nearer,
 * every seat is a mark whose shape tells its state without its colour.
 *
 * What it deliberately does not do: talk to the server or decide what may be taken.
 */
import { Venue } from "./venue.js";

const SCALE_MAX = 46;
/** From this many pixels a seat, seats are drawn one by one... */
const SEATS_FROM_PX = 3.4;
/** ... and can be chosen: below it a tap zooms in. */
const CHOOSE_FROM_PX = 9;
const TAP_PX_MAX = 8;
const ZOOM_STEP = 1.5;
const FLASH_MS = 900;
const KINDS = ["available", "held", "sold", "picked", "mine", "ticket"];

/** Colours by theme; the marks' shapes differ as well. */
const THEMES = {
  light: { available: "#0072b2", held: "#b45f00", sold: "#9a9ca8", picked: "#16171d", mine: "#b0125b", ticket: "#05603a", ink: "#16171d", dim: "#585b69", block: "#e6eef6", sold_block: "#ececf1", line: "#b9bccb", stage: "#2a2b38", on: "#ffffff", flash: "#e69f00", focus: "#d55e00" },
  dark: { available: "#56b4e9", held: "#f0a33a", sold: "#5d6172", picked: "#f6f6fb", mine: "#ff8fc0", ticket: "#7ee2a8", ink: "#f1f1f6", dim: "#a9adbd", block: "#1d3040", sold_block: "#23252f", line: "#4a4e60", stage: "#3a3d4e", on: "#14151c", flash: "#f5c542", focus: "#ffb37a" },
};

const darkTheme = matchMedia("(prefers-color-scheme: dark)");
const theme = () => (darkTheme.matches ? THEMES.dark : THEMES.light);

/** One mark of `size` pixels: a disc, a ring, a cross, a disc with a tick, a square with a tick, a star. */
export function drawMark(context, kind, size) {
  const colours = theme();
  const [middle, radius] = [size / 2, size * 0.4];
  context.fillStyle = colours[kind];
  context.strokeStyle = colours[kind];
  context.lineWidth = Math.max(1, size * 0.13);
  context.lineCap = "round";
  context.beginPath();
  if (kind === "held") {
    context.arc(middle, middle, radius * 0.85, 0, 2 * Math.PI);
    context.stroke();
  } else if (kind === "sold") {
    const arm = radius * 0.55;
    context.moveTo(middle - arm, middle - arm);
    context.lineTo(middle + arm, middle + arm);
    context.moveTo(middle + arm, middle - arm);
    context.lineTo(middle - arm, middle + arm);
    context.stroke();
  } else if (kind === "mine" || kind === "ticket") {
    context.roundRect(middle - radius, middle - radius, 2 * radius, 2 * radius, size * 0.14);
    context.fill();
  } else {
    context.arc(middle, middle, radius, 0, 2 * Math.PI);
    context.fill();
  }
  if (size >= 9 && (kind === "picked" || kind === "mine" || kind === "ticket")) {
    context.beginPath();
    context.strokeStyle = colours.on;
    if (kind === "ticket") {
      context.moveTo(middle, middle - radius * 0.55);
      context.lineTo(middle, middle + radius * 0.55);
      context.moveTo(middle - radius * 0.55, middle);
      context.lineTo(middle + radius * 0.55, middle);
    } else {
      context.moveTo(middle - radius * 0.5, middle);
      context.lineTo(middle - radius * 0.1, middle + radius * 0.4);
      context.lineTo(middle + radius * 0.55, middle - radius * 0.4);
    }
    context.stroke();
  }
}

export class SeatMap {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{onSeat: (label: string) => void, onCursor: (label: string | null, section: object | null) => void}} handlers
   */
  constructor(canvas, handlers) {
    this.canvas = canvas;
    this.handlers = handlers;
    this.context = canvas.getContext("2d");
    this.venue = null;
    this.marks = new Map();
    this.view = { scale: 1, x: 0, y: 0 };
    this.cursor = null;
    this.flashes = new Map();
    this.pointers = new Map();
    this.isDue = false;
    new ResizeObserver(() => this.resize()).observe(canvas);
    darkTheme.addEventListener("change", () => this.redraw());
    this.listen();
  }

  /** Shows a venue, whole. */
  show(venue) {
    this.venue = venue;
    this.resize();
    this.fit();
  }

  /** What seats are to the visitor, by label: `picked`, `mine` or `ticket`. */
  setMarks(marks) {
    this.marks = marks;
    this.redraw();
  }

  /** Draws the eye to seats that changed. */
  flash(labels) {
    const until = performance.now() + FLASH_MS;
    labels.forEach((label) => this.flashes.set(label, until));
    this.redraw();
  }

  // ---- the view

  resize() {
    const box = this.canvas.getBoundingClientRect();
    const ratio = devicePixelRatio || 1;
    const isFirst = !this.size;
    this.size = [box.width, box.height];
    [this.canvas.width, this.canvas.height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
    if (!isFirst && this.isFitted) {
      this.fit();
    }
    this.redraw();
  }

  fit() {
    this.cursor = null;
    this.isFitted = true;
    this.frame(this.venue?.bounds());
  }

  /** Shows a section, whole. */
  goTo(section) {
    this.isFitted = false;
    this.frame(this.venue.bounds([section]), CHOOSE_FROM_PX + 1);
  }

  frame(bounds, scaleMin = 0) {
    if (!bounds) {
      return;
    }
    const [left, top, right, bottom] = bounds;
    const [width, height] = this.size;
    const fitting = Math.min((width - 24) / (right - left), (height - 24) / (bottom - top));
    this.scaleFit ??= fitting;
    if (scaleMin === 0) {
      this.scaleFit = fitting;
    }
    const scale = Math.min(Math.max(fitting, scaleMin), 26);
    this.view = { scale, x: width / 2 - (scale * (left + right)) / 2, y: height / 2 - (scale * (top + bottom)) / 2 };
    this.redraw();
  }

  zoom(factor, at = [this.size[0] / 2, this.size[1] / 2]) {
    const scale = Math.min(SCALE_MAX, Math.max((this.scaleFit ?? 1) * 0.8, this.view.scale * factor));
    const by = scale / this.view.scale;
    this.view = { scale, x: at[0] - (at[0] - this.view.x) * by, y: at[1] - (at[1] - this.view.y) * by };
    this.isFitted = false;
    this.redraw();
  }

  pan(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.isFitted = false;
    this.redraw();
  }

  toWorld([x, y]) {
    return [(x - this.view.x) / this.view.scale, (y - this.view.y) / this.view.scale];
  }

  toScreen([x, y]) {
    return [x * this.view.scale + this.view.x, y * this.view.scale + this.view.y];
  }

  // ---- drawing

  redraw() {
    if (!this.isDue) {
      this.isDue = true;
      requestAnimationFrame(() => {
        this.isDue = false;
        this.draw();
      });
    }
  }

  draw() {
    const { context, view, venue } = this;
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, ...this.size);
    if (!venue) {
      return;
    }
    this.drawStage();
    const sprites = view.scale >= SEATS_FROM_PX ? this.sprites(ratio) : null;
    for (const section of venue.sections) {
      if (this.isVisible(section)) {
        sprites ? this.drawSeats(section, sprites, ratio) : this.drawBlock(section);
      }
    }
    for (const section of venue.sections) {
      if (this.isVisible(section)) {
        this.drawName(section, sprites !== null);
      }
    }
    this.drawFlashes();
    this.drawCursor();
  }

  isVisible(section) {
    const [x, y] = this.toScreen(Venue.toWorld(section, 0, section.depth / 2));
    const reach = (Math.hypot(section.width, section.depth) / 2 + 2) * this.view.scale;
    return x > -reach && y > -reach && x < this.size[0] + reach && y < this.size[1] + reach;
  }

  sprites(ratio) {
    const size = Math.ceil(this.view.scale * ratio);
    const key = `${size} ${darkTheme.matches}`;
    if (this.spriteKey !== key) {
      this.spriteKey = key;
      this.spriteSet = Object.fromEntries(
        KINDS.map((kind) => {
          const canvas = document.createElement("canvas");
          canvas.width = canvas.height = size;
          drawMark(canvas.getContext("2d"), kind, size);
          return [kind, canvas];
        }),
      );
    }
    return this.spriteSet;
  }

  drawStage() {
    const { context } = this;
    const [x, y] = this.toScreen([0, 0]);
    const scale = this.view.scale;
    context.fillStyle = theme().stage;
    context.beginPath();
    context.roundRect(x - 8 * scale, y - 4 * scale, 16 * scale, 6 * scale, 1.5 * scale);
    context.fill();
    if (scale > 2.6) {
      this.text("STAGE", x, y - scale, Math.min(20, 3.2 * scale), "#ffffff");
    }
  }

  text(text, x, y, size, colour, weight = 650) {
    const { context } = this;
    context.font = `${weight} ${size}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = colour;
    context.fillText(text, x, y);
  }

  outline(section) {
    const { context } = this;
    context.beginPath();
    Venue.corners(section).forEach((corner, place) => {
      const [x, y] = this.toScreen(corner);
      place === 0 ? context.moveTo(x, y) : context.lineTo(x, y);
    });
    context.closePath();
  }

  /** Filled from the front as far as seats are free. */
  drawBlock(section) {
    const { context } = this;
    const colours = theme();
    this.outline(section);
    context.fillStyle = colours.sold_block;
    context.fill();
    const free = section.available / Math.max(1, section.labels.length);
    const half = section.width / 2 + 0.5;
    const depth = (section.depth + 1) * free - 0.5;
    context.beginPath();
    [[-half, -0.5], [half, -0.5], [half, depth], [-half, depth]].forEach(([x, y], place) => {
      const [sx, sy] = this.toScreen(Venue.toWorld(section, x, y));
      place === 0 ? context.moveTo(sx, sy) : context.lineTo(sx, sy);
    });
    context.fillStyle = colours.block;
    context.fill();
    this.outline(section);
    context.lineWidth = 1;
    context.strokeStyle = free > 0 ? colours.available : colours.line;
    context.stroke();
    this.drawMarkedSeats(section);
  }

  /** The visitor's own seats are seen from far away too. */
  drawMarkedSeats(section) {
    for (const [label, kind] of this.marks) {
      const seat = this.venue.seat(label);
      if (seat?.section === section) {
        const [x, y] = this.toScreen(Venue.toWorld(section, ...Venue.local(section, seat.seat)));
        this.context.fillStyle = theme()[kind];
        this.context.fillRect(x - 3, y - 3, 6, 6);
      }
    }
  }

  drawSeats(section, sprites, ratio) {
    const { context, view } = this;
    const [x, y] = this.toScreen([section.x, section.y]);
    const [sin, cos] = [Math.sin(section.angle), Math.cos(section.angle)];
    this.outline(section);
    context.fillStyle = theme().sold_block;
    context.fill();
    context.setTransform(ratio * cos, -ratio * sin, ratio * sin, ratio * cos, ratio * x, ratio * y);
    const size = view.scale;
    const marked = this.marks.size > 0;
    for (let seat = 0; seat < section.states.length; seat += 1) {
      const [lx, ly] = Venue.local(section, seat);
      const kind = (marked && this.marks.get(section.labels[seat])) || KINDS[section.states[seat]];
      context.drawImage(sprites[kind], (lx - 0.5) * size, (ly - 0.5) * size, size, size);
    }
    if (size >= 16) {
      section.rows.forEach((row, place) => {
        this.text(row.name, (-row.count / 2 - 0.7) * size, (place + 0.5) * size, size * 0.5, theme().dim, 500);
      });
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  drawName(section, isNear) {
    const colours = theme();
    const scale = this.view.scale;
    if (isNear) {
      const [x, y] = this.toScreen(Venue.toWorld(section, 0, -1.2));
      if (section.width * scale > 60) {
        this.text(section.name, x, y, Math.min(15, Math.max(9, scale * 0.9)), colours.dim);
      }
      return;
    }
    const [x, y] = this.toScreen(Venue.toWorld(section, 0, section.depth / 2));
    const room = Math.min(section.width, section.depth * 1.8) * scale;
    const short = section.name.length > 5 ? section.name.split(" ").at(-1) : section.name;
    const size = Math.min(13, room / 2.4);
    if (size >= 6.5) {
      this.text(room > section.name.length * size * 0.62 ? section.name : short, x, y, size, colours.ink);
    }
  }

  drawFlashes() {
    const now = performance.now();
    const { context } = this;
    for (const [label, until] of this.flashes) {
      const seat = until > now ? this.venue.seat(label) : null;
      if (!seat) {
        this.flashes.delete(label);
        continue;
      }
      const [x, y] = this.toScreen(Venue.toWorld(seat.section, ...Venue.local(seat.section, seat.seat)));
      context.globalAlpha = (until - now) / FLASH_MS;
      context.strokeStyle = theme().flash;
      context.lineWidth = 2.5;
      context.beginPath();
      context.arc(x, y, Math.max(4, this.view.scale * 0.7), 0, 2 * Math.PI);
      context.stroke();
      context.globalAlpha = 1;
    }
    if (this.flashes.size > 0) {
      this.redraw();
    }
  }

  drawCursor() {
    const seat = this.cursor && this.venue.seat(this.cursor);
    if (!seat) {
      return;
    }
    const { context } = this;
    const [x, y] = this.toScreen(Venue.toWorld(seat.section, ...Venue.local(seat.section, seat.seat)));
    context.strokeStyle = theme().focus;
    context.lineWidth = 3;
    context.beginPath();
    context.arc(x, y, Math.max(7, this.view.scale * 0.62), 0, 2 * Math.PI);
    context.stroke();
  }

  // ---- fingers, mouse and keys

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event, true));
    canvas.addEventListener("pointercancel", (event) => this.up(event, false));
    canvas.addEventListener("pointerleave", () => this.pointers.size === 0 && this.handlers.onCursor(this.cursor, null));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.handlers.onCursor(null, null));
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoom(Math.exp(-event.deltaY / 400), this.point(event));
      },
      { passive: false },
    );
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.point(event));
    this.moved = this.pointers.size > 1 ? Infinity : 0;
  }

  move(event) {
    const now = this.point(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.hover(now);
      return;
    }
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    this.pointers.set(event.pointerId, now);
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    this.moved += Math.hypot(dx, dy);
    if (others.length === 0) {
      if (this.moved > TAP_PX_MAX) {
        this.pan(dx, dy);
      }
      return;
    }
    const [other] = others;
    const gap = (point) => Math.max(10, Math.hypot(point[0] - other[0], point[1] - other[1]));
    this.zoom(gap(now) / gap(before), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
    this.pan(dx / 2, dy / 2);
  }

  up(event, isTap) {
    const point = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    if (isTap && point && this.moved <= TAP_PX_MAX) {
      this.tap(point);
    }
  }

  tap(point) {
    const at = this.toWorld(point);
    const section = this.venue?.sectionAt(...at);
    if (!section) {
      return;
    }
    if (this.view.scale < CHOOSE_FROM_PX) {
      this.goTo(section);
      this.handlers.onCursor(null, section);
      return;
    }
    const label = this.venue.seatAt(...at);
    if (label) {
      this.cursor = null;
      this.handlers.onSeat(label);
      this.redraw();
    }
  }

  hover(point) {
    const at = this.venue && this.toWorld(point);
    const section = at ? this.venue.sectionAt(...at) : null;
    const label = section && this.view.scale >= SEATS_FROM_PX * 1.5 ? this.venue.seatAt(...at) : null;
    this.handlers.onCursor(label, section);
  }

  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const actions = {
      Enter: () => this.cursor && this.handlers.onSeat(this.cursor),
      " ": () => this.cursor && this.handlers.onSeat(this.cursor),
      "+": () => this.zoom(ZOOM_STEP),
      "=": () => this.zoom(ZOOM_STEP),
      "-": () => this.zoom(1 / ZOOM_STEP),
      Escape: () => this.fit(),
      Home: () => this.fit(),
      PageDown: () => this.stepSection(1),
      PageUp: () => this.stepSection(-1),
    };
    const act = steps[event.key] ? () => this.step(...steps[event.key]) : actions[event.key];
    if (!this.venue || !act || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    event.preventDefault();
    act();
    this.redraw();
  }

  stepSection(by) {
    const { sections } = this.venue;
    const now = this.venue.seat(this.cursor)?.place ?? (by > 0 ? -1 : 0);
    this.enter(sections[(now + by + sections.length) % sections.length]);
  }

  /** Puts the cursor into a section, on its first free seat. */
  enter(section) {
    this.goTo(section);
    const free = section.states.indexOf(0);
    this.setCursor(section.labels[Math.max(0, free)]);
  }

  step(dx, dy) {
    const here = this.venue.seat(this.cursor);
    if (!here) {
      this.enter(this.venue.sections[0]);
      return;
    }
    const { section } = here;
    const [x] = Venue.local(section, here.seat);
    const place = Math.min(section.rows.length - 1, Math.max(0, section.rowOf[here.seat] + dy));
    const row = section.rows[place];
    const seat = Math.round(x + dx + (row.count - 1) / 2);
    this.setCursor(section.labels[row.first + Math.min(row.count - 1, Math.max(0, seat))]);
  }

  setCursor(label) {
    this.cursor = label;
    const seat = this.venue.seat(label);
    if (this.view.scale < CHOOSE_FROM_PX) {
      this.goTo(seat.section);
    }
    const [x, y] = this.toScreen(Venue.toWorld(seat.section, ...Venue.local(seat.section, seat.seat)));
    const margin = 40;
    const shift = (value, size) => (value < margin ? margin - value : value > size - margin ? size - margin - value : 0);
    this.pan(shift(x, this.size[0]), shift(y, this.size[1]));
    this.handlers.onCursor(label, seat.section);
  }
}
