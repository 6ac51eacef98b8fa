/**
 * IpSetClient: IP sets of the kernel: listed, made, removed, and their elements added and taken away. An element is its text: `10.0.0.1` or
 * `10.0.0.0/24` of a `hash:net`, `10.0.0.1,6,80` (protocol and port by number) of a `hash:ip,port`, `10.0.0.1,eth0` of a `hash:net,iface`.
 *
 * It works in the network namespace in which it was made. The kernel has no transactions here: each request stands alone. Source:
 * net/netfilter/ipset/ip_set_core.c.
 */
import type { Sys } from "../../host/sys.ts";
import { invariant } from "../../lib/bug.ts";
import { type Addr, addrBytes, addrFromBytes, bitsOf, type Family, familyOf } from "../../net/addr.ts";
import { EINVAL, ENOENT, EOPNOTSUPP, KernelError } from "../errno.ts";
import type { Message, Span } from "../netlink/reader.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../netlink/socket.ts";
import { NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, type Writer } from "../netlink/writer.ts";
import {
  ERRORS,
  FLAG_LIST_HEADER,
  IPSET_ATTR_ADT,
  IPSET_ATTR_CIDR,
  IPSET_ATTR_DATA,
  IPSET_ATTR_FAMILY,
  IPSET_ATTR_FLAGS,
  IPSET_ATTR_IFACE,
  IPSET_ATTR_IP,
  IPSET_ATTR_IPADDR_IPV4,
  IPSET_ATTR_IPADDR_IPV6,
  IPSET_ATTR_MAXELEM,
  IPSET_ATTR_PORT,
  IPSET_ATTR_PROTO,
  IPSET_ATTR_PROTOCOL,
  IPSET_ATTR_REFERENCES,
  IPSET_ATTR_REVISION,
  IPSET_ATTR_SETNAME,
  IPSET_ATTR_TYPENAME,
  IPSET_CMD_ADD,
  IPSET_CMD_CREATE,
  IPSET_CMD_DEL,
  IPSET_CMD_DESTROY,
  IPSET_CMD_LIST,
  NFNL_SUBSYS_IPSET,
  NLA_F_NET_BYTEORDER,
  PROTOCOL,
} from "./wire.ts";

export interface IpSetKind {
  /** `hash:net,iface`: an address and the interface that it comes from or goes to. */
  readonly type: "hash:net" | "hash:ip,port" | "hash:net,iface";
  readonly family: Family;
}

export interface FoundSet {
  readonly name: string;
  /** undefined: one of another type. */
  readonly is: IpSetKind | undefined;
  /** Rules that look it up. */
  readonly references: number;
}

/** One element that the kernel refused. */
export interface RefusedElement {
  readonly element: string;
  readonly error: KernelError;
}

/** The lowest revision that has all that is used here (SCTP and UDPLite among ports). Source: the kernel's ip_set_hash_*.c. */
const REVISIONS: { readonly [T in IpSetKind["type"]]: number } = {
  "hash:net": 2,
  "hash:ip,port": 1,
  "hash:net,iface": 2,
};
/** Upstream: maxIpsetSize. */
export const MOST_ELEMENTS = 1_048_576;
const AF_INET = 2;
const AF_INET6 = 10;
const FAMILIES = { 4: AF_INET, 6: AF_INET6 } as const;
const NFGENMSG = 4;

export class IpSetClient {
  readonly #socket: NetlinkSocket;

  /** Opens in the thread's network namespace; throws KernelError. */
  constructor(sys: Sys) {
    this.#socket = new NetlinkSocket(sys, NETLINK_NETFILTER);
  }

  /** Requests sent that ask for a change. */
  get writes(): number {
    return this.#socket.writes;
  }

  close(): void {
    this.#socket.close();
  }

