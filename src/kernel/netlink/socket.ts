/**
 * NetlinkSocket: one open netlink socket, used for requests and their answers, synchronously.
 *
 * The kernel works on a request within the `send` call, so its answers are there when the call returns and nothing here waits. The socket stays in
 * the network namespace in which it was opened, whatever namespace the thread is in later. Refusals carry the kernel's own
 * words where it has some (NLMSGERR_ATTR_MSG). Source: linux/netlink.h, Documentation/userspace-api/netlink/intro.rst.
 */
import type { Sys } from "../../host/sys.ts";
import { checkResult, EAGAIN, EINTR, EMSGSIZE, ENOBUFS, EPROTO, KernelError } from "../errno.ts";
import { eachMessage, type Message } from "./reader.ts";
import { MESSAGE_HEADER, NLM_F_ACK, NLM_F_DUMP, Writer } from "./writer.ts";
import {
  MSG_DONTWAIT,
  MSG_TRUNC,
  NETLINK_CAP_ACK,
  NETLINK_EXT_ACK,
  NETLINK_GET_STRICT_CHK,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSGERR_ATTR_MSG,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
} from "./wire.ts";

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

export const AF_NETLINK = 16;
export const SOCK_RAW = 3;
export const SOL_SOCKET = 1;
export const SO_RCVBUF = 8;
export const SO_RCVBUFFORCE = 33;
export const SOL_NETLINK = 270;

const SEND_BYTES = 1 << 20;
const RECEIVE_BYTES = 32 << 20;
/** Larger than any message of a dump (32 KiB) or answer. */
const BUFFER_BYTES = 256 * 1024;
/** Far below 2^32, so that no exchange passes it. */
const SEQUENCE_RESTART = 2 ** 31;
/** How often an inconsistent dump is repeated before it is an error. */
const DUMP_ATTEMPTS = 50;

/** Why the kernel refused one request: positive errno, and its own words if any. */
export interface Refusal {
  readonly errno: number;
  readonly detail: string | undefined;
}

export interface Answers {
  /** By sequence number of the request. */
  readonly refused: ReadonlyMap<number, Refusal>;
  /** Sequence numbers that the kernel acknowledged. */
  readonly done: ReadonlySet<number>;
}

/** One for all sockets: what is received is read before anything else is. */
const RECEIVED = new Uint8Array(BUFFER_BYTES);

interface Waiting {
  readonly op: string;
  readonly object: string;
  readonly sequence: number;
}

export class NetlinkSocket {
  /** Requests are written here between `begin` and `exchange`. */
  readonly writer = new Writer();
  readonly #sys: Sys;
  readonly #fd: number;
  #sendBytes = 0;
  #sequence = 0;
  #writes = 0;
  #portId: number | undefined;
  #dumping = false;
  /** Changes that wait for the end of `together`. */
  #waiting: Waiting[] | undefined;

