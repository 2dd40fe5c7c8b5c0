// The calls of the client API: docs/protocol.md, "Client API" and "Web pages".

import { proveSession } from "./identity.js";
import { base32, fromHex, hex } from "./text.js";
import * as wire from "./wire.js";

const PREFIX = "urn:postrider:problem:";

// The relay refused, and says why in one of a fixed set of words.
export class Problem extends Error {
  constructor(status, { type = "", title = "", detail }, retryAfter) {
    super(detail ? `${title}: ${detail}` : title || `The relay answered ${status}.`);
    this.status = status;
    this.word = type.replace(PREFIX, "");
    this.retryAfter = retryAfter;
  }
}

export class Relay {
  constructor(url, domain) {
    this.url = new URL(url).origin;
    this.domain = domain;
  }

  info() { return this.json("GET", "/.well-known/postrider"); }

  // Without a token nothing in a submission says who sends it. A relay that takes them from its members only asks for one.
  async submit(items, token) {
    const answer = await this.call("POST", "/v1/envelopes", wire.encodeSubmission(items), wire.MEDIA_TYPE, token);
    return wire.decodeResults(new Uint8Array(await answer.arrayBuffer()));
  }

  tracking(id) { return this.json("GET", `/v1/tracking/${base32(id)}`); }

  async signIn(identity) {
    const { nonce } = await this.json("POST", "/v1/challenges");
    const proof = {
      mailbox: base32(identity.mailbox),
      device: base32(identity.device),
      nonce,
      signature: hex(await proveSession(identity, fromHex(nonce))),
    };
    const { token } = await this.json("POST", "/v1/sessions", JSON.stringify(proof), "application/json");
    return new Session(this, token);
  }

  async json(...request) { return (await this.call(...request)).json(); }

  async call(method, path, body, type, token) {
    const headers = {};
    if (type) headers["Content-Type"] = type;
    if (token) headers.Authorization = `Bearer ${token}`;
    const init = { method, headers, body, credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer" };
    const answer = await fetch(this.url + path, init);
    if (answer.ok) return answer;
    const wait = answer.headers.get("Retry-After");
    throw new Problem(answer.status, await answer.json().catch(() => ({})), wait && Number(wait));
  }
}

class Session {
  #relay; #token;
  constructor(relay, token) { this.#relay = relay; this.#token = token; }

  submit(items) { return this.#relay.submit(items, this.#token); }

  // A new mailbox takes an invite's secret at most relays; one that exists takes none.
  register(invite) {
    const document = invite ? [JSON.stringify({ invite }), "application/json"] : [undefined, undefined];
    return this.#relay.json("PUT", "/v1/mailbox", ...document, this.#token);
  }

  // Receives until the stream ends. An entry is acknowledged when `take` is done with it: then it is stored here.
  // `opened` is called once the relay has agreed.
  stream(opened, take) {
    const url = `${this.#relay.url.replace(/^http/, "ws")}/v1/mailbox/stream`;
    // A page can set no header on a WebSocket; the token is offered as a subprotocol, and never chosen.
    const socket = new WebSocket(url, ["postrider.v1", `postrider.bearer.${this.#token}`]);
    socket.binaryType = "arraybuffer";
    return new Promise((resolve, reject) => {
      let taking = Promise.resolve();
      socket.onopen = opened;
      socket.onmessage = ({ data }) => {
        taking = taking.then(async () => {
          const delivery = wire.decodeDelivery(new Uint8Array(data));
          for (const { envelope } of delivery) await take(envelope);
          const ids = delivery.map(({ id }) => id).filter((id) => id !== null);
          if (ids.length && socket.readyState === WebSocket.OPEN) socket.send(wire.encodeAcknowledgement(ids));
        }).catch((error) => { socket.close(); reject(error); });
      };
      socket.onclose = ({ code, reason }) => resolve({ code, reason });
    });
  }
}

// Stays connected: after every end it signs in again, with longer pauses each time and some randomness, so that not
// everybody is back at the same moment. It ends only when trying again cannot help.
export async function receive(identity, take, tell) {
  const relay = new Relay(identity.url, identity.domain);
  for (let pause = 500; ; pause = Math.min(pause * 2, 60_000)) {
    let wait = 0;
    try {
      tell("waiting", "connecting");
      const session = await relay.signIn(identity);
      await session.register();
      const { reason } = await session.stream(() => { pause = 500; tell("on", `connected to ${identity.domain}`); }, take);
      tell("waiting", reason || "the connection was lost");
    } catch (error) {
      if (error instanceof Problem && error.status < 500 && !error.retryAfter) throw error;
      wait = (error.retryAfter ?? 0) * 1000;
      tell("waiting", "the relay cannot be reached");
    }
    await new Promise((resolve) => setTimeout(resolve, Math.max(wait, pause * (0.5 + Math.random()))));
  }
}
