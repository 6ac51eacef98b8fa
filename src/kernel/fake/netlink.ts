/**
 * FakeNetlink: one netlink socket of the fake kernel: its queue, its groups, its options; requests go to the subsystem of its protocol.
 *
 * Work is done within `send`, so answers are in the queue when it returns. Source: linux net/netlink/af_netlink.c.
 */
import { EAGAIN, EBUSY, EINVAL, ENOBUFS } from "../errno.ts";
import { NFNL_SUBSYS_IPSET } from "../ipset/wire.ts";
import { eachMessage, type Message } from "../netlink/reader.ts";
import {
  NETLINK_NETFILTER,
  NETLINK_ROUTE,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SOL_NETLINK,
  SOL_SOCKET,
} from "../netlink/socket.ts";
import {
  MSG_DONTWAIT,
  MSG_TRUNC,
  NETLINK_ADD_MEMBERSHIP,
  NETLINK_CAP_ACK,
  NETLINK_EXT_ACK,
  NETLINK_GET_STRICT_CHK,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
} from "../netlink/wire.ts";
import { NLM_F_ACK, NLM_F_DUMP } from "../netlink/writer.ts";
import { ackDatagram, type Answer, type Asker, datagramOf, Dump, type Received } from "./messages.ts";
import type { FakeNamespace, Listener } from "./namespace.ts";
import { Refusal, refuse, unmodelled } from "./refusal.ts";

/** net.core.rmem_default. */
const DEFAULT_RECEIVE_BYTES = 212_992;
/** What the kernel counts for a datagram besides its bytes: struct sk_buff and its shared info. */
const DATAGRAM_OVERHEAD = 768;
/** Groups that can be joined: of nf_tables its only one; of rtnetlink links, routes and settings of interfaces. */
const GROUPS: ReadonlyMap<number, readonly number[]> = new Map([
  [NETLINK_NETFILTER, [7]],
  [NETLINK_ROUTE, [1, 7, 11, 24, 25]],
]);

/** The process that opened a socket. */
export interface Opener {
  readonly pid: number;
  readonly name: string;
  /** The namespace of an open descriptor; undefined when it is none. */
  namespaceOf(fd: number): FakeNamespace | undefined;
}

export class FakeNetlink implements Asker, Listener {
  readonly protocol: number;
  readonly namespace: FakeNamespace;
  readonly process: Opener;
  portId = 0;
  capped = false;
  extended = false;
  strict = false;
  /** Called when a datagram, or the loss of one, can be read. */
  readable: (() => void) | undefined;
  readonly #groups = new Set<number>();
  readonly #queue: Uint8Array[] = [];
  #queued = 0;
  #receiveBytes = DEFAULT_RECEIVE_BYTES;
  #lost = false;
  /** The dump whose rest is made when it is asked for. */
  #dump: Dump | undefined;

  constructor(namespace: FakeNamespace, protocol: number, process: Opener) {
    if (protocol !== NETLINK_ROUTE && protocol !== NETLINK_NETFILTER) unmodelled(`netlink protocol ${protocol}`);
    this.namespace = namespace;
    this.protocol = protocol;
    this.process = process;
    namespace.sockets.add(this);
  }

  bind(): number {
    this.portId ||= this.namespace.choosePort(this.protocol, this.process.pid);
    return 0;
  }

  setOption(level: number, option: number, value: number): number {
    if (level === SOL_SOCKET) {
      // The kernel takes twice the number that is asked for.
      if (option === SO_RCVBUF || option === SO_RCVBUFFORCE) this.#receiveBytes = value * 2;
      else if (option !== SO_SNDBUF && option !== SO_SNDBUFFORCE) unmodelled(`option ${option} of SOL_SOCKET`);
    } else if (level === SOL_NETLINK) {
      if (option === NETLINK_CAP_ACK) this.capped = value !== 0;
      else if (option === NETLINK_EXT_ACK) this.extended = value !== 0;
      else if (option === NETLINK_GET_STRICT_CHK) this.strict = value !== 0;
      else if (option === NETLINK_ADD_MEMBERSHIP && GROUPS.get(this.protocol)?.includes(value) === true)
        this.#groups.add(value);
      else unmodelled(`option ${option} with value ${value} of SOL_NETLINK on protocol ${this.protocol}`);
    } else unmodelled(`socket option level ${level}`);
    return 0;
  }

