/**
 * PodNetwork: creates, compares and removes one pod's veth pair, addresses and routes on both sides. Synchronous kernel work.
 *
 * The host end is `cali…` with a fixed MAC; the pod has its addresses as /32 and /128 and one gateway of each family, for which the host
 * end answers (see `gateway.ts`). The routes driver creates the node's route to the pod. A failed `add` leaves nothing behind. The
 * constructor and all methods must be called while the thread is in the node's network namespace.
 * Upstream: cni-plugin/pkg/dataplane/linux/dataplane_linux.go.
 */
import { HOST_END_IPV4, HOST_END_IPV6 } from "../dataplane/links/settings.ts";
import type { Sys } from "../host/sys.ts";
import { EEXIST, ENODEV, KernelError } from "../kernel/errno.ts";
import { openNamespace, withNamespaceFd } from "../kernel/netns.ts";
import { type Link, RouteClient } from "../kernel/route/client.ts";
import { writeSysctl } from "../kernel/sysctl.ts";
import { bitsOf, familyOf } from "../net/addr.ts";
import { comparePodNetwork } from "./compare.ts";
import { LOOPBACK_INDEX } from "./loopback.ts";
import { ensureGateway } from "./gateway.ts";
import { isUplink, uplinkMtuBytes } from "./mtu.ts";
import { GATEWAY_6, HOST_MAC } from "./names.ts";
import { podNeighbors, podRoutes } from "./pod-side.ts";
import type { PodRequest } from "./request.ts";

export interface PodResult {
  /** MAC of the pod's end. */
  readonly mac: string;
}

/** Device group of host ends that `remove` has left for deletion ("cali"). */
export const REMOVED_GROUP = 0x63616c69;
const LINK_LOCAL_LENGTH = 64;

export class PodNetwork {
  readonly #sys: Sys;
  readonly #host: RouteClient;
  readonly #guard: (link: Link) => void;
  #gatewayExists = false;
  /** Names of the uplinks. */
  #uplinks: readonly string[] | undefined;

  /** `guard` is called with each host end before it is up; what it throws fails `add`. */
  constructor(sys: Sys, guard: (link: Link) => void = () => {}) {
    this.#sys = sys;
    this.#guard = guard;
    this.#host = new RouteClient(sys);
  }

  close(): void {
    this.#host.close();
  }

  /** A pod's default MTU. `sweep` finds new uplinks, so that this need not list all of the node's interfaces. */
  uplinkMtuBytes(): number {
    this.#uplinks ??= this.#host
      .links()
      .filter(isUplink)
      .map(({ name }) => name);
    return uplinkMtuBytes(this.#uplinks.flatMap((name) => this.#host.linkByName(name) ?? []));
  }

  /** Creates the pair, replacing any interface with the host end's name. Throws KernelError and leaves nothing behind. */
  add(request: PodRequest): PodResult {
    if (!this.#gatewayExists) this.#ensureGateway();
    const namespace = openNamespace(this.#sys, request.netns);
    try {
      this.#createPair(request, namespace);
      return this.#orUndo(request.hostInterface, () => {
        const link = this.#hostLink(request.hostInterface);
        this.#guard(link);
        this.#setUpHostEnd(link, request);
        const mac = this.#setUpPodEnd(namespace, request);
        return { mac };
      });
    } finally {
      this.#sys.close(namespace);
    }
  }

  /** In place of an interface that has the host end's name. */
  #createPair(request: PodRequest, namespace: number): void {
    const veth = {
      name: request.hostInterface,
      mac: HOST_MAC,
      mtuBytes: request.mtuBytes,
      // The IPv6 settings must be in place before the link comes up.
      up: false,
      peerName: request.podInterface,
      peerMac: request.mac,
      peerNamespaceFd: namespace,
    };
    try {
      this.#host.createVeth(veth);
    } catch (error) {
      if (!(error instanceof KernelError) || error.errno !== EEXIST) throw error;
      const stale = this.#host.linkByName(request.hostInterface);
      // Else it is the pod's end whose name is taken.
      if (stale === undefined) throw error;
      this.#host.deleteLink(stale.index);
      this.#host.createVeth(veth);
    }
  }

  #ensureGateway(): void {
    ensureGateway(this.#sys, this.#host);
    this.#gatewayExists = true;
  }

