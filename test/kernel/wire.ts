/**
 * wire: raw packets on real interfaces: sockets of AF_PACKET inside namespaces, frames built from the fields that policy sees.
 *
 * Checksums of TCP, UDP, SCTP and ICMP are left zero: nothing on a forwarding path reads them.
 */
import { RouteClient } from "../../src/kernel/route/client.ts";
import { type Addr, addrBytes } from "../../src/net/addr.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import { SCTP, TCP } from "../../src/net/protocol.ts";
import { hasPorts } from "../property/clusters.ts";
import { type Namespace, sys } from "./fixture.ts";

const AF_PACKET = 17;
const SOCK_RAW = 3;
const ETH_P_ALL = 0x0300; // network order
const MSG_DONTWAIT = 0x40;
const SOL_PACKET = 263;
const PACKET_VNET_HDR = 15;
const VNET_HEADER = 10; // struct virtio_net_hdr
const HEADER = 14;

export class Port {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(16_384);
  readonly #frame: { readonly to: Uint8Array; readonly from: Uint8Array };

  /** On that interface of the namespace; frames go to the given MAC. */
  constructor(namespace: Namespace, interfaceName: string, toMac: string) {
    this.#fd = namespace.enter(() => sys.socket(AF_PACKET, SOCK_RAW, ETH_P_ALL));
    const { index, mac } = linkIn(namespace, interfaceName);
    const address = new Uint8Array(20);
    const view = new DataView(address.buffer);
    view.setUint16(0, AF_PACKET, true);
    view.setUint16(2, ETH_P_ALL, true);
    view.setInt32(4, index, true);
    const bound = sys.bind(this.#fd, address);
    if (bound < 0) throw new Error(`cannot bind a packet socket to ${interfaceName}: errno ${-bound}`);
    this.#frame = { to: macBytes(toMac), from: macBytes(mac) };
  }

  send(packet: FlowPacket, marker: number): void {
    this.sendBody(encodePacket(packet, marker));
  }

  /** An IP packet of either family; `vlan`: of that network, 1 to 255. */
  sendBody(body: Uint8Array, vlan?: number): void {
    const frame = this.#frameOf(body, vlan);
    const sent = sys.send(this.#fd, frame, 0);
    if (sent !== frame.length) throw new Error(`cannot send a frame: errno ${-sent}`);
  }

  /**
   * The same, of at least a page: the kernel keeps of the frame no more than the Ethernet header in the first piece of memory, and the rest elsewhere, as some
   * drivers do.
   */
  sendScattered(body: Uint8Array): void {
    const header = new Uint8Array(VNET_HEADER);
    new DataView(header.buffer).setUint16(2, HEADER, true);
    sys.setSocketOption(this.#fd, SOL_PACKET, PACKET_VNET_HDR, 1);
    try {
      const frame = Uint8Array.from([...header, ...this.#frameOf(body)]);
      const sent = sys.send(this.#fd, frame, 0);
      if (sent !== frame.length) throw new Error(`cannot send a frame: errno ${-sent}`);
    } finally {
      sys.setSocketOption(this.#fd, SOL_PACKET, PACKET_VNET_HDR, 0);
    }
  }

  #frameOf(body: Uint8Array, vlan?: number): Uint8Array {
    const type = (body[0] ?? 0) >> 4 === 4 ? [0x08, 0x00] : [0x86, 0xdd];
    const tag = vlan === undefined ? [] : [0x81, 0x00, 0, vlan];
    return Uint8Array.from([...this.#frame.to, ...this.#frame.from, ...tag, ...type, ...body]);
  }

  /** True when a frame with the marker has arrived; frames that arrived before it are forgotten. Own frames do not count. */
  received(marker: number): boolean {
    for (;;) {
      const length = sys.receive(this.#fd, this.#buffer, MSG_DONTWAIT);
      if (length <= 0) return false;
      const mine = this.#frame.from.every((byte, i) => this.#buffer[6 + i] === byte);
      const view = new DataView(this.#buffer.buffer, 0, length);
      if (!mine && length >= HEADER + 4 && view.getUint32(length - 4) === marker) return true;
    }
  }

  /** The last four bytes of every frame that has arrived since the last look; own frames do not count. */
  markers(): number[] {
    return this.frames().map((frame) => markerOf(frame));
  }

  /** Every frame of an IP packet that has arrived since the last look; own frames do not count. */
  frames(): Uint8Array[] {
    const found: Uint8Array[] = [];
    for (let length = 1; length > 0;) {
      length = sys.receive(this.#fd, this.#buffer, MSG_DONTWAIT);
      const mine = this.#frame.from.every((byte, i) => this.#buffer[6 + i] === byte);
      if (!mine && length >= HEADER + 4) found.push(this.#buffer.slice(0, length));
    }
    return found;
  }

  close(): void {
    sys.close(this.#fd);
  }
}

function linkIn(namespace: Namespace, name: string): { readonly index: number; readonly mac: string } {
  const routes = namespace.enter(() => new RouteClient(sys));
  const link = routes.linkByName(name);
  routes.close();
  if (link?.mac === undefined) throw new Error(`no interface ${name} with a MAC address in ${namespace.name}`);
  return { index: link.index, mac: link.mac };
}

/** The last four bytes of a frame. */
export function markerOf(frame: Uint8Array): number {
  return new DataView(frame.buffer, 0, frame.length).getUint32(frame.length - 4);
}

function macBytes(mac: string): Uint8Array {
  return Uint8Array.from(mac.split(":").map((part) => Number.parseInt(part, 16)));
}

/** As the other end sends it. */
export function turned(packet: FlowPacket): FlowPacket {
  const { source, destination, sourcePort, destinationPort } = packet;
  return {
    ...packet,
    source: destination,
    destination: source,
    sourcePort: destinationPort,
    destinationPort: sourcePort,
  };
}

/** IP header, transport header, and the marker as the last four bytes. */
export function encodePacket(packet: FlowPacket, marker: number): Uint8Array {
  const transport = encodeTransport(packet);
  const payload = new Uint8Array(transport.length + 4);
  payload.set(transport);
  new DataView(payload.buffer).setUint32(transport.length, marker);
  return ipPacket(packet.source, packet.destination, packet.protocol, payload);
}

/** TCP SYN, SCTP INIT (RFC 9260 §3.3.2), UDP, or ICMP of the packet's type; anything else looks like an echo request. */
function encodeTransport(packet: FlowPacket): Uint8Array {
  const { protocol } = packet;
  const echo = { type: protocol === 58 ? 128 : 8, code: 0 };
  const { type, code } = packet.icmp ?? echo;
  if (!hasPorts(protocol)) return Uint8Array.from([type, code, 0, 0, 0, 1, 0, 1]);
  const bytes = new Uint8Array(protocol === TCP ? 20 : protocol === SCTP ? 32 : 8);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, packet.sourcePort ?? 0);
  view.setUint16(2, packet.destinationPort ?? 0);
  if (protocol === TCP) {
    bytes[12] = 0x50;
    bytes[13] = 0x02;
  } else if (protocol === SCTP) {
    bytes[12] = 1;
    view.setUint16(14, 20);
    view.setUint32(16, 1);
    view.setUint32(20, 65535);
    view.setUint16(24, 1);
    view.setUint16(26, 1);
  } else view.setUint16(4, 12);
  return bytes;
}

/** A packet, or a piece of one: the first, or what follows sixteen bytes. */
export function ipPacket(
  source: Addr,
  destination: Addr,
  protocol: number,
  payload: Uint8Array,
  piece?: { readonly identification: number; readonly isFirst: boolean },
): Uint8Array {
  if (addrBytes(source).length === 4) {
    const header = new Uint8Array(20);
    const view = new DataView(header.buffer);
    header[0] = 0x45;
    view.setUint16(2, 20 + payload.length);
    if (piece !== undefined) {
      view.setUint16(4, piece.identification);
      view.setUint16(6, piece.isFirst ? 0x2000 : 2);
    }
    header[8] = 64;
    header[9] = protocol;
    header.set(addrBytes(source), 12);
    header.set(addrBytes(destination), 16);
    view.setUint16(10, checksum(header));
    return concat(header, payload);
  }
  const extension = new Uint8Array(piece === undefined ? 0 : 8);
  if (piece !== undefined) {
    const fields = new DataView(extension.buffer);
    extension[0] = protocol;
    fields.setUint16(2, piece.isFirst ? 1 : 2 << 3);
    fields.setUint32(4, piece.identification);
  }
  const header = new Uint8Array(40);
  header[0] = 0x60;
  new DataView(header.buffer).setUint16(4, extension.length + payload.length);
  header[6] = piece === undefined ? protocol : FRAGMENT;
  header[7] = 64;
  header.set(addrBytes(source), 8);
  header.set(addrBytes(destination), 24);
  return concat(header, concat(extension, payload));
}

/** The next header of IPv6 before a piece. */
const FRAGMENT = 44;

export function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const whole = new Uint8Array(a.length + b.length);
  whole.set(a);
  whole.set(b, a.length);
  return whole;
}
