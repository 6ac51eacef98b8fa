/** FakeNamespace: one network namespace of the fake kernel: its links, addresses and routes, nf_tables, connections, settings, sockets. */
import { FakeConntrack } from "./conntrack.ts";
import type { FakeKernel } from "./kernel.ts";
import type { FakeNetlink } from "./netlink.ts";
import { FakeNftables } from "./nftables/nftables.ts";
import { FakeRoute } from "./route/route.ts";
import { FakeSysctl } from "./sysctl.ts";

/** netlink_autobind: after the process id, numbers downward from here. Source: linux net/netlink/af_netlink.c. */
const FIRST_ROVER = 2 ** 32 - 4097;

export class FakeNamespace {
  readonly kernel: FakeKernel;
  readonly sockets = new Set<FakeNetlink>();
  readonly sysctl = new FakeSysctl(this);
  readonly route: FakeRoute;
  readonly nftables: FakeNftables;
  readonly conntrack: FakeConntrack;
  /** Descriptors that hold it. */
  holders = 0;
  /** False once its path has gone: it then lives as long as somebody holds it. */
  named = true;
  #rover = FIRST_ROVER;

  constructor(kernel: FakeKernel) {
    this.kernel = kernel;
    this.nftables = new FakeNftables(this);
    this.conntrack = new FakeConntrack(this);
    this.route = new FakeRoute(this);
  }

  /** A port id that no socket of the protocol has. */
  choosePort(socket: FakeNetlink): number {
    const isFree = (port: number): boolean =>
      [...this.sockets].every((other) => other.protocol !== socket.protocol || other.portId !== port);
    if (isFree(socket.process.pid)) return socket.process.pid;
    while (!isFree(this.#rover)) this.#rover--;
    return this.#rover;
  }

  /** Notifications for whoever listens to the group of the protocol. */
  tell(protocol: number, group: number, datagrams: readonly Uint8Array[]): void {
    for (const socket of this.sockets)
      if (socket.protocol === protocol) for (const datagram of datagrams) socket.notify(group, datagram);
  }

  /** Ends when nobody can reach it any more: its interfaces go, and their other ends with them. */
  reap(): void {
    if (!this.named && this.holders === 0 && this.sockets.size === 0 && !this.kernel.isCurrent(this))
      this.route.links.removeAll();
  }
}
