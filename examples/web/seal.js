// End-to-end encryption is the app's own; the relay carries bytes. This is a small one to show where it goes: X25519 with a
// fresh key, HKDF, AES-256-GCM, signed by the sender inside. It has no forward secrecy against a stolen device; an app for
// people takes a protocol that has, such as MLS or the Double Ratchet.

import { cardOf, hasSigned, rawPublic, readCard, sign } from "./identity.js";
import { concat, utf8 } from "./text.js";

const CONTEXT = utf8("postrider web example v1\0");
const OVERHEAD = 32 + 16; // the fresh key in front, the tag behind
const SIZES = Array.from({ length: 9 }, (_, step) => 512 << step); // lengths that tell little

export async function seal(identity, to, text) {
  const fresh = await crypto.subtle.generateKey("X25519", false, ["deriveBits"]);
  const freshPublic = await rawPublic(fresh);
  const said = utf8(JSON.stringify({ from: cardOf(identity), text }));
  // The signature is for this recipient and this message, so that nobody can pass it on as if it were to another.
  const signature = await sign(identity, concat(CONTEXT, to.mailbox, freshPublic, said));
  const content = concat(lengthOf(said), signature, said);
  const size = SIZES.find((size) => size >= content.length + OVERHEAD);
  if (!size) throw new Error("The message is too long.");
  const padded = concat(content, new Uint8Array(size - OVERHEAD - content.length));
  const key = await secret(fresh.privateKey, to.agreementPublic, freshPublic, to.agreementPublic);
  return concat(freshPublic, new Uint8Array(await crypto.subtle.encrypt(once, key, padded)));
}

export async function open(identity, body) {
  const freshPublic = body.slice(0, 32);
  const key = await secret(identity.agreement, freshPublic, freshPublic, identity.agreementPublic);
  const content = new Uint8Array(await crypto.subtle.decrypt(once, key, body.slice(32)));
  const length = new DataView(content.buffer).getUint32(0);
  const signature = content.slice(4, 68), said = content.slice(68, 68 + length);
  const { from, text } = JSON.parse(new TextDecoder().decode(said));
  if (!await hasSigned(readCard(from).mailbox, signature, concat(CONTEXT, identity.mailbox, freshPublic, said)))
    throw new Error("The signature is not the sender's.");
  return { from, text };
}

// Each key is used for one message, so that the nonce may be fixed.
const once = { name: "AES-GCM", iv: new Uint8Array(12) };

async function secret(privateKey, publicBytes, freshPublic, recipient) {
  const publicKey = await crypto.subtle.importKey("raw", publicBytes, "X25519", false, []);
  const shared = await crypto.subtle.deriveBits({ name: "X25519", public: publicKey }, privateKey, 256);
  const material = await crypto.subtle.importKey("raw", shared, "HKDF", false, ["deriveKey"]);
  const hkdf = { name: "HKDF", hash: "SHA-256", salt: concat(freshPublic, recipient), info: CONTEXT };
  return crypto.subtle.deriveKey(hkdf, material, { name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
}

function lengthOf(bytes) {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, bytes.length);
  return length;
}
