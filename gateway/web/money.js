/**
 * Money as decimal text, exactly: sums are made of whole minor units, never of floating-point numbers.
 */

const MINOR = /^-?\d+(\.\d+)?$/;

/** Minor digits of a decimal text: 2 for "150.00". */
export function digitsOf(text) {
  const point = text.indexOf(".");
  return point < 0 ? 0 : text.length - point - 1;
}

/** "150.00" with 2 digits is 15000n; null where the text is no amount of so many digits. */
export function toMinor(text, digits) {
  if (!MINOR.test(text) || digitsOf(text) > digits) {
    return null;
  }
  const [whole, fraction = ""] = text.split(".");
  return BigInt(whole + fraction.padEnd(digits, "0"));
}

/** The reverse of {@link toMinor}. */
export function toText(minor, digits) {
  const sign = minor < 0n ? "-" : "";
  const plain = String(minor < 0n ? -minor : minor).padStart(digits + 1, "0");
  return digits === 0 ? sign + plain : `${sign}${plain.slice(0, -digits)}.${plain.slice(-digits)}`;
}

/** What a person typed, as an amount: "1 250,5" and "1,250.50" are read, "abc" is null. */
export function typed(text, digits) {
  let plain = text.replace(/[\s'_\u00a0\u202f]/g, "");
  if (/,\d{1,2}$/.test(plain) && digits > 0) {
    plain = plain.replace(/\./g, "").replace(/,/, ".");
  }
  plain = plain.replace(/,/g, "");
  const minor = toMinor(plain, digits);
  return minor === null ? null : toText(minor, digits);
}

/** As the visitor's language writes it. */
export function show(money) {
  try {
    // Text, not a number: the formatter keeps every digit.
    return new Intl.NumberFormat(undefined, { style: "currency", currency: money.currency }).format(money.amount);
  } catch {
    return `${money.amount} ${money.currency}`;
  }
}

/** The sum of amounts of one currency, or null of none. */
export function sum(all) {
  if (all.length === 0) {
    return null;
  }
  const digits = digitsOf(all[0].amount);
  const minor = all.reduce((total, money) => total + toMinor(money.amount, digits), 0n);
  return { amount: toText(minor, digits), currency: all[0].currency };
}

/** Bids to offer as buttons: the minimum and some steps above it, by the auction's table. */
export function quickBids(minimum, increments, stepsAbove = [0, 1, 4]) {
  const digits = digitsOf(minimum.amount);
  const table = increments
    .map((step) => ({ from: toMinor(step.from.amount, digits), increment: toMinor(step.increment.amount, digits) }))
    .sort((a, b) => (a.from < b.from ? -1 : 1));
  const after = (price) => price + (table.filter((step) => step.from <= price).at(-1)?.increment ?? 1n);
  return stepsAbove.map((steps) => {
    let price = toMinor(minimum.amount, digits);
    for (let step = 0; step < steps; step += 1) {
      price = after(price);
    }
    return { amount: toText(price, digits), currency: minimum.currency };
  });
}