  /** All sets of the namespace, others' too, without their elements; none where the kernel knows no IP sets. Throws KernelError. */
  list(): readonly FoundSet[] {
    try {
      return this.#socket.dump(
        "list",
        "IP sets",
        typeOf(IPSET_CMD_LIST),
        (w) => {
          header(w);
          w.u32Be(IPSET_ATTR_FLAGS | NLA_F_NET_BYTEORDER, FLAG_LIST_HEADER);
        },
        decodeSet,
      );
    } catch (error) {
      // What nfnetlink answers for a subsystem that it has not.
      if (error instanceof KernelError && (error.errno === EINVAL || error.errno === EOPNOTSUPP)) return [];
      throw error;
    }
  }

  /** The elements of a set, read in steps; undefined when there is no such set. Throws KernelError. */
  *elements(name: string, is: IpSetKind): Generator<undefined, ReadonlySet<string> | undefined> {
    for (;;) {
      const found = new Set<string>();
      const steps = this.#socket.dumpInSteps(
        "list",
        `IP set ${name}`,
        typeOf(IPSET_CMD_LIST),
        (w) => {
          header(w);
          w.text(IPSET_ATTR_SETNAME, name);
        },
        (message) => {
          bodyOf(message)
            ?.attributes()
            ?.get(IPSET_ATTR_ADT)
            ?.eachAttribute((_, span) => {
              const element = decodeElement(span, is);
              if (element !== undefined) found.add(element);
            });
        },
      );
      try {
        if (yield* steps) return found;
      } catch (error) {
        if (error instanceof KernelError && error.errno === ENOENT) return undefined;
        throw error;
      }
    }
  }

  /** Throws KernelError, also when a set of that name is there. */
  create(name: string, { type, family }: IpSetKind): void {
    this.#change("create", `IP set ${name}`, IPSET_CMD_CREATE, NLM_F_CREATE | NLM_F_EXCL, (w) => {
      header(w);
      w.text(IPSET_ATTR_SETNAME, name);
      w.text(IPSET_ATTR_TYPENAME, type);
      w.u8(IPSET_ATTR_REVISION, REVISIONS[type]);
      w.u8(IPSET_ATTR_FAMILY, FAMILIES[family]);
      const data = w.open(IPSET_ATTR_DATA);
      w.u32Be(IPSET_ATTR_MAXELEM | NLA_F_NET_BYTEORDER, MOST_ELEMENTS);
      w.close(data);
    });
  }

  /** Succeeds for one that is gone. Throws KernelError, also while a rule looks it up. */
  destroy(name: string): void {
    try {
      this.#change("destroy", `IP set ${name}`, IPSET_CMD_DESTROY, 0, (w) => {
        header(w);
        w.text(IPSET_ATTR_SETNAME, name);
      });
    } catch (error) {
      if (!(error instanceof KernelError) || error.errno !== ENOENT) throw error;
    }
  }

  /** What is there already, or gone already, is no error. Returns the elements that the kernel refused; the others are done. Throws KernelError. */
  change(name: string, is: IpSetKind, added: readonly string[], removed: readonly string[]): readonly RefusedElement[] {
    const wanted = [
      ...removed.map((element) => ({ element, command: IPSET_CMD_DEL, op: "delete" })),
      ...added.map((element) => ({ element, command: IPSET_CMD_ADD, op: "add" })),
    ];
    if (wanted.length === 0) return [];
    this.#socket.begin();
    const bySequence = new Map<number, (typeof wanted)[number]>();
    for (const each of wanted) {
      bySequence.set(this.#socket.message(typeOf(each.command), 0), each);
      header(this.#socket.writer);
      this.#socket.writer.text(IPSET_ATTR_SETNAME, name);
      encodeElement(this.#socket.writer, each.element, is);
    }
    this.#socket.writer.addFlags(NLM_F_ACK);
    this.#socket.countWrites(wanted.length);
    const { refused } = this.#socket.exchange("change", `IP set ${name}`);
    return [...refused].map(([sequence, { errno, detail }]) => {
      const { element = "", op = "change" } = bySequence.get(sequence) ?? {};
      const error = new KernelError(op, `element ${element} of IP set ${name}`, errno, ERRORS.get(errno) ?? detail);
      return { element, error };
    });
  }

  #change(op: string, object: string, command: number, flags: number, write: (writer: Writer) => void): void {
    try {
      this.#socket.change(op, object, typeOf(command), flags, write);
    } catch (error) {
      const words = error instanceof KernelError ? ERRORS.get(error.errno) : undefined;
      if (!(error instanceof KernelError) || words === undefined) throw error;
      throw new KernelError(op, object, error.errno, words);
    }
  }
}

function typeOf(command: number): number {
  return (NFNL_SUBSYS_IPSET << 8) | command;
}

/** Struct nfgenmsg, and the version that we speak. */
function header(w: Writer): void {
  w.putU8(w.header(NFGENMSG), AF_INET);
  w.u8(IPSET_ATTR_PROTOCOL, PROTOCOL);
}

function bodyOf({ body }: Message): Span | undefined {
  return body.after(NFGENMSG);
}

function decodeSet(message: Message): FoundSet | undefined {
  const attributes = bodyOf(message)?.attributes();
  const name = attributes?.get(IPSET_ATTR_SETNAME)?.text();
  if (attributes === undefined || name === undefined) return undefined;
  const type = attributes.get(IPSET_ATTR_TYPENAME)?.text();
  const family = attributes.get(IPSET_ATTR_FAMILY)?.u8();
  const isOurs = type !== undefined && type in REVISIONS && (family === AF_INET || family === AF_INET6);
  return {
    name,
    is: isOurs ? { type: type as IpSetKind["type"], family: family === AF_INET ? 4 : 6 } : undefined,
    references: attributes.get(IPSET_ATTR_DATA)?.attributes()?.get(IPSET_ATTR_REFERENCES)?.u32Be() ?? 0,
  };
}

function encodeElement(w: Writer, element: string, { type }: IpSetKind): void {
  const [net = "", second = "", third = ""] = element.split(",");
  const [addr = "", length] = net.split("/");
  const data = w.open(IPSET_ATTR_DATA);
  const ip = w.open(IPSET_ATTR_IP);
  const family = familyOf(addr as Addr);
  const kind = family === 4 ? IPSET_ATTR_IPADDR_IPV4 : IPSET_ATTR_IPADDR_IPV6;
  w.bytesOf(kind | NLA_F_NET_BYTEORDER, addrBytes(addr as Addr));
  w.close(ip);
  if (length !== undefined) w.u8(IPSET_ATTR_CIDR, Number(length));
  if (type === "hash:ip,port") {
    w.u16Be(IPSET_ATTR_PORT | NLA_F_NET_BYTEORDER, Number(third));
    w.u8(IPSET_ATTR_PROTO, Number(second));
  }
  if (type === "hash:net,iface") w.text(IPSET_ATTR_IFACE, second);
  w.close(data);
}

function decodeElement(span: Span, { type, family }: IpSetKind): string | undefined {
  const attributes = span.attributes();
  const ip = attributes?.get(IPSET_ATTR_IP)?.attributes();
  const bytes = (ip?.get(IPSET_ATTR_IPADDR_IPV4) ?? ip?.get(IPSET_ATTR_IPADDR_IPV6))?.copy();
  if (attributes === undefined || bytes === undefined) return undefined;
  invariant(bytes.length * 8 === bitsOf(family), "a set holds addresses of its own family");
  const addr = addrFromBytes(bytes);
  const length = attributes.get(IPSET_ATTR_CIDR)?.u8();
  const net = length === undefined || length === bitsOf(family) ? addr : `${addr}/${length}`;
  if (type === "hash:net") return net;
  if (type === "hash:net,iface") return `${net},${attributes.get(IPSET_ATTR_IFACE)?.text()}`;
  return `${net},${attributes.get(IPSET_ATTR_PROTO)?.u8()},${attributes.get(IPSET_ATTR_PORT)?.u16Be()}`;
}
