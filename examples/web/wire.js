// The wire form, to the byte: docs/protocol.md, "Wire form, to the byte".

import { concat, utf8 } from "./text.js";

export const MEDIA_TYPE = "application/vnd.postrider.v1+bincode";
const VERSION = 1;

class Writer {
  #parts = [];
  u32(value) { return this.#number(4, (view) => view.setUint32(0, value)); }
  u64(value) { return this.#number(8, (view) => view.setBigUint64(0, BigInt(value))); }
  raw(bytes) { this.#parts.push(bytes); return this; }
  blob(bytes) { return this.u64(bytes.length).raw(bytes); }
  finish() { return concat(...this.#parts); }
  #number(length, put) {
    const bytes = new Uint8Array(length);
    put(new DataView(bytes.buffer));
    return this.raw(bytes);
  }
}

class Reader {
  #bytes; #view; #at = 0;
  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (this.u32() !== VERSION) throw new Error("a message of another version");
  }
  u32() { return this.#view.getUint32(this.#skip(4)); }
  u64() { return this.#view.getBigUint64(this.#skip(8)); }
  flag() {
    const flag = this.#view.getUint8(this.#skip(1));
    if (flag > 1) throw new Error("neither absent nor present");
    return flag === 1;
  }
  raw(length) { const at = this.#skip(length); return this.#bytes.subarray(at, at + length); }
  blob() { return this.raw(Number(this.u64())); }
  text() { return new TextDecoder("utf-8", { fatal: true }).decode(this.blob()); }
  list(read) {
    const length = this.u64();
    if (length > 1024n) throw new Error("a list that is too long");
    return Array.from({ length: Number(length) }, read);
  }
  end() { if (this.#at !== this.#bytes.length) throw new Error("bytes behind the message"); }
  // What is behind the end is an error before anything is made of it.
  #skip(length) {
    const at = this.#at;
    if (at + length > this.#bytes.length) throw new Error("a message that ends too early");
    this.#at += length;
    return at;
  }
}

// An envelope for every device of a mailbox, without header and attachments.
export function encodeEnvelope({ id, mailbox, expiresAt, body }) {
  return new Writer().u32(VERSION).raw(id).raw(mailbox).raw(Uint8Array.of(0)).u64(expiresAt).u32(0)
    .blob(new Uint8Array()).blob(body).u64(0).finish();
}

function decodeEnvelope(bytes) {
  const read = new Reader(bytes);
  const envelope = { id: read.raw(16), mailbox: read.raw(32), device: read.flag() ? read.raw(32) : null };
  envelope.expiresAt = read.u64();
  envelope.urgency = read.u32();
  envelope.header = read.blob();
  envelope.body = read.blob();
  envelope.attachments = read.list(() => ({ id: read.raw(32), length: read.u64(), chunkLength: read.u32() }));
  read.end();
  return envelope;
}

export function encodeSubmission(items) {
  const out = new Writer().u32(VERSION).u64(items.length);
  for (const { domain, envelope } of items) out.blob(utf8(domain)).blob(envelope);
  return out.finish();
}

export function decodeResults(bytes) {
  const read = new Reader(bytes);
  const results = read.list(() => {
    switch (read.u32()) {
      case 0: return { kind: "stored" };
      case 1: return { kind: "queued", tracking: read.raw(16) };
      case 2: return { kind: "refused", reason: read.text(), retryAfter: read.flag() ? read.u32() : null };
      default: throw new Error("an unknown result");
    }
  });
  read.end();
  return results;
}

// What the relay hands to a device: entries with their ids, or an ephemeral envelope without.
export function decodeDelivery(bytes) {
  const read = new Reader(bytes);
  const variant = read.u32();
  if (variant > 1) throw new Error("an unknown message");
  const delivery = variant === 0
    ? read.list(() => ({ id: read.u64(), envelope: decodeEnvelope(read.blob()) }))
    : [{ id: null, envelope: decodeEnvelope(read.blob()) }];
  read.end();
  return delivery;
}

export function encodeAcknowledgement(ids) {
  const out = new Writer().u32(VERSION).u32(0).u64(ids.length);
  for (const id of ids) out.u64(id);
  return out.finish();
}
