/**
 * FakeSysctl: the settings under /proc/sys/net that the product reads and writes, those of interfaces included, with what follows from a write.
 *
 * A name below an interface that does not exist is missing (ENOENT); one that the model has no rule for is refused loudly.
 * Source: linux Documentation/networking/ip-sysctl.rst, net/ipv4/devinet.c, net/ipv6/addrconf.c.
 */
import { EINVAL } from "../errno.ts";
import { refuse, unmodelled } from "./refusal.ts";

/** Known settings of interfaces, with their values in a new namespace. */
const DEFAULTS: { readonly [family in "ipv4" | "ipv6"]: Readonly<Record<string, string>> } = {
  ipv4: { forwarding: "0", proxy_arp: "0", rp_filter: "0", route_localnet: "0" },
  ipv6: { forwarding: "0", disable_ipv6: "0", accept_dad: "1", accept_ra: "1", proxy_ndp: "0" },
};
const NEIGHBOR_DEFAULTS: Readonly<Record<string, string>> = { proxy_delay: "80" };
/** Of which the kernel tells those who listen to the group of the family (RTM_NEWNETCONF). */
const TOLD: ReadonlySet<string> = new Set([
  "ipv4 forwarding",
  "ipv4 rp_filter",
  "ipv4 proxy_arp",
  "ipv6 forwarding",
  "ipv6 proxy_ndp",
]);
/** A write to `all` is one to each interface, and to `default`. */
const SPREADS: ReadonlySet<string> = new Set(["ipv4 forwarding", "ipv6 forwarding", "ipv6 disable_ipv6"]);

const RELEASE = "6.12.0";
const TCP_LOOSE = "net/netfilter/nf_conntrack_tcp_loose";

export interface Setting {
  readonly value: string;
  readonly writable: boolean;
}

/** What of the namespace follows from a setting, or is one to read. */
interface Surroundings {
  connections(): number;
  /** A setting that the kernel tells of was written. */
  changed(family: "ipv4" | "ipv6", name: string): void;
  switchIpv6(name: string, on: boolean): void;
}

export class FakeSysctl {
  readonly #around: Surroundings;
  /** By `ipv4/conf/NAME`, `ipv6/conf/NAME` and `ipv4/neigh/NAME`, NAME an interface's, `all` or `default`. */
  readonly #folders = new Map<string, Map<string, string>>();
  #tcpLoose = "1";

  constructor(around: Surroundings) {
    this.#around = around;
    for (const name of ["all", "default"]) this.#makeFolders(name, false);
    // Duplicate address detection is on where both agree; "all" is 0 as is everything there.
    this.#folders.get("ipv6/conf/all")?.set("accept_dad", "0");
  }

  #makeFolders(name: string, inherits: boolean): void {
    for (const family of ["ipv4", "ipv6"] as const)
      this.#folders.set(
        `${family}/conf/${name}`,
        new Map(inherits ? this.#folders.get(`${family}/conf/default`) : Object.entries(DEFAULTS[family])),
      );
    this.#folders.set(`ipv4/neigh/${name}`, new Map(Object.entries(NEIGHBOR_DEFAULTS)));
  }

  addInterface(name: string): void {
    this.#makeFolders(name, true);
    // The loopback and point-to-point interfaces detect no duplicates.
    if (name === "lo") this.#folders.get("ipv6/conf/lo")?.set("accept_dad", "-1");
  }

  removeInterface(name: string): void {
    for (const folder of ["ipv4/conf", "ipv6/conf", "ipv4/neigh"]) this.#folders.delete(`${folder}/${name}`);
  }

  renameInterface(from: string, to: string): void {
    for (const folder of ["ipv4/conf", "ipv6/conf", "ipv4/neigh"]) {
      this.#folders.set(`${folder}/${to}`, this.#folders.get(`${folder}/${from}`) ?? new Map());
      this.#folders.delete(`${folder}/${from}`);
    }
  }

  /** Of `conf` of one interface. */
  get(family: "ipv4" | "ipv6", name: string, setting: string): string {
    return this.#folders.get(`${family}/conf/${name}`)?.get(setting) ?? "0";
  }

  /** By a file; `tells` false: by netlink, which tells of the link instead. */
  set(family: "ipv4" | "ipv6", name: string, setting: string, value: string, tells = true): void {
    const folder = this.#folders.get(`${family}/conf/${name}`);
    if (folder?.has(setting) !== true) unmodelled(`the ${family} setting ${setting}`);
    const before = folder.get(setting);
    folder.set(setting, value);
    if (name === "all" && SPREADS.has(`${family} ${setting}`))
      for (const [path, other] of this.#folders) {
        if (!path.startsWith(`${family}/conf/`)) continue;
        const changed = other.get(setting) !== value;
        other.set(setting, value);
        if (changed) this.#took(family, path.slice(`${family}/conf/`.length), setting, value, tells);
      }
    if (before !== value) this.#took(family, name, setting, value, tells);
  }

  #took(family: "ipv4" | "ipv6", name: string, setting: string, value: string, tells: boolean): void {
    if (tells && TOLD.has(`${family} ${setting}`)) this.#around.changed(family, name);
    if (family === "ipv6" && setting === "disable_ipv6" && name !== "all" && name !== "default")
      this.#around.switchIpv6(name, value === "0");
  }

  /** undefined when the kernel does not have it. */
  read(path: string): Setting | undefined {
    if (path === "net/ipv4/ip_forward") return { value: this.get("ipv4", "all", "forwarding"), writable: true };
    if (path === "net/netfilter/nf_conntrack_count")
      return { value: String(this.#around.connections()), writable: false };
    if (path === "kernel/osrelease") return { value: RELEASE, writable: false };
    if (path === TCP_LOOSE) return { value: this.#tcpLoose, writable: true };
    const [, folder, setting] = /^net\/((?:ipv[46]\/conf|ipv4\/neigh)\/[^/]+)\/([^/]+)$/.exec(path) ?? [];
    if (folder === undefined || setting === undefined) return unmodelled(`/proc/sys/${path}`);
    const found = this.#folders.get(folder);
    if (found === undefined) return undefined;
    const value = found.get(setting);
    return value === undefined ? unmodelled(`/proc/sys/${path}`) : { value, writable: true };
  }

  write(path: string, text: string): void {
    const value = text.trim();
    if (!/^-?\d+$/.test(value)) refuse(EINVAL);
    if (path === "net/ipv4/ip_forward") return this.set("ipv4", "all", "forwarding", value);
    if (path === TCP_LOOSE) {
      this.#tcpLoose = value;
      return;
    }
    const [, family, name = "", setting = ""] = /^net\/(ipv[46])\/conf\/([^/]+)\/([^/]+)$/.exec(path) ?? [];
    if (family === "ipv4" || family === "ipv6") return this.set(family, name, setting, value);
    const [, folder = "", last = ""] = /^net\/(ipv4\/neigh\/[^/]+)\/([^/]+)$/.exec(path) ?? [];
    this.#folders.get(folder)?.set(last, value);
  }
}
