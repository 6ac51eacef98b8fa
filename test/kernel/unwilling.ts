/** unwilling: the kernel, but that it refuses what a test names. */
import type { Sys } from "../../src/host/sys.ts";
import { sys } from "./fixture.ts";

export const ENOMEM = 12;
const NFNL_MSG_BATCH_BEGIN = 0x10;
const NLMSG_ERROR = 2;

/** A kernel that refuses, for want of memory, each transaction with a message in which the words occur; without saying for which command, or saying it. */
export class Unwilling {
  words: readonly string[] = [];
  /** Refused too, when something else is: what refers to it. */
  alsoWithin: string | undefined;
  refusals = 0;
  names = false;
  readonly sys: Sys;
  #answers: Uint8Array[] = [];

  constructor() {
    this.sys = {
      ...sys,
      send: (fd, bytes, flags, address) => {
        const type = new DataView(bytes.buffer, bytes.byteOffset).getUint16(4, true);
        const hit = type === NFNL_MSG_BATCH_BEGIN ? this.#messageWith(bytes) : undefined;
        if (hit === undefined) return sys.send(fd, bytes, flags, address);
        this.refusals++;
        const others =
          this.alsoWithin === undefined
            ? []
            : messagesIn(bytes).filter((each) => textOf(each).includes(this.alsoWithin ?? ""));
        this.#answers = [this.names ? hit : bytes, ...others].map(refusalOf);
        return bytes.length;
      },
      receive: (fd, buffer, flags) => {
        const answer = this.#answers.shift();
        if (answer === undefined) return sys.receive(fd, buffer, flags);
        buffer.set(answer);
        return answer.length;
      },
    };
  }

  #messageWith(bytes: Uint8Array): Uint8Array | undefined {
    if (this.words.length === 0) return undefined;
    return messagesIn(bytes).find((message) => this.words.every((word) => textOf(message).includes(word)));
  }
}

function textOf(message: Uint8Array): string {
  return Buffer.from(message).toString("latin1");
}

/** Each from its header on. */
function messagesIn(bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const messages: Uint8Array[] = [];
  for (let at = 0; at + 16 <= bytes.length;) {
    const length = view.getUint32(at, true);
    messages.push(bytes.slice(at, at + length));
    at += (length + 3) & ~3;
  }
  return messages;
}

/** NLMSG_ERROR about the message. */
function refusalOf(message: Uint8Array): Uint8Array {
  const answer = new Uint8Array(36);
  const view = new DataView(answer.buffer);
  view.setUint32(0, 36, true);
  view.setUint16(4, NLMSG_ERROR, true);
  view.setUint32(8, new DataView(message.buffer, message.byteOffset).getUint32(8, true), true);
  view.setInt32(16, -ENOMEM, true);
  answer.set(message.subarray(0, 16), 20);
  return answer;
}
