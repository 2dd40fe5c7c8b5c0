// Bytes as text and back.

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";

export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

export const fromHex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));

// RFC 4648, in lower case and without padding.
export function base32(bytes) {
  let text = "", buffer = 0, bits = 0;
  for (const byte of bytes) {
    buffer = (buffer << 8) | byte;
    for (bits += 8; bits >= 5; bits -= 5) text += ALPHABET[(buffer >> (bits - 5)) & 31];
    buffer &= (1 << bits) - 1;
  }
  return bits ? text + ALPHABET[(buffer << (5 - bits)) & 31] : text;
}

export function fromBase32(text) {
  const bytes = [];
  let buffer = 0, bits = 0;
  for (const letter of text) {
    const value = ALPHABET.indexOf(letter);
    if (value < 0) throw new Error(`${letter} is no letter of an identifier`);
    buffer = (buffer << 5) | value;
    bits += 5;
    if (bits >= 8) { bits -= 8; bytes.push(buffer >> bits); buffer &= (1 << bits) - 1; }
  }
  const identifier = Uint8Array.from(bytes);
  if (base32(identifier) !== text) throw new Error("an identifier has one spelling");
  return identifier;
}

export const utf8 = (text) => new TextEncoder().encode(text);

export function concat(...parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { all.set(part, at); at += part.length; }
  return all;
}
