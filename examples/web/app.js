// What is on the page, and what happens when somebody does something there.

import { cardOf, makeIdentity, readCard } from "./identity.js";
import * as keep from "./keep.js";
import { Relay, receive } from "./relay.js";
import { open, seal } from "./seal.js";
import { hex } from "./text.js";
import { encodeEnvelope } from "./wire.js";

const DAY = 86_400, HOUR = 3_600;
const $ = (selector) => document.querySelector(selector);

const me = await keep.identity();
if (me) await enter(me);
else offer();

// The form for a first visit. A link may fill it in (#url=…&domain=…), and so does an invite that is put into it.
function offer() {
  const form = $("#join");
  const fill = (pairs) => {
    for (const [name, value] of new URLSearchParams(pairs)) {
      if (form.elements[name]) form.elements[name].value = value;
    }
  };
  fill(location.hash.slice(1));
  form.elements.url.oninput = ({ target }) => {
    const [relay, pairs] = target.value.trim().split("/invite#");
    if (!pairs) return;
    target.value = relay;
    fill(pairs);
  };
  onSubmit(form, async () => {
    const { url, domain, secret } = form.elements;
    const relay = new Relay(url.value, domain.value.trim());
    const info = await relay.info().catch(() => { throw new Error("There is no relay that this page may call."); });
    if (info.domain !== relay.domain) throw new Error(`This is the relay of ${info.domain}.`);
    const made = await makeIdentity(relay.url, relay.domain);
    await (await relay.signIn(made)).register(secret.value);
    await keep.keepIdentity(made);
    await enter(made);
  });
  form.querySelector("button").disabled = false;
}

async function enter(me) {
  $("#welcome").hidden = true;
  $("#chat").hidden = false;
  $("#card").value = cardOf(me);
  $("#copy").onclick = () => navigator.clipboard.writeText(cardOf(me));
  for (const message of (await keep.messages()).sort((a, b) => a.at - b.at)) {
    show(message);
    if (message.state === "queued") follow(me, message);
  }
  onSubmit($("#compose"), async (form) => {
    await send(me, readCard($("#to").value), form.elements.text.value);
    form.reset();
  });
  receive(me, (envelope) => take(me, envelope), tell).catch((error) => tell("off", error.message));
}

async function take(me, envelope) {
  const id = hex(envelope.id);
  let message = { id, at: Date.now() };
  try {
    message = { ...message, ...await open(me, envelope.body) };
  } catch {
    message.text = "(a message that cannot be opened)";
  }
  await keep.keepMessage(message);
  show(message);
  if (message.from && !$("#to").value) $("#to").value = message.from;
}

async function send(me, to, text) {
  const id = crypto.getRandomValues(new Uint8Array(16));
  const expiresAt = Math.ceil((Date.now() / 1000 + 14 * DAY) / HOUR) * HOUR; // a full hour tells less
  const envelope = encodeEnvelope({ id, mailbox: to.mailbox, expiresAt, body: await seal(me, to, text) });
  const relay = new Relay(me.url, me.domain);
  const { policies } = await relay.info();
  const way = policies.submission === "open" ? relay : await relay.signIn(me);
  const [result] = await way.submit([{ domain: to.domain, envelope }]);
  if (result.kind === "refused") throw new Error(`The relay refused it: ${result.reason}.`);
  const message = { id: hex(id), at: Date.now(), mine: true, text, state: result.kind, tracking: result.tracking };
  await keep.keepMessage(message);
  show(message);
  if (message.state === "queued") follow(me, message);
}

// Asks what became of it, with growing pauses, until that is known or the relay has forgotten.
async function follow(me, message) {
  const relay = new Relay(me.url, me.domain);
  for (let pause = 300; message.state === "queued"; pause = Math.min(pause * 1.6, 30_000)) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    try {
      const { state, reason } = await relay.tracking(message.tracking);
      Object.assign(message, { state, reason });
    } catch (error) {
      if (error.status === 404) return;
    }
  }
  await keep.keepMessage(message);
  show(message);
}

function told({ state, reason }) {
  const words = {
    stored: "at the recipient's relay",
    queued: "on its way",
    failed: `not delivered: ${reason}`,
    expired: "not delivered in time",
  };
  return words[state];
}

// A message that is shown already is shown anew.
function show(message) {
  const { id, mine, text, from, at } = message;
  const list = $("#messages");
  const item = document.getElementById(`m${id}`) ?? list.appendChild(document.createElement("li"));
  item.id = `m${id}`;
  item.className = mine ? "mine" : "";
  const note = document.createElement("small");
  const who = from ? `${from.slice(0, 8)}… at ${from.split("@")[1]}` : told(message);
  note.textContent = [who, new Date(at).toLocaleTimeString([], { timeStyle: "short" })].filter(Boolean).join(" · ");
  item.replaceChildren(text, note);
  list.scrollTop = list.scrollHeight;
}

function tell(state, text) {
  $("#status").dataset.state = state;
  $("#status").textContent = text;
}

// One at a time; what goes wrong is said below the form.
function onSubmit(form, act) {
  const error = form.querySelector(".error") ?? form.parentElement.querySelector(".error");
  form.onsubmit = async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    error.textContent = "";
    try {
      await act(form);
    } catch (failure) {
      error.textContent = failure.message;
    }
    button.disabled = false;
  };
}