  #hostLink(name: string): Link {
    const link = this.#host.linkByName(name);
    if (link === undefined) throw new KernelError("look up link", name, ENODEV);
    return link;
  }

  /** Runs the steps and deletes the host end if they fail: the kernel removes the pair and its routes with it. */
  #orUndo<T>(hostInterface: string, run: () => T): T {
    try {
      return run();
    } catch (error) {
      try {
        const link = this.#host.linkByName(hostInterface);
        if (link !== undefined) this.#host.deleteLink(link.index);
      } catch (second) {
        if (!(error instanceof KernelError) || !(second instanceof KernelError)) throw error;
        throw new KernelError(
          error.op,
          error.object,
          error.errno,
          `${error.detail === undefined ? "" : `${error.detail}; `}and the changes could not be undone: ${second.message}`,
        );
      }
      throw error;
    }
  }

  #setUpHostEnd(link: Link, request: PodRequest): void {
    const with6 = request.addresses.some((addr) => familyOf(addr) === 6);
    writeSysctl(this.#sys, `net/ipv4/neigh/${link.name}/proxy_delay`, "0");
    if (with6) {
      for (const [setting, value] of Object.entries(HOST_END_IPV6))
        writeSysctl(this.#sys, `net/ipv6/conf/${link.name}/${setting}`, value);
    }
    this.#host.together(() => {
      this.#host.setSettings(link.index, HOST_END_IPV4, { linkLocalFromMac: with6 });
      this.#host.setLinkUp(link.index);
    });
    if (with6) ignoring(EEXIST, () => this.#host.addAddress(link.index, GATEWAY_6, LINK_LOCAL_LENGTH, { noDad: true }));
  }

  /** Returns the MAC of the pod's end. */
  #setUpPodEnd(namespace: number, request: PodRequest): string {
    const with6 = request.addresses.some((addr) => familyOf(addr) === 6);
    const pod = withNamespaceFd(this.#sys, namespace, request.netns, () => {
      // The container runtime may have disabled IPv6.
      if (with6)
        for (const name of ["all", "default", "lo", request.podInterface])
          writeSysctl(this.#sys, `net/ipv6/conf/${name}/disable_ipv6`, "0");
      if (with6) writeSysctl(this.#sys, `net/ipv6/conf/${request.podInterface}/accept_dad`, "0");
      return new RouteClient(this.#sys);
    });
    try {
      const link = pod.linkByName(request.podInterface);
      if (link === undefined || link.mac === undefined)
        throw new KernelError("look up link", `${request.podInterface} in ${request.netns}`, ENODEV);
      pod.together(() => {
        pod.setLinkUp(LOOPBACK_INDEX);
        pod.setLinkUp(link.index);
        for (const addr of request.addresses)
          pod.addAddress(link.index, addr, bitsOf(familyOf(addr)), { noDad: familyOf(addr) === 6 });
        for (const { addr, mac } of podNeighbors(request.addresses)) pod.addNeighbor(link.index, addr, mac, true);
        for (const route of podRoutes(request.addresses, link.index)) pod.addRoute(route);
      });
      return link.mac;
    } finally {
      pod.close();
    }
  }

  /**
   * Disconnects the pod at once, with all routes to it; the pair itself is deleted with the pod's namespace or by the next `sweep`, because
   * deleting it waits for the kernel. Succeeds if it is gone already.
   */
  remove(request: Pick<PodRequest, "hostInterface">): void {
    const link = this.#host.linkByName(request.hostInterface);
    if (link === undefined) return;
    ignoring(ENODEV, () => this.#host.setLinkGroup(link.index, REMOVED_GROUP, { down: true }));
  }

  /** Deletes what `remove` has left and the given host ends, in one request, and restores the gateway's route. Waits for the kernel: 20 to 40 ms if there is any. */
  sweep(orphans: readonly string[] = []): void {
    for (const name of orphans) {
      const link = this.#host.linkByName(name);
      if (link !== undefined)
        ignoring(ENODEV, () => this.#host.setLinkGroup(link.index, REMOVED_GROUP, { down: true }));
    }
    const links = this.#host.links();
    this.#uplinks = links.filter(isUplink).map(({ name }) => name);
    if (links.some((link) => link.group === REMOVED_GROUP)) this.#host.deleteLinkGroup(REMOVED_GROUP);
    if (this.#gatewayExists) this.#ensureGateway();
  }

  /** Describes how the kernel differs from what `add` creates; empty when it does not. Throws KernelError when it cannot be read. */
  check(request: PodRequest): readonly string[] {
    return comparePodNetwork(this.#sys, this.#host, request).differences;
  }

  /** The result of `add` if the kernel is still as `add` left it, so that a repeated ADD for the same pod has nothing to do; otherwise undefined. */
  inspect(request: PodRequest): PodResult | undefined {
    const { differences, mac } = comparePodNetwork(this.#sys, this.#host, request);
    return differences.length > 0 || mac === undefined ? undefined : { mac };
  }
}

function ignoring(errno: number, run: () => void): void {
  try {
    run();
  } catch (error) {
    if (!(error instanceof KernelError) || error.errno !== errno) throw error;
  }
}
