// Keys, and what is signed with them: docs/protocol.md, "Signatures". Private keys cannot be read, not even by this page.

import { base32, concat, fromBase32, utf8 } from "./text.js";

export async function makeIdentity(url, domain) {
  const signing = await crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"]);
  const agreement = await crypto.subtle.generateKey("X25519", false, ["deriveBits"]);
  return {
    url,
    domain,
    signing: signing.privateKey,
    agreement: agreement.privateKey,
    mailbox: await rawPublic(signing),
    agreementPublic: await rawPublic(agreement),
    device: crypto.getRandomValues(new Uint8Array(32)),
  };
}

export const rawPublic = async (pair) => new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));

export const sign = async (identity, bytes) =>
  new Uint8Array(await crypto.subtle.sign("Ed25519", identity.signing, bytes));

export async function hasSigned(mailbox, signature, bytes) {
  const key = await crypto.subtle.importKey("raw", mailbox, "Ed25519", false, ["verify"]);
  return crypto.subtle.verify("Ed25519", key, signature, bytes);
}

// The domain is the one that is meant, never one that a relay has just told.
export function proveSession(identity, nonce) {
  const domain = utf8(identity.domain);
  const context = utf8("postrider session v1\0");
  const { mailbox, device } = identity;
  return sign(identity, concat(context, Uint8Array.of(domain.length), domain, nonce, mailbox, device));
}

// What others need to write to somebody: mailbox and agreement key, and where the mailbox is kept.
export const cardOf = ({ mailbox, agreementPublic, domain }) =>
  `${base32(mailbox)}.${base32(agreementPublic)}@${domain}`;

export function readCard(text) {
  const [, mailbox, agreementPublic, domain] = /^(\w{52})\.(\w{52})@([a-z0-9.-]+)$/.exec(text.trim()) ?? [];
  if (!domain) throw new Error("That is not a card.");
  return { mailbox: fromBase32(mailbox), agreementPublic: fromBase32(agreementPublic), domain };
}