  /** Opens in the thread's network namespace; throws KernelError. `protocol` is NETLINK_ROUTE or NETLINK_NETFILTER. */
  constructor(sys: Sys, protocol: number) {
    this.#sys = sys;
    this.#fd = checkResult("open netlink socket", String(protocol), sys.socket(AF_NETLINK, SOCK_RAW, protocol));
    this.#allowSending(SEND_BYTES);
    this.#setBufferSize(SO_RCVBUFFORCE, SO_RCVBUF, RECEIVE_BYTES);
    // Each is an improvement that an older kernel may lack: filtering of dumps is repeated by the readers.
    for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK])
      sys.setSocketOption(this.#fd, SOL_NETLINK, option, 1);
  }

  /** Requests sent that ask for a change. */
  get writes(): number {
    return this.#writes;
  }

  /** By which the kernel knows the socket; undefined before its first answer. */
  get portId(): number | undefined {
    return this.#portId;
  }

  close(): void {
    this.#sys.close(this.#fd);
  }

  #allowSending(bytes: number): void {
    this.#sendBytes = bytes;
    this.#setBufferSize(SO_SNDBUFFORCE, SO_SNDBUF, bytes);
  }

  /** Beyond the system's limit if that is permitted, else up to it. */
  #setBufferSize(force: number, plain: number, bytes: number): void {
    if (this.#sys.setSocketOption(this.#fd, SOL_SOCKET, force, bytes) < 0)
      this.#sys.setSocketOption(this.#fd, SOL_SOCKET, plain, bytes);
  }

  /** Forgets what was written, sent or not. */
  begin(): void {
    this.writer.reset();
    // Within one exchange sequence numbers only grow.
    if (this.#sequence > SEQUENCE_RESTART) this.#sequence = 0;
  }

  /** Starts the next message; its sequence number. */
  message(type: number, flags: number): number {
    this.#sequence++;
    this.writer.message(type, flags, this.#sequence);
    return this.#sequence;
  }

  /** Counts requests that ask for a change. */
  countWrites(count: number): void {
    this.#writes += count;
  }

  /**
   * Sends what was written since `begin` and takes every answer there is. `each` sees the messages that are neither
   * acknowledgement nor error. Throws KernelError only when sending or receiving itself fails.
   */
  exchange(op: string, object: string, each?: (message: Message) => void): Answers {
    this.#send(op, object);
    const refused = new Map<number, Refusal>();
    const done = new Set<number>();
    while (
      this.#receive(op, object, (message) => {
        this.#portId = message.portId;
        if (message.type !== NLMSG_ERROR) return each?.(message);
        const refusal = refusalOf(message);
        if (refusal === undefined) done.add(message.sequence);
        else refused.set(message.sequence, refusal);
      })
    );
    return { refused, done };
  }

  /** One request that asks for a change; throws KernelError when it is refused. */
  change(op: string, object: string, type: number, flags: number, write: (writer: Writer) => void): void {
    this.countWrites(1);
    if (this.#waiting !== undefined) {
      this.#waiting.push({ op, object, sequence: this.message(type, flags) });
      return write(this.writer);
    }
    this.#request(op, object, type, flags, write);
  }

  /**
   * Changes that `run` asks for, in one send: the kernel tries all of them, in order. Throws the first refusal. `run` asks for nothing else.
   */
  together(run: () => void): void {
    const waiting: Waiting[] = [];
    this.begin();
    this.#waiting = waiting;
    try {
      run();
    } finally {
      this.#waiting = undefined;
    }
    const last = waiting.at(-1);
    if (last === undefined) return;
    // Refusals are told anyway.
    this.writer.addFlags(NLM_F_ACK);
    const { refused, done } = this.exchange(last.op, last.object);
    for (const { op, object, sequence } of waiting) {
      const refusal = refused.get(sequence);
      if (refusal !== undefined) throw new KernelError(op, object, refusal.errno, refusal.detail);
    }
    if (!done.has(last.sequence)) throw new KernelError(last.op, last.object, EPROTO, "the kernel did not answer");
  }

  /** One question; throws KernelError when it is refused. */
  query(
    op: string,
    object: string,
    type: number,
    write: (writer: Writer) => void,
    each: (message: Message) => void,
  ): void {
    this.#request(op, object, type, 0, write, each);
  }

  #request(
    op: string,
    object: string,
    type: number,
    flags: number,
    write: (writer: Writer) => void,
    each?: (message: Message) => void,
  ): void {
    this.begin();
    const sequence = this.message(type, flags | NLM_F_ACK);
    write(this.writer);
    const { refused, done } = this.exchange(op, object, (message) => {
      if (message.sequence === sequence) each?.(message);
    });
    const refusal = refused.get(sequence);
    if (refusal !== undefined) throw new KernelError(op, object, refusal.errno, refusal.detail);
    if (!done.has(sequence)) throw new KernelError(op, object, EPROTO, "the kernel did not answer");
  }

  /**
   * All objects of a dump, from one consistent pass: what `decode` returns, undefined left out. A pass during which the
   * objects changed, or whose messages were lost, is repeated. Throws KernelError.
   */
  dump<T>(
    op: string,
    object: string,
    type: number,
    write: (writer: Writer) => void,
    decode: (message: Message) => T | undefined,
  ): T[] {
    for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
      const found = this.#pass(op, object, type, write, decode);
      if (found !== undefined) return found;
    }
    throw new KernelError(op, object, EAGAIN, `changed during each of ${DUMP_ATTEMPTS} attempts to read`);
  }

  #pass<T>(
    op: string,
    object: string,
    type: number,
    write: (writer: Writer) => void,
    decode: (message: Message) => T | undefined,
  ): T[] | undefined {
    const found: T[] = [];
    const steps = this.dumpInSteps(op, object, type, write, (message) => {
      const value = decode(message);
      if (value !== undefined) found.push(value);
    });
    for (;;) {
      const step = steps.next();
      if (step.done === true) return step.value ? found : undefined;
    }
  }

  /**
   * One pass of a dump, a datagram a step, so that the thread can be given back between: the kernel makes the next one when it is asked.
   * Returns false when the objects changed meanwhile or messages were lost. Nothing else may be asked of this socket until it returns,
   * or is abandoned. Throws KernelError.
   */
  *dumpInSteps(
    op: string,
    object: string,
    type: number,
    write: (writer: Writer) => void,
    each: (message: Message) => void,
  ): Generator<undefined, boolean> {
    this.#finishDump(op, object);
    this.begin();
    const sequence = this.message(type, NLM_F_DUMP);
    write(this.writer);
    this.#send(op, object);
    this.#dumping = true;
    let interrupted = false;
    while (this.#dumping) {
      let any = true;
      try {
        any = this.#receive(op, object, (message) => {
          if (message.sequence !== sequence) return;
          if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
          if (message.type !== NLMSG_DONE && message.type !== NLMSG_ERROR) return each(message);
          this.#dumping = false;
          const refusal = message.type === NLMSG_ERROR ? refusalOf(message) : errorOfDone(message);
          if (refusal?.errno === EINTR || refusal?.errno === EAGAIN) interrupted = true;
          else if (refusal !== undefined) throw new KernelError(op, object, refusal.errno, refusal.detail);
        });
      } catch (error) {
        // Messages were lost, but the dump goes on: read it to its end, then repeat it.
        if (!(error instanceof KernelError) || error.errno !== ENOBUFS) throw error;
        interrupted = true;
      }
      if (!any) {
        this.#dumping = false;
        if (!interrupted) throw new KernelError(op, object, EPROTO, "the kernel's answer has no end");
      }
      if (this.#dumping) yield;
    }
    return !interrupted;
  }

  /** Of a dump that was abandoned, the kernel still has the rest for us. */
  #finishDump(op: string, object: string): void {
    if (!this.#dumping) return;
    this.#dumping = false;
    while (this.#receive(op, object, () => {}));
  }

  #send(op: string, object: string): void {
    this.writer.finish();
    const { bytes } = this.writer;
    // The kernel's own structures count against the limit too.
    if (bytes.length * 2 > this.#sendBytes) this.#allowSending(bytes.length * 2);
    for (;;) {
      const sent = this.#sys.send(this.#fd, bytes, 0);
      if (sent === -EINTR) continue;
      checkResult(op, object, sent);
      if (sent !== bytes.length) throw new KernelError(op, object, EMSGSIZE, `${sent} of ${bytes.length} bytes sent`);
      return;
    }
  }

  /** Visits the messages of one datagram; false when there is none. */
  #receive(op: string, object: string, visit: (message: Message) => void): boolean {
    for (;;) {
      const length = this.#sys.receive(this.#fd, RECEIVED, MSG_DONTWAIT | MSG_TRUNC);
      if (length === -EINTR) continue;
      if (length === -EAGAIN) return false;
      checkResult(op, object, length);
      if (length > RECEIVED.length)
        throw new KernelError(op, object, EMSGSIZE, `an answer of ${length} bytes is over ${RECEIVED.length}`);
      if (!eachMessage(RECEIVED.subarray(0, length), visit))
        throw new KernelError(op, object, EPROTO, "the kernel's answer is malformed");
      return true;
    }
  }
}

/** undefined for an acknowledgement. */
function refusalOf(message: Message): Refusal | undefined {
  const { body, flags } = message;
  const error = body.i32();
  if (error === undefined) return { errno: EPROTO, detail: "the kernel's answer is malformed" };
  if (error === 0) return undefined;
  return { errno: -error, detail: detailOf(message, flags) };
}

/** The kernel's words, after the error number and the request's header (and, unless capped, the whole request). */
function detailOf({ body }: Message, flags: number): string | undefined {
  if ((flags & NLM_F_ACK_TLVS) === 0) return undefined;
  const requestLength = body.u32(4) ?? 0;
  const skip = 4 + ((flags & NLM_F_CAPPED) !== 0 ? MESSAGE_HEADER : (requestLength + 3) & ~3);
  return body.after(skip)?.attributes()?.get(NLMSGERR_ATTR_MSG)?.text();
}

function errorOfDone(message: Message): Refusal | undefined {
  const error = message.body.i32() ?? 0;
  return error < 0
    ? { errno: -error, detail: message.body.after(4)?.attributes()?.get(NLMSGERR_ATTR_MSG)?.text() }
    : undefined;
}
