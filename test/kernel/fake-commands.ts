/**
 * fake-commands: the programs `ip`, `sysctl` and `conntrack`, as far as the tests of the kernel run them, on a fake kernel: words into netlink, answers into
 * the programs' text. What they do not know they refuse.
 */
import type { Sys } from "../../src/host/sys.ts";
import type { FakeNamespace } from "../../src/kernel/fake/kernel.ts";
import { openNamespace } from "../../src/kernel/netns.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../src/kernel/netlink/socket.ts";
import { NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from "../../src/kernel/netlink/writer.ts";
import { type KernelRoute, MAIN_TABLE, RouteClient, type RouteType } from "../../src/kernel/route/client.ts";
import { encodeLinkHeader } from "../../src/kernel/route/links.ts";
import { encodeRoute } from "../../src/kernel/route/routes.ts";
import { IFLA_MTU, RTM_NEWLINK, RTM_NEWROUTE } from "../../src/kernel/route/wire.ts";
import { readSysctl, writeSysctl } from "../../src/kernel/sysctl.ts";
import { TCP, UDP } from "../../src/net/protocol.ts";
import { unwrap } from "../../src/lib/result.ts";
import { type Addr, bitsOf, type Family, familyOf, parseAddr } from "../../src/net/addr.ts";
import { parsePrefix, type Prefix, prefixFamily } from "../../src/net/prefix.ts";

const PROTOCOLS: ReadonlyMap<string, number> = new Map([
  ["kernel", 2],
  ["boot", 3],
  ["static", 4],
  ["bird", 12],
]);
const NOWHERE: readonly RouteType[] = ["blackhole", "unreachable", "prohibit", "throw"];
const VERBS: ReadonlyMap<string, number> = new Map([
  ["add", NLM_F_CREATE | NLM_F_EXCL],
  ["append", NLM_F_CREATE | NLM_F_APPEND],
  ["prepend", NLM_F_CREATE],
  ["replace", NLM_F_CREATE | NLM_F_REPLACE],
]);

/** Standard output. Throws when the program would fail. */
export function runFake(sys: Sys, namespace: FakeNamespace, command: readonly string[]): string {
  const [program = "", ...words] = command;
  if (program === "sysctl") return runSysctl(sys, words);
  if (program === "conntrack") return runConntrack(namespace, words);
  if (program !== "ip") throw new Error(`no program ${program} on the fake kernel`);
  const client = new RouteClient(sys);
  try {
    return new Ip(sys, client, words).run();
  } finally {
    client.close();
  }
}

function runSysctl(sys: Sys, words: readonly string[]): string {
  const lines: string[] = [];
  for (const word of words.filter((each) => !each.startsWith("-"))) {
    const [name = "", value] = word.split("=");
    // `net.ipv4.conf.cali1.rp_filter`: an interface of the tests has no dot in its name.
    const path = name.replaceAll(".", "/");
    if (value === undefined) lines.push(`${readSysctl(sys, path) ?? ""}\n`);
    else writeSysctl(sys, path, value);
  }
  return lines.join("");
}

/** `-I` with addresses (`-g`: where replies come from), and `-L -f FAMILY`. */
function runConntrack({ conntrack }: FakeNamespace, words: readonly string[]): string {
  const addr = (name: string): Addr | undefined => {
    const text = words.includes(name) ? words[words.indexOf(name) + 1] : undefined;
    return text === undefined ? undefined : unwrap(parseAddr(text));
  };
  const [source, destination] = [addr("-s"), addr("-d")];
  if (words[0] === "-I" && source !== undefined && destination !== undefined) {
    const port = (name: string): number => Number(words[words.indexOf(name) + 1]);
    const protocol = words[words.indexOf("-p") + 1] === "udp" ? UDP : TCP;
    const ports = { protocol, sourcePort: port("--sport"), destinationPort: port("--dport") };
    conntrack.add(source, destination, addr("-g") ?? destination, ports);
    return "";
  }
  if (words[0] !== "-L") throw new Error(`no conntrack ${words.join(" ")} on the fake kernel`);
  return [...conntrack.flows.values()]
    .filter((flow) => (familyOf(flow.source) === 6) === words.includes("ipv6"))
    .map((flow) => `src=${flow.source} dst=${flow.destination} src=${flow.replySource} dst=${flow.source}\n`)
    .join("");
}

class Ip {
  readonly #sys: Sys;
  readonly #client: RouteClient;
  readonly #words: string[];
  readonly #family: Family | undefined;

  constructor(sys: Sys, client: RouteClient, words: readonly string[]) {
    this.#sys = sys;
    this.#client = client;
    this.#family = words.includes("-6") ? 6 : words.includes("-4") ? 4 : undefined;
    this.#words = words.filter((word) => !word.startsWith("-"));
  }

  run(): string {
    const object = this.#next();
    const verb = this.#next();
    if (object === "link") return this.#link(verb);
    if (object === "route") return this.#route(verb);
    if (object === "address" || object === "addr") return this.#address(verb);
    throw new Error(`no ip ${object} on the fake kernel`);
  }

  #next(): string {
    return this.#words.shift() ?? "";
  }

  #index(name: string): number {
    const link = this.#client.linkByName(name);
    if (link === undefined) throw new Error(`Cannot find device "${name}"`);
    return link.index;
  }

  #link(verb: string): string {
    if (verb === "")
      return this.#client
        .links()
        .map(({ name }) => `${name}\n`)
        .join("");
    const name = this.#next();
    if (verb === "delete") this.#client.deleteLink(this.#index(name));
    else if (verb === "add") {
      const rest = this.#words.splice(0).join(" ");
      const [, peer = ""] = /^type veth peer name (\S+)$/.exec(rest) ?? [];
      if (peer === "") throw new Error(`no ip link add ${rest} on the fake kernel`);
      const namespace = openNamespace(this.#sys, "/proc/thread-self/ns/net");
      this.#client.createVeth({
        name,
        mac: "02:00:00:00:00:0a",
        mtuBytes: 1500,
        up: false,
        peerName: peer,
        peerMac: undefined,
        peerNamespaceFd: namespace,
      });
      this.#sys.close(namespace);
    } else this.#setLink(this.#index(name), this.#next(), this.#next());
    return "";
  }

  #setLink(index: number, what: string, value: string): void {
    if (what === "up") this.#client.setLinkUp(index);
    else if (what === "down") this.#client.setLinkDown(index);
    else if (what === "address") this.#client.setLinkMac(index, value);
    else if (what === "mtu")
      this.#change(RTM_NEWLINK, 0, (w) => {
        encodeLinkHeader(w, index);
        w.u32(IFLA_MTU, Number(value));
      });
    else throw new Error(`no ip link set ${what} on the fake kernel`);
  }

  #change(type: number, flags: number, write: Parameters<NetlinkSocket["change"]>[4]): void {
    const socket = new NetlinkSocket(this.#sys, NETLINK_ROUTE);
    try {
      socket.change("run", "ip", type, flags, write);
    } finally {
      socket.close();
    }
  }

  #address(verb: string): string {
    const text = verb === "flush" ? "" : this.#next();
    const fields = this.#fields();
    const index = this.#index(fields.get("dev") ?? "");
    if (verb === "flush") {
      for (const { addr, prefixLength } of this.#client.addresses(index))
        if (this.#family === undefined || familyOf(addr) === this.#family)
          this.#client.deleteAddress(index, addr, prefixLength);
      return "";
    }
    const [plain = "", length] = text.split("/");
    const addr = unwrap(parseAddr(plain));
    const bits = length === undefined ? bitsOf(familyOf(addr)) : Number(length);
    if (verb === "add") this.#client.addAddress(index, addr, bits);
    else if (verb === "delete") this.#client.deleteAddress(index, addr, bits);
    else throw new Error(`no ip address ${verb} on the fake kernel`);
    return "";
  }

  /** What is left, as names with values. */
  #fields(): Map<string, string> {
    const fields = new Map<string, string>();
    while (this.#words.length > 0) fields.set(this.#next(), this.#next());
    return fields;
  }

  #prefix(text: string): Prefix {
    if (text === "default") return unwrap(parsePrefix(this.#family === 6 ? "::/0" : "0.0.0.0/0"));
    return unwrap(parsePrefix(text.includes("/") ? text : `${text}/${bitsOf(familyOf(unwrap(parseAddr(text))))}`));
  }

  #route(verb: string): string {
    if (verb === "show" || verb === "") return this.#showRoutes();
    if (verb === "get") return this.#getRoute();
    const first = this.#words[0] as RouteType;
    const type = NOWHERE.includes(first) ? (this.#words.shift() as RouteType) : "unicast";
    const destination = this.#prefix(this.#next());
    const fields = this.#fields();
    const device = fields.get("dev");
    const via = fields.get("via");
    const is4 = prefixFamily(destination) === 4;
    const linked = is4 && type === "unicast" && via === undefined;
    const gateway = via === undefined ? undefined : unwrap(parseAddr(via));
    const hops =
      device === undefined && gateway !== undefined ? this.#client.routeTo(gateway)?.interfaceIndex : undefined;
    const interfaceIndex = device === undefined ? hops : this.#index(device);
    const tos = fields.get("tos");
    const metric = fields.get("metric");
    const protocol = fields.get("proto") ?? "boot";
    const route: KernelRoute = {
      destination,
      table: MAIN_TABLE,
      protocol: verb.startsWith("del") && !fields.has("proto") ? 0 : (PROTOCOLS.get(protocol) ?? Number(protocol)),
      type,
      scope: linked ? 253 : 0,
      ...(tos === undefined ? {} : { tos: Number(tos) }),
      ...(metric === undefined ? {} : { metric: Number(metric) }),
      ...(interfaceIndex === undefined ? {} : { interfaceIndex }),
      ...(gateway === undefined ? {} : { gateway }),
    };
    if (verb.startsWith("del")) this.#client.deleteRoute(route);
    else {
      const flags = VERBS.get(verb);
      if (flags === undefined) throw new Error(`no ip route ${verb} on the fake kernel`);
      this.#change(RTM_NEWROUTE, flags, (w) => encodeRoute(w, route, true));
    }
    return "";
  }

  #showRoutes(): string {
    const wanted = this.#words[0] === "proto" ? undefined : this.#words[0];
    const protocol = this.#words[0] === "proto" ? this.#words[1] : undefined;
    const family = this.#family ?? 4;
    const number = protocol === undefined ? undefined : (PROTOCOLS.get(protocol) ?? Number(protocol));
    const routes = this.#client
      .routes({ family, table: MAIN_TABLE })
      .filter((route) => number === undefined || route.protocol === number)
      .filter((route) => wanted === undefined || route.destination === this.#prefix(wanted));
    return routes.map((route) => `${this.#text(route, number === undefined)}\n`).join("");
  }

  #text(route: KernelRoute, withProtocol: boolean): string {
    const { destination, type, gateway, interfaceIndex, tos, scope, metric } = route;
    const name = this.#client.links().find(({ index }) => index === interfaceIndex)?.name;
    const protocol = [...PROTOCOLS].find(([, number]) => number === route.protocol)?.[0] ?? String(route.protocol);
    return [
      ...(type === "unicast" ? [] : [type]),
      /^(0\.0\.0\.0|::)\/0$/.test(destination) ? "default" : destination.replace(/^([^:]*)\/32$|^(.*)\/128$/, "$1$2"),
      ...(tos === undefined ? [] : [`tos 0x${tos.toString(16)}`]),
      ...(gateway === undefined ? [] : [`via ${gateway}`]),
      ...(name === undefined ? [] : [`dev ${name}`]),
      ...(withProtocol && protocol !== "boot" ? [`proto ${protocol}`] : []),
      ...(scope === 253 ? ["scope link"] : []),
      ...(metric === undefined ? [] : [`metric ${metric}`]),
    ].join(" ");
  }

  #getRoute(): string {
    const addr = unwrap(parseAddr(this.#next()));
    const route = this.#client.routeTo(addr);
    if (route === undefined || route.type !== "unicast") throw new Error("RTNETLINK answers: no route");
    return this.#text(route, true);
  }
}
