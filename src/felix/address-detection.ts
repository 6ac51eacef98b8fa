/**
 * address-detection: by which address of each family other nodes reach this one, as its start says: given, or found among the node's
 * interfaces. Pure: what the kernel has is handed in.
 *
 * Upstream: node/pkg/lifecycle/startup (IP, IP6, IP_AUTODETECTION_METHOD, IP6_AUTODETECTION_METHOD).
 */
import { fail, ok, type Result } from "../lib/result.ts";
import { type Addr, FAMILIES, type Family, familyOf, parseAddr } from "../net/addr.ts";
import { parsePrefix, type Prefix, prefixContains } from "../net/prefix.ts";

/** An address of one of the node's interfaces. */
export interface LocalAddress {
  readonly addr: Addr;
  readonly prefixLength: number;
  readonly interface: string;
  /** The interface is up, and the address can be used. */
  readonly usable: boolean;
}

/** What the kernel says: addresses in the order of their interfaces, and the source that packets to an address would have. */
export interface LocalNetwork {
  readonly addresses: readonly LocalAddress[];
  sourceTo(addr: Addr): Addr | undefined;
}

export type Method =
  | { readonly by: "first-found" }
  /** The source of packets to the address. */
  | { readonly by: "can-reach"; readonly addr: Addr }
  | { readonly by: "interface" | "skip-interface"; readonly names: readonly RegExp[] }
  | { readonly by: "cidr"; readonly nets: readonly Prefix[] }
  /** The InternalIP of the Node. */
  | { readonly by: "kubernetes-internal-ip" };

/** `none`: other nodes do not reach it by that family. */
export type AddressRule =
  | { readonly is: "none" }
  | { readonly is: "given"; readonly addr: Addr; readonly prefixLength: number | undefined }
  | { readonly is: "detected"; readonly method: Method };

/** undefined: the Node's own address counts, or its InternalIP. */
export type AddressRules = { readonly [F in Family]?: AddressRule };

const VARIABLES = {
  4: ["IP", "IP_AUTODETECTION_METHOD"],
  6: ["IP6", "IP6_AUTODETECTION_METHOD"],
} as const;

/** Errors name the variable, its value, and what is allowed. */
export function addressRules(environment: Readonly<Record<string, string | undefined>>): Result<AddressRules, string> {
  const rules: { [F in Family]?: AddressRule } = {};
  for (const family of FAMILIES) {
    const [variable, methodVariable] = VARIABLES[family];
    const text = (environment[variable] ?? "").trim();
    const method = methodOf(methodVariable, (environment[methodVariable] ?? "").trim(), family);
    if (!method.ok) return method;
    const rule = ruleOf(variable, text, family, method.value);
    if (!rule.ok) return rule;
    if (rule.value !== undefined) rules[family] = rule.value;
  }
  return ok(rules);
}

function ruleOf(
  variable: string,
  text: string,
  family: Family,
  method: Method,
): Result<AddressRule | undefined, string> {
  if (text === "") return ok(undefined);
  if (text === "none") return ok({ is: "none" });
  if (text === "autodetect") return ok({ is: "detected", method });
  const [address = "", length] = text.split("/");
  const addr = parseAddr(address);
  const most = family === 4 ? 32 : 128;
  const isLength = length === undefined || (/^\d{1,3}$/.test(length) && Number(length) <= most);
  if (!addr.ok || familyOf(addr.value) !== family || !isLength)
    return fail(
      `${variable} is ${JSON.stringify(text)}, must be an IPv${family} address, with or without the length of its subnet, autodetect or none`,
    );
  return ok({ is: "given", addr: addr.value, prefixLength: length === undefined ? undefined : Number(length) });
}

function methodOf(variable: string, text: string, family: Family): Result<Method, string> {
  const wrong = (must: string): Result<Method, string> =>
    fail(`${variable} is ${JSON.stringify(text)}, must be ${must}`);
  if (text === "" || text === "first-found") return ok({ by: "first-found" });
  if (text === "kubernetes-internal-ip") return ok({ by: text });
  const [, by, value = ""] = /^(can-reach|interface|skip-interface|cidr)=(.*)$/.exec(text) ?? [];
  const parts = value.split(",").map((part) => part.trim());
  switch (by) {
    case "can-reach": {
      const addr = parseAddr(value);
      return addr.ok && familyOf(addr.value) === family
        ? ok({ by, addr: addr.value })
        : wrong(`can-reach= and an IPv${family} address: names are not looked up`);
    }
    case "interface":
    case "skip-interface": {
      const names = parts.map(regExpOf);
      return names.every((each) => each !== undefined)
        ? ok({ by, names })
        : wrong(`${by}= and regular expressions with commas between them`);
    }
    case "cidr": {
      const nets = parts.flatMap((part) => {
        const net = parsePrefix(part);
        return net.ok ? [net.value] : [];
      });
      return nets.length === parts.length ? ok({ by, nets }) : wrong("cidr= and networks with commas between them");
    }
    default:
      return wrong("first-found, can-reach=, interface=, skip-interface=, cidr= or kubernetes-internal-ip");
  }
}

/** undefined: it is none, or would match every name. */
function regExpOf(text: string): RegExp | undefined {
  if (text === "") return undefined;
  try {
    return new RegExp(text);
  } catch {
    return undefined;
  }
}

/** Interfaces of the platform, behind which are no other nodes. */
const PLATFORM =
  /^(docker|cbr|dummy|podman|virbr|lxcbr|veth|br-|cali|tunl|flannel|kube-ipvs|cni|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali|nodelocaldns)|^lo$/;

/** The address of that family, by the method; `internal`: the InternalIP of the Node. undefined: there is none. */
export function detectAddress(
  method: Method,
  family: Family,
  { addresses, sourceTo }: LocalNetwork,
  internal: Addr | undefined,
): LocalAddress | undefined {
  const own = addresses.filter(({ addr, usable }) => usable && familyOf(addr) === family && isReachable(addr));
  switch (method.by) {
    case "first-found":
      return own.find((each) => !PLATFORM.test(each.interface));
    case "skip-interface":
      return own.find((each) => !PLATFORM.test(each.interface) && !matchesAny(method.names, each.interface));
    case "interface":
      return own.find((each) => matchesAny(method.names, each.interface));
    case "cidr":
      return own.find(({ addr }) => method.nets.some((net) => prefixContains(net, addr)));
    case "can-reach": {
      const source = sourceTo(method.addr);
      return own.find(({ addr }) => addr === source);
    }
    case "kubernetes-internal-ip":
      return own.find(({ addr }) => addr === internal);
  }
}

function matchesAny(names: readonly RegExp[], name: string): boolean {
  return names.some((each) => each.test(name));
}

const UNREACHABLE = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/3",
  "::/127",
  "fe80::/10",
  "ff00::/8",
].map((text) => text as Prefix);

function isReachable(addr: Addr): boolean {
  return !UNREACHABLE.some((net) => prefixContains(net, addr));
}
