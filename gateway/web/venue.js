/**
 * Where seats are drawn. The grid knows sections, rows and seats, from best to worst, but no coordinates; here
 * the sections are put on arcs around the stage: the best nearest to it and in the middle. The unit is the
 * distance between two seats.
 *
 * Pure: no page, no network.
 */

const GAP = 2.2;
const INNER_RADIUS = 11;
/** How far around the stage a ring may reach. */
const SPAN_RADIANS = (200 / 180) * Math.PI;

export const STATES = ["available", "held", "sold"];
const LETTERS = { a: 0, h: 1, s: 2 };

/** A section's rows from its labels (`SECTION-ROW-SEAT`): `[{name, first, count}]`. */
export function rowsOf(section, labels) {
  const rows = [];
  labels.forEach((label, index) => {
    const [row] = partsOf(section, label);
    const last = rows.at(-1);
    if (last?.name === row) {
      last.count += 1;
    } else {
      rows.push({ name: row, first: index, count: 1 });
    }
  });
  return rows;
}

/** Row and seat of a label; both the section's and the row's name may have dashes of their own. */
export function partsOf(section, label) {
  const rest = label.startsWith(`${section}-`) ? label.slice(section.length + 1) : label;
  const cut = rest.lastIndexOf("-");
  return cut < 0 ? ["", rest] : [rest.slice(0, cut), rest.slice(cut + 1)];
}

/** Left to right: the best in the middle, the others beside it in turn. */
function fromTheMiddle(all) {
  const left = all.filter((_, place) => place % 2 === 1).reverse();
  return [...left, ...all.filter((_, place) => place % 2 === 0)];
}

/** What sections that belong together share of their names: "Club 12" and "Club 3", "101" and "124". */
function blockOf(name) {
  return name.replace(/(\d{1,2}|\b[A-Z])$/, "");
}

/** Gives each section its `width`, `depth`, `x`, `y` and `angle`. The stage is at 0, 0; y grows away from it. */
function arrange(sections) {
  let radius = INNER_RADIUS;
  let rest = sections;
  while (rest.length > 0) {
    const ring = [];
    let angle = 0;
    for (const section of rest) {
      const own = (section.width + GAP) / radius;
      const isOther = ring.length > 0 && blockOf(section.name) !== blockOf(ring[0].name);
      if (isOther || (ring.length > 0 && angle + own > SPAN_RADIANS)) {
        break;
      }
      ring.push(section);
      angle += own;
    }
    let turn = -angle / 2;
    for (const section of fromTheMiddle(ring)) {
      const own = (section.width + GAP) / radius;
      section.angle = turn + own / 2;
      section.x = radius * Math.sin(section.angle);
      section.y = radius * Math.cos(section.angle);
      turn += own;
    }
    radius += Math.max(...ring.map((section) => section.depth)) + GAP * 1.4;
    rest = rest.slice(ring.length);
  }
}

/** All seats of an event: where they are and how they stand. */
export class Venue {
  /** @param {{name: string, price: object, states: string, labels: string[]}[]} sections */
  constructor(sections) {
    this.places = new Map();
    this.sections = sections.map((section, number) => {
      const rows = rowsOf(section.name, section.labels);
      section.labels.forEach((label, seat) => this.places.set(label, [number, seat]));
      return {
        name: section.name,
        price: section.price,
        labels: section.labels,
        rows,
        rowOf: rows.flatMap((row, place) => Array(row.count).fill(place)),
        width: Math.max(1, ...rows.map((row) => row.count)),
        depth: Math.max(1, rows.length),
        states: new Uint8Array(section.labels.length),
        available: 0,
      };
    });
    arrange(this.sections);
    sections.forEach((section, number) => this.setSection(number, section.states));
  }

  /** All seats of a section anew, one letter each. */
  setSection(number, letters) {
    const section = this.sections[number];
    section.available = 0;
    for (let seat = 0; seat < section.states.length; seat += 1) {
      section.states[seat] = LETTERS[letters[seat]] ?? 2;
      section.available += section.states[seat] === 0 ? 1 : 0;
    }
  }

  /** One seat's new state, by its name; false where nothing changed. */
  setSeat(label, state) {
    const [number, seat] = this.places.get(label) ?? [];
    const section = this.sections[number];
    const code = STATES.indexOf(state);
    if (!section || code < 0 || section.states[seat] === code) {
      return false;
    }
    section.available += (code === 0 ? 1 : 0) - (section.states[seat] === 0 ? 1 : 0);
    section.states[seat] = code;
    return true;
  }

  get available() {
    return this.sections.reduce((total, section) => total + section.available, 0);
  }

  get total() {
    return this.places.size;
  }

  /** `{section, seat, row, number, state}` of a label, or null. */
  seat(label) {
    const [place, seat] = this.places.get(label) ?? [];
    const section = this.sections[place];
    if (!section) {
      return null;
    }
    const [row, number] = partsOf(section.name, label);
    return { section, place, seat, row, number, state: STATES[section.states[seat]] };
  }

  /** A seat's middle within its section: x along the row, y away from the stage. */
  static local(section, seat) {
    const place = section.rowOf[seat];
    const row = section.rows[place];
    return [seat - row.first - (row.count - 1) / 2, place + 0.5];
  }

  /** From a section's own coordinates to the venue's. */
  static toWorld(section, x, y) {
    const [sin, cos] = [Math.sin(section.angle), Math.cos(section.angle)];
    return [section.x + x * cos + y * sin, section.y - x * sin + y * cos];
  }

  /** And back. */
  static toLocal(section, x, y) {
    const [sin, cos] = [Math.sin(section.angle), Math.cos(section.angle)];
    const [dx, dy] = [x - section.x, y - section.y];
    return [dx * cos - dy * sin, dx * sin + dy * cos];
  }

  /** A section's corners, with a margin. */
  static corners(section, margin = 0.5) {
    const half = section.width / 2 + margin;
    const box = [[-half, -margin], [half, -margin], [half, section.depth + margin], [-half, section.depth + margin]];
    return box.map(([x, y]) => Venue.toWorld(section, x, y));
  }

  /** `[left, top, right, bottom]` of some sections, or of all with the stage. */
  bounds(sections = null) {
    const points = (sections ?? this.sections).flatMap((section) => Venue.corners(section, 1));
    const all = sections ? points : [...points, [-9, -6], [9, 3]];
    const [xs, ys] = [all.map((point) => point[0]), all.map((point) => point[1])];
    return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  }

  /** The section at a point, or null. */
  sectionAt(x, y) {
    return (
      this.sections.find((section) => {
        const [lx, ly] = Venue.toLocal(section, x, y);
        return Math.abs(lx) <= section.width / 2 + 0.5 && ly >= -0.5 && ly <= section.depth + 0.5;
      }) ?? null
    );
  }

  /** The seat nearest to a point, as its label, or null where none is near. */
  seatAt(x, y) {
    const section = this.sectionAt(x, y);
    if (!section) {
      return null;
    }
    const [lx, ly] = Venue.toLocal(section, x, y);
    const place = Math.min(section.rows.length - 1, Math.max(0, Math.floor(ly)));
    const row = section.rows[place];
    const seat = Math.round(lx + (row.count - 1) / 2);
    return seat >= 0 && seat < row.count ? section.labels[row.first + seat] : null;
  }
}
