// A soft PLC in JavaScript (Node 18 or later; npm install, in this folder). The numbers are rules of docs/verdict.md.
//
//   node soft_plc.mjs --verdicts tcp://127.0.0.1:5560 --control ipc:///var/lib/edged/run/control.sock --program bracket
//
// Options and output are those of soft_plc.c. edged judges quality. It is never a safety device.

import { readFileSync, renameSync, statSync, openSync, writeSync, fsyncSync, closeSync, existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { decode, encode } from "@msgpack/msgpack";
import * as zmq from "zeromq";

const MAX_PAYLOAD = 262144, MAX_SUB = 524288, MAX_ANSWER = 2097152; // 1.3, 2.3
const MAX_AHEAD = 1000, STALE_MS = 3000, ASK_AGAIN_MS = 2000, TURN_MS = 10; // 3.5, 6.2, 4.4
const RENEW_MS = 3000, RENEW_MAX_MS = 30000; // 6.6
const SCHEMA = 1;

const text = (fallback) => ({ type: "string", default: fallback });
const { values: options } = parseArgs({
  options: {
    verdicts: text("tcp://127.0.0.1:5560"), journal: text(undefined), control: text(undefined), keys: text(undefined),
    position: text(undefined), program: text(undefined), part: text("P-1"), start: text("now"), seams: text("0"),
    "within-ms": text("60000"),
  },
});

const now = () => performance.now();
const say = (...words) => console.log(words.join(" "));

// What is followed (4): the journal, the position in it, what is known to exist, the entries beyond a gap.
let journal = "", former = "", position = 0, known = 0, mustAsk = true;
const ahead = new Map();
let strangers = []; // entries that came before the first snapshot (4.1)
let kept = null; // the position of the last time
// The one question on its way (4.4), and heartbeats (6).
let asked = null, nextId = 1, askedMs = -Infinity, notBeforeMs = 0;
let beatJournal = "", beatMs = -Infinity, isLive = false;
// The PLC's own part: which seam it waits for, and its output.
let expected = null, lastLabel = 0, output = null, acted = 0, judged = 0, expectAgainMs = 0;

// ---- messages (2) ----

function unpacked(bytes, limit) {
  if (bytes.length > limit) return null;
  try {
    const found = decode(bytes);
    return found !== null && typeof found === "object" && !Array.isArray(found) ? found : null;
  } catch {
    return null; // not msgpack: counted nowhere here, and never fatal
  }
}

const isCount = (value) => Number.isSafeInteger(value) && value >= 0;
const isJournal = (value) => typeof value === "string" && value.length > 0 && value.length <= 64;

/** The entry in a message, its label 0 unless the message is all that it should be (2.5, 2.6, 9.3); null: none. */
function entryOf(topic, bytes) {
  const kind = topic.split("/", 1)[0];
  if (topic !== "part" && kind !== "verdict") return null;
  const m = unpacked(bytes, MAX_PAYLOAD);
  if (m === null || !isJournal(m.journal_id) || !isCount(m.sequence) || m.sequence === 0) return null;
  const id = kind === "part" ? m.part_id : m.seam_id;
  // JavaScript has one kind of number: a label that is a float on the wire, which is none (2.6), shows in the bytes only.
  const isFloat = bytes.includes("\xa5label\xca", 0, "latin1") || bytes.includes("\xa5label\xcb", 0, "latin1");
  const isWhole = !isFloat && m.schema === SCHEMA && m.kind === kind && typeof id === "string" && [0, 1, 2].includes(m.label)
    && (kind === "part" || topic === `verdict/${m.program || "unknown"}`);
  return { journal: m.journal_id, sequence: m.sequence, label: isWhole ? m.label : 0, id: String(id) };
}

// ---- the PLC ----

function setOutput(value) {
  if (value !== output) say("ok", (output = value));
}

/** Nothing but a label 1 of the seam in question, while heartbeats come, is OK. */
function decide() {
  const isOurs = options.control === undefined ? position === known : expected === null;
  setOutput(isLive && isOurs && lastLabel === 1 ? 1 : 0);
}

function keepPosition() { // 3.2
  if (options.position === undefined) return;
  const file = openSync(`${options.position}.new`, "w");
  writeSync(file, `${journal} ${position}\n`);
  fsyncSync(file);
  closeSync(file);
  renameSync(`${options.position}.new`, options.position);
}

function act(entry) {
  say(entry.sequence, entry.label, entry.id);
  if (options.control === undefined) {
    lastLabel = entry.label;
  } else if (expected !== null && entry.id === expected.id) {
    lastLabel = entry.label;
    expected = null;
    judged += 1;
  }
  acted += 1;
  position = entry.sequence;
  keepPosition();
}

function lost(first, last) { // 4.5: never silently
  say("lost", first, last);
  lastLabel = 0;
  position = last;
  keepPosition();
}

// ---- order (3, 4) ----

function goOn() { // 4.3
  for (let entry; (entry = ahead.get(position + 1)) !== undefined;) act(entry);
  for (const sequence of ahead.keys()) if (sequence <= position) ahead.delete(sequence); // 3.3
}

function onEntry(entry) {
  if (journal === "") {
    if (strangers.length < MAX_AHEAD) strangers.push(entry);
  } else if (entry.journal !== journal) {
    mustAsk ||= entry.journal !== former; // 4.6
  } else if (entry.sequence > position) {
    if (ahead.size < MAX_AHEAD) ahead.set(entry.sequence, entry); // 3.5
    known = Math.max(known, entry.sequence);
    goOn();
  }
}

function onHeartbeat(bytes, arrivedMs) {
  const m = unpacked(bytes, MAX_PAYLOAD);
  if (m === null || !isJournal(m.journal_id) || !isCount(m.last_sequence)) return;
  const isOurs = m.journal_id === journal;
  if (isOurs) known = Math.max(known, m.last_sequence); // 6.3
  if (!isOurs && m.journal_id === former) return; // an old one, that lay in a queue
  [beatJournal, beatMs] = [m.journal_id, arrivedMs];
  mustAsk ||= !isOurs || m.last_sequence < position; // 4.6, 4.7
}

function follow(answer) {
  const isFirst = journal === "";
  if (isFirst && kept !== null && kept.journal === answer.journal_id) position = kept.position; // 4.2
  else if (isFirst && kept === null)
    position = options.start === "first" ? Math.max(0, (answer.first_sequence || 1) - 1) : answer.last_sequence;
  else position = 0; // 4.6
  [former, journal, known, lastLabel] = [journal, answer.journal_id, answer.last_sequence, 0];
  ahead.clear();
  say("journal", journal);
}

/** An answer's last_sequence is the journal's own word, given after we asked. */
function endOfJournal(last, mark) {
  if (last < mark.position) { // 4.7
    lost(last + 1, position);
    position = known = last;
    ahead.clear();
    keepPosition();
  } else if (last < mark.known) { // 4.9: what was said to lie beyond is not there
    for (const sequence of ahead.keys()) if (sequence > last) ahead.delete(sequence);
    known = Math.max(last, position);
  } else {
    known = Math.max(known, last);
  }
}

// ---- the journal socket (5) ----

function question() {
  if (asked !== null && now() - askedMs < ASK_AGAIN_MS) return null;
  asked = null;
  const isBehind = journal !== "" && position < known;
  const isSilent = !isLive && now() - askedMs >= ASK_AGAIN_MS;
  if (now() < notBeforeMs || (journal !== "" && !mustAsk && !isBehind && !isSilent)) return null;
  askedMs = now();
  const request = { id: nextId++ };
  if (journal === "" || mustAsk || !isBehind) request.op = "snapshot";
  else
    Object.assign(request, {
      op: "range", journal_id: journal, from_sequence: position + 1,
      to_sequence: Math.min(known, ...[...ahead.keys()].map((sequence) => sequence - 1)),
    });
  asked = { request, position, known };
  return request;
}

function onAnswer(bytes) {
  const answer = unpacked(bytes, MAX_ANSWER);
  if (answer === null) return;
  if (answer.ok !== true) { // `rate` comes without an id: 5.3
    if (answer.id !== undefined && answer.id !== asked?.request.id) return;
    if (answer.code === "journal") mustAsk = true; // 4.6
    else notBeforeMs = now() + Math.min(isCount(answer.retry_ms) ? answer.retry_ms : 1000, 1000);
    asked = null;
    return;
  }
  if (asked === null || answer.id !== asked.request.id) return; // 5.2: only what we still wait for
  const mark = asked;
  asked = null;
  if (!isJournal(answer.journal_id) || !isCount(answer.last_sequence)) return;
  if (mark.request.op === "snapshot") {
    mustAsk = false;
    if (answer.journal_id !== journal) {
      follow(answer);
      [mark.position, mark.known] = [position, answer.last_sequence];
    }
    endOfJournal(answer.last_sequence, mark);
    const before = strangers;
    strangers = [];
    before.forEach(onEntry);
    goOn();
  } else if (answer.journal_id === journal) {
    endOfJournal(answer.last_sequence, mark);
    onRange(answer, mark.request);
  }
}

function onRange(answer, request) { // 4.4, 4.5, 5.5
  if (!Array.isArray(answer.entries)) return;
  const end = Math.min(request.to_sequence, answer.last_sequence);
  const rows = answer.entries.filter((row) =>
    Array.isArray(row) && row.length === 3 && isCount(row[0]) && request.from_sequence <= row[0] && row[0] <= end);
  for (const [sequence, topic, payload] of rows) {
    if (sequence <= position) continue;
    if (sequence > position + 1) lost(position + 1, sequence - 1);
    const entry = payload instanceof Uint8Array ? entryOf(String(topic), Buffer.from(payload)) : null;
    if (entry?.sequence === sequence && entry.journal === journal) act(entry);
    else lost(sequence, sequence);
  }
  if (rows.length === 0 && position < end) lost(position + 1, end);
  goOn();
}

// ---- the control socket (docs/control.md) ----

async function expect() {
  const socket = new zmq.Request({ ...tuned(MAX_ANSWER), receiveTimeout: ASK_AGAIN_MS });
  try {
    socket.connect(options.control);
    await socket.send(encode({ op: "expect", program: options.program, part_id: options.part }));
    const [bytes] = await socket.receive();
    const answer = unpacked(bytes, MAX_ANSWER);
    if (answer?.ok !== true || typeof answer.seam_id !== "string") throw new Error(answer?.error ?? "no answer");
    say("expect", answer.seam_id);
    return { id: answer.seam_id, untilMs: now() + Number(options["within-ms"]) };
  } catch (error) {
    console.error("soft_plc: expect:", error.message);
    return null;
  } finally {
    socket.close();
  }
}

/** One turn of the PLC's program; false: done. */
async function plc() {
  const seams = Number(options.seams);
  if (options.control === undefined) return seams === 0 || acted < seams;
  if (expected !== null && now() > expected.untilMs) { // no verdict in time is no OK
    expected = null;
    lastLabel = 0;
    judged += 1;
  }
  if (expected !== null) return true;
  if (seams !== 0 && judged >= seams) return false;
  if (isLive && now() > expectAgainMs) {
    lastLabel = 0;
    setOutput(0);
    expected = await expect();
    expectAgainMs = expected === null ? now() + 1000 : 0;
  }
  return true;
}

// ---- sockets ----

function keys() { // 10
  if (options.keys === undefined) return {};
  if ((statSync(options.keys).mode & 0o077) !== 0) throw new Error(`${options.keys}: others may read it; chmod 600`);
  const file = readFileSync(options.keys, "utf8");
  const key = (name) => file.match(new RegExp(`^${name} = "([^"]{40})"`, "m"))[1];
  return { curveServerKey: key("server_public"), curvePublicKey: key("public"), curveSecretKey: key("secret") };
}

function tuned(maxMessageSize) { // 1.3
  return {
    maxMessageSize, linger: 0, heartbeatInterval: 1000, heartbeatTimeout: 3000, reconnectInterval: 100,
    reconnectMaxInterval: 1000, ...keys(),
  };
}

function beside(verdicts) { // 1
  if (verdicts.startsWith("ipc://")) return `${verdicts}.journal`;
  const colon = verdicts.lastIndexOf(":");
  return `${verdicts.slice(0, colon)}:${Number(verdicts.slice(colon + 1)) + 1}`;
}

let published, answers, heardMs = now(), renewMs = 0;

/** Connect, and again where nobody is heard: the connection may have ended for good (6.6). */
function lookAfter() {
  if (isLive) [heardMs, renewMs] = [now(), RENEW_MS];
  if (now() - heardMs < renewMs) return;
  published?.close();
  answers?.close();
  published = new zmq.Subscriber({ ...tuned(MAX_SUB), receiveTimeout: 0 });
  answers = new zmq.Dealer({ ...tuned(MAX_ANSWER), receiveTimeout: 0, sendTimeout: 0 });
  published.subscribe("verdict/", "part", "heartbeat"); // 1.5
  published.connect(options.verdicts);
  answers.connect(options.journal ?? beside(options.verdicts));
  [heardMs, renewMs] = [now(), Math.min(Math.max(renewMs * 2, RENEW_MS), RENEW_MAX_MS)];
}

/** The frames that are there now, null: none. */
async function receive(socket) {
  try {
    return await socket.receive();
  } catch (error) {
    if (error.code === "EAGAIN") return null;
    throw error;
  }
}

// A message found now may have lain there since the queue was last seen empty: a heartbeat counts as that old (6.2).
let emptyMs = -Infinity;

async function take() {
  for (let frames; (frames = await receive(answers)) !== null;) onAnswer(frames.at(-1));
  for (let turn = 0; turn < 200; turn++) {
    const beforeMs = now();
    const frames = await receive(published);
    if (frames === null) {
      emptyMs = beforeMs;
      return;
    }
    if (frames.length !== 2) continue;
    const topic = frames[0].toString();
    if (topic === "heartbeat") onHeartbeat(frames[1], emptyMs);
    else if (topic === "part" || topic.startsWith("verdict/")) {
      const entry = entryOf(topic, frames[1]);
      if (entry !== null) onEntry(entry);
    }
  }
}

if (options.position !== undefined && existsSync(options.position)) {
  const [name, sequence] = readFileSync(options.position, "utf8").trim().split(" ");
  kept = { journal: name, position: Number(sequence) };
  if (!isJournal(name) || !isCount(kept.position)) throw new Error(`${options.position}: no position; remove it`);
}
setOutput(0);
do {
  lookAfter();
  await take();
  const request = question();
  if (request !== null) await answers.send(encode(request)).catch(() => null); // not sent: asked again
  const wasLive = isLive;
  isLive = journal !== "" && beatJournal === journal && now() - beatMs <= STALE_MS;
  if (isLive !== wasLive) say("state", isLive ? "live" : "stale");
  decide();
  await new Promise((resume) => setTimeout(resume, TURN_MS));
} while (await plc());
published.close();
answers.close();
