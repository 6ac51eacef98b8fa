/** FakeNamespace: one network namespace of the fake kernel: its links, addresses and routes, nf_tables, connections, settings, sockets. */
import { FakeConntrack } from "./conntrack.ts";
import type { Machine } from "./machine.ts";
import type { Tell } from "./messages.ts";
import { FakeNftables } from "./nftables/nftables.ts";
import { FakeRoute } from "./route/route.ts";
import { FakeSysctl } from "./sysctl.ts";

/** netlink_autobind: after the process id, numbers downward from here. Source: linux net/netlink/af_netlink.c. */
const FIRST_ROVER = 2 ** 32 - 4097;

/** A socket, as far as its namespace knows it. */
export interface Listener {
  readonly protocol: number;
  readonly portId: number;
  notify(group: number, datagram: Uint8Array): void;
}

export class FakeNamespace {
  readonly machine: Machine;
  readonly sockets = new Set<Listener>();
  readonly sysctl: FakeSysctl;
  readonly route: FakeRoute;
  readonly nftables: FakeNftables;
  readonly conntrack: FakeConntrack;
  /** Descriptors that hold it. */
  holders = 0;
  /** False once its path has gone: it then lives as long as somebody holds it. */
  named = true;
  readonly #hasProcesses: () => boolean;
  #rover = FIRST_ROVER;

  constructor(machine: Machine, hasProcesses: () => boolean) {
    this.machine = machine;
    this.#hasProcesses = hasProcesses;
    const tell: Tell = (protocol, group, datagrams) => {
      for (const socket of this.sockets)
        if (socket.protocol === protocol) for (const datagram of datagrams) socket.notify(group, datagram);
    };
    this.conntrack = new FakeConntrack(machine);
    this.nftables = new FakeNftables(machine, tell, (device) => this.route.links.byName(device)?.index);
    this.sysctl = new FakeSysctl({
      connections: () => this.conntrack.flows.size,
      changed: (family, name) => this.route.settingsChanged(family, name),
      switchIpv6: (name, on) => this.route.switchIpv6(name, on),
    });
    this.route = new FakeRoute(machine, this.sysctl, tell);
  }

  /** A port id that no socket of the protocol has; that of the process where it is free. */
  choosePort(protocol: number, pid: number): number {
    const isFree = (port: number): boolean =>
      [...this.sockets].every((other) => other.protocol !== protocol || other.portId !== port);
    if (isFree(pid)) return pid;
    while (!isFree(this.#rover)) this.#rover--;
    return this.#rover;
  }

  /** Ends when nobody can reach it any more: its interfaces go, and their other ends with them. */
  reap(): void {
    if (!this.named && this.holders === 0 && this.sockets.size === 0 && !this.#hasProcesses())
      this.route.links.removeAll();
  }
}
