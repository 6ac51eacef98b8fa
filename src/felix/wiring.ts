/** wiring: what the CNI server asks of the kernel for one attachment: link, addresses, routes, flows. Synchronous. */
import type { Sys } from "../host/sys.ts";
import { deleteFlows } from "../kernel/conntrack.ts";
import { type Link, RouteClient } from "../kernel/route/client.ts";
import type { Addr } from "../net/addr.ts";
import { PodNetwork } from "../podnet/podnet.ts";
import type { LocalNetwork } from "./address-detection.ts";
import type { Attachment } from "./journal.ts";

export class Wiring {
  readonly #sys: Sys;
  readonly #network: PodNetwork;

  /** `guard` is called with each host end before it is up. */
  constructor(sys: Sys, guard: (link: Link) => void) {
    this.#sys = sys;
    this.#network = new PodNetwork(sys, guard);
  }

  /** Makes (or makes anew) the veth pair, the pod's addresses and the routes in it. Throws KernelError and then leaves nothing behind. */
  add(attachment: Attachment): void {
    const { record, mtuBytes } = attachment;
    this.#network.add({
      hostInterface: record.interface,
      podInterface: record.podInterface,
      netns: record.netns,
      addresses: record.addresses,
      mtuBytes,
      mac: record.mac,
    });
  }

  /** MTU of a pod when its network configuration says 0. */
  automaticMtuBytes(): number {
    return this.#network.uplinkMtuBytes();
  }

  /** Succeeds for what is gone already. */
  remove(attachment: Attachment): void {
    this.#network.remove({ hostInterface: attachment.record.interface });
  }

  /** How the kernel differs from what `add` makes, in words; empty when it does not. */
  check(attachment: Attachment): string[] {
    const { record, mtuBytes } = attachment;
    return [
      ...this.#network.check({
        hostInterface: record.interface,
        podInterface: record.podInterface,
        netns: record.netns,
        addresses: record.addresses,
        mtuBytes,
      }),
    ];
  }

  /** The addresses of the node's interfaces, in the order in which these were made. Throws KernelError. */
  localNetwork(): LocalNetwork {
    const client = new RouteClient(this.#sys);
    try {
      const links = new Map(client.links().map((link) => [link.index, link]));
      const addresses = client
        .addresses()
        .sort((a, b) => a.interfaceIndex - b.interfaceIndex)
        .map(({ interfaceIndex, addr, prefixLength, usable }) => {
          const link = links.get(interfaceIndex);
          return { addr, prefixLength, interface: link?.name ?? "", usable: usable && link?.up === true };
        });
      return { addresses, sourceTo: (addr) => this.#sourceTo(addr) };
    } finally {
      client.close();
    }
  }

  #sourceTo(addr: Addr): Addr | undefined {
    const client = new RouteClient(this.#sys);
    try {
      return client.routeTo(addr)?.source;
    } finally {
      client.close();
    }
  }

  /** Forgets the connections of addresses that are about to be given back. */
  endFlows(addresses: readonly Addr[]): void {
    deleteFlows(this.#sys, addresses);
  }

  /** Deletes, in one go, the host ends that `remove` only unrouted and set down: a synchronous deletion waits for the kernel. */
  sweep(): void {
    this.#network.sweep();
  }

  close(): void {
    this.#network.close();
  }
}