  send(bytes: Uint8Array): number {
    this.bind();
    const received: Received[] = [];
    let at = 0;
    eachMessage(bytes, (message) => {
      const end = message.body.to;
      received.push({ message, bytes: bytes.slice(at, end) });
      at = (end + 3) & ~3;
    });
    if (this.protocol === NETLINK_NETFILTER && this.namespace.nftables.takesBatch(this, received)) return bytes.length;
    for (const one of received) this.#answer(one);
    return bytes.length;
  }

  #answer({ message, bytes }: Received): void {
    const to = { sequence: message.sequence, portId: this.portId };
    const isDump = (message.flags & NLM_F_DUMP) === NLM_F_DUMP && isGet(message.type);
    try {
      // A socket has one dump at a time.
      if (isDump && this.#dump !== undefined) refuse(EBUSY);
      const answer = this.#subsystem(message, isDump);
      if (answer.kind === "dump") {
        const interrupted = this.namespace.machine.faults.interruptDump?.() ?? false;
        this.#dump = new Dump(answer.parts, to, interrupted, answer.version);
        return this.#goOn();
      }
      if (answer.kind === "reply") this.deliver(datagramOf(answer.part.type, 0, to, answer.part.body));
      if ((message.flags & NLM_F_ACK) !== 0) this.deliver(ackDatagram(message, bytes, this.portId, undefined, this));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.deliver(ackDatagram(message, bytes, this.portId, error, this));
    }
  }

  /** The next datagram of the dump under way. */
  #goOn(): void {
    const datagram = this.#dump?.next();
    if (datagram !== undefined) this.deliver(datagram);
    if (this.#dump?.isOver === true) this.#dump = undefined;
  }

  #subsystem(message: Message, isDump: boolean): Answer {
    const { namespace } = this;
    if (this.protocol === NETLINK_ROUTE)
      return namespace.route.answer(message, isDump, this, (fd) => this.process.namespaceOf(fd)?.route.links);
    const subsystem = message.type >> 8;
    if (subsystem === 10) return namespace.nftables.answer(message, isDump);
    if (subsystem === 1) return namespace.conntrack.answer(message, isDump);
    // A kernel without IP sets.
    if (subsystem === NFNL_SUBSYS_IPSET) return refuse(EINVAL);
    return unmodelled(`netfilter subsystem ${subsystem}`);
  }

  /** An answer: never dropped, because whoever asks reads it before asking more. */
  deliver(datagram: Uint8Array): void {
    this.#queue.push(datagram);
    this.#queued += datagram.length + DATAGRAM_OVERHEAD;
  }

  /** A notification of the group; it is lost, and the reader told so, when the queue is full. */
  notify(group: number, datagram: Uint8Array): void {
    if (!this.#groups.has(group)) return;
    const isLost = this.namespace.machine.faults.loseNews?.() ?? false;
    if (this.#lost || isLost || this.#queued + datagram.length + DATAGRAM_OVERHEAD > this.#receiveBytes)
      this.#lost = true;
    else this.deliver(datagram);
    this.readable?.();
  }

  get hasData(): boolean {
    return this.#lost || this.#queue.length > 0;
  }

  receive(buffer: Uint8Array, flags: number): number {
    if ((flags & ~(MSG_TRUNC | MSG_DONTWAIT)) !== 0) unmodelled(`flags ${flags} of recv`);
    if (this.#lost) {
      this.#lost = false;
      return -ENOBUFS;
    }
    const datagram = this.#queue.shift();
    if (datagram === undefined) return -EAGAIN;
    this.#queued -= datagram.length + DATAGRAM_OVERHEAD;
    buffer.set(datagram.subarray(0, buffer.length));
    if (this.#queue.length === 0) this.#goOn();
    return (flags & MSG_TRUNC) === 0 ? Math.min(datagram.length, buffer.length) : datagram.length;
  }

  close(): void {
    this.namespace.sockets.delete(this);
    if (this.protocol === NETLINK_NETFILTER) this.namespace.nftables.socketClosed(this);
    this.namespace.reap();
  }
}

/** Requests that may be dumps: of rtnetlink every fourth from 18, of netfilter by the subsystem's own numbers. */
function isGet(type: number): boolean {
  return type < 256 ? type % 4 === 2 : true;
}
