/** Traffic: protocols, ports and ICMP types, divided into classes within which no policy of a cluster can distinguish two packets. */
import { type Cluster, rulesOf, type WrittenPort } from "../semantics/cluster.ts";
import { portOf } from "../semantics/match.ts";
import type { Family } from "../net/addr.ts";
import { ICMP, ICMPV6, type Protocol, protocolByName, SCTP, TCP, UDP } from "../net/protocol.ts";

/** Both ends included. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

/** Destination ports `from`..`to` of a protocol, from source ports in `source`, or any. */
export interface PortTraffic extends Range {
  readonly protocol: Protocol;
  readonly source?: Range;
}

/** Types and codes of ICMP or ICMPv6. */
export interface IcmpTraffic {
  readonly protocol: Protocol;
  readonly types: Range;
  readonly codes: Range;
}

/** All of one protocol, or (undefined) of every protocol that is not in `except`. */
export interface PlainTraffic {
  readonly protocol: Protocol | undefined;
  readonly except?: readonly Protocol[];
}

export type Traffic = PortTraffic | IcmpTraffic | PlainTraffic;

const MAX_PORT = 65535;
const ALL_PORTS: Range = { from: 0, to: MAX_PORT };
const ALL_TYPES: Range = { from: 0, to: 255 };
const WITH_PORTS: readonly Protocol[] = [TCP, UDP, SCTP];

export function hasPorts(traffic: Traffic): traffic is PortTraffic {
  return "from" in traffic;
}

export function isIcmp(traffic: Traffic): traffic is IcmpTraffic {
  return "types" in traffic;
}

/**
 * The classes of what is asked for, or of all traffic, in order of protocol and port. In the cluster, which may be the part around one
 * pair of addresses, are the endpoints whose port names policies use; `more` are destination ports that are treated differently as well. ICMP and ICMPv6 exist in one family each.
 */
export function trafficClasses(
  cluster: Cluster,
  family: Family,
  asked?: Traffic,
  more: readonly { readonly protocol: Protocol; readonly port: number }[] = [],
): Traffic[] {
  const named = namedProtocols(cluster).filter((protocol) => protocol !== (family === 4 ? ICMPV6 : ICMP));
  const plain = named.flatMap((protocol): Traffic[] =>
    protocol === ICMP || protocol === ICMPV6 ? icmpClasses(protocol, cluster) : [{ protocol }],
  );
  const except = [...WITH_PORTS, ...named];
  const wanted = (protocol: Protocol): boolean => asked?.protocol === undefined || asked.protocol === protocol;
  const all = [
    ...WITH_PORTS.filter(wanted).flatMap((protocol) => portClasses(protocol, cluster, more)),
    ...plain,
    { protocol: undefined, except },
  ];
  return asked === undefined ? all : all.flatMap((each) => intersect(asked, each) ?? []);
}

/** What two kinds of traffic have in common. */
function intersect(asked: Traffic, each: Traffic): Traffic | undefined {
  if (asked.protocol === undefined) return each.protocol === undefined ? each : undefined;
  if (each.protocol === undefined) {
    const isOther = "except" in each && each.except?.includes(asked.protocol) !== true;
    return isOther ? asked : undefined;
  }
  if (each.protocol !== asked.protocol) return undefined;
  if (hasPorts(asked) && hasPorts(each)) {
    const ports = common(asked, each);
    const source = common(asked.source ?? ALL_PORTS, each.source ?? ALL_PORTS);
    if (ports === undefined || source === undefined) return undefined;
    return { protocol: each.protocol, ...ports, ...(isWhole(source, ALL_PORTS) ? {} : { source }) };
  }
  if (isIcmp(asked) && isIcmp(each)) {
    const types = common(asked.types, each.types);
    const codes = common(asked.codes, each.codes);
    return types === undefined || codes === undefined ? undefined : { protocol: each.protocol, types, codes };
  }
  return hasPorts(asked) || isIcmp(asked) ? asked : each;
}

function common(a: Range, b: Range): Range | undefined {
  const [from, to] = [Math.max(a.from, b.from), Math.min(a.to, b.to)];
  return from <= to ? { from, to } : undefined;
}

function isWhole(range: Range, whole: Range): boolean {
  return range.from <= whole.from && range.to >= whole.to;
}

/** Protocols without ports that a rule names, in order of their numbers. */
function namedProtocols(cluster: Cluster): Protocol[] {
  const named = rulesOf(cluster).flatMap(({ protocol, notProtocol, icmp, notIcmp = [], source, destination }) => [
    protocol,
    notProtocol,
    icmp?.protocol,
    ...notIcmp.map((each) => each.protocol),
    ...entriesOf(source).flatMap((entry) => portOf(entry).protocols),
    ...entriesOf(destination).flatMap((entry) => portOf(entry).protocols),
  ]);
  const known = named.filter((protocol) => protocol !== undefined);
  return [...new Set(known)].filter((protocol) => !WITH_PORTS.includes(protocol)).sort((a, b) => a - b);
}

function entriesOf({
  ports = [],
  notPorts = [],
}: {
  ports?: readonly WrittenPort[];
  notPorts?: readonly WrittenPort[];
}) {
  return [...ports, ...notPorts];
}

/** `whole`, divided before each of `starts`. */
function divide(whole: Range, starts: ReadonlySet<number>): Range[] {
  const sorted = [...new Set([whole.from, ...starts])].filter((at) => at >= whole.from && at <= whole.to);
  sorted.sort((a, b) => a - b);
  return sorted.map((from, i) => ({ from, to: (sorted[i + 1] ?? whole.to + 1) - 1 }));
}

function portClasses(
  protocol: Protocol,
  cluster: Cluster,
  more: readonly { readonly protocol: Protocol; readonly port: number }[],
): PortTraffic[] {
  const starts = portStarts(protocol, "destination", cluster);
  for (const each of more) if (each.protocol === protocol) starts.add(each.port).add(each.port + 1);
  const sources = divide(ALL_PORTS, portStarts(protocol, "source", cluster));
  return divide(ALL_PORTS, starts).flatMap((ports) =>
    sources.map((source) => (isWhole(source, ALL_PORTS) ? { protocol, ...ports } : { protocol, ...ports, source })),
  );
}

/** Where the ports of one side may begin to have other verdicts. */
function portStarts(protocol: Protocol, side: "source" | "destination", cluster: Cluster): Set<number> {
  const starts = new Set<number>();
  const cut = (from: number, to: number): void => void starts.add(from).add(to + 1);
  const names = new Set<string>();
  for (const rule of rulesOf(cluster))
    for (const entry of entriesOf(rule[side])) {
      const { protocols, port } = portOf(entry);
      if (port === undefined || !protocols.includes(protocol)) continue;
      if ("from" in port) cut(port.from, port.to);
      else if ("name" in port) names.add(port.name);
      else
        for (const { service, ports } of cluster.endpoints)
          if (service === port.service) for (const own of ports) if (own.protocol === protocol) cut(own.port, own.port);
    }
  for (const { ports } of [...cluster.pods, ...cluster.hostEndpoints])
    for (const { name = "", protocol: own, port } of ports) if (own === protocol && names.has(name)) cut(port, port);
  return starts;
}

function icmpClasses(protocol: Protocol, cluster: Cluster): IcmpTraffic[] {
  const codes = new Map<number, Set<number>>();
  for (const { icmp, notIcmp = [] } of rulesOf(cluster))
    for (const each of icmp === undefined ? notIcmp : [icmp, ...notIcmp]) {
      if (each.protocol !== protocol || each.type === undefined) continue;
      const known = codes.get(each.type) ?? new Set();
      codes.set(each.type, known);
      if (each.code !== undefined) known.add(each.code).add(each.code + 1);
    }
  const types = divide(ALL_TYPES, new Set([...codes.keys()].flatMap((type) => [type, type + 1])));
  return types.flatMap((range) =>
    divide(ALL_TYPES, codes.get(range.from) ?? new Set()).map((each) => ({ protocol, types: range, codes: each })),
  );
}

/** `6379/tcp`, `0-79/tcp, 81-65535/tcp`, `tcp`, `icmp type 8`, `other protocols`, `all traffic`; neighbours are joined. */
export function formatTraffic(classes: readonly Traffic[]): string {
  const ports = joinPorts(classes.filter(hasPorts));
  const icmp = joinIcmp(classes.filter(isIcmp));
  const plain = classes.filter((each): each is PlainTraffic => !hasPorts(each) && !isIcmp(each));
  const other = plain.find(({ protocol }) => protocol === undefined);
  const whole = [
    ...ports.filter((each) => isWhole(each, ALL_PORTS) && each.source === undefined).map(({ protocol }) => protocol),
    ...icmp.filter(({ types, codes }) => isWhole(types, ALL_TYPES) && isWhole(codes, ALL_TYPES)).map(protocolOf),
    ...plain.flatMap(({ protocol }) => protocol ?? []),
  ];
  const isRest = (protocol: Protocol): boolean => other !== undefined && !WITH_PORTS.includes(protocol);
  const missing = (other?.except ?? []).filter((protocol) => !whole.includes(protocol));
  if (other !== undefined && missing.length === 0) return "all traffic";
  // Without exception they need no list.
  const hasRest = other !== undefined && missing.every((protocol) => WITH_PORTS.includes(protocol));
  return [
    ...ports.map(formatPorts),
    ...(hasRest
      ? ["protocols without ports"]
      : [
          ...icmp.map(formatIcmp),
          ...plain.flatMap(({ protocol }) => (protocol === undefined ? [] : formatName(protocol))),
          ...(other === undefined ? [] : [missing.some(isRest) ? "other protocols" : "protocols without ports"]),
        ]),
  ].join(", ");
}

function protocolOf({ protocol }: { readonly protocol: Protocol }): Protocol {
  return protocol;
}

/** Neighbours in source ports first, then in destination ports. */
function joinPorts(classes: readonly PortTraffic[]): PortTraffic[] {
  const bySource: PortTraffic[] = [];
  for (const each of classes) {
    const last = bySource.at(-1);
    const isSame = last !== undefined && last.protocol === each.protocol && last.from === each.from;
    if (isSame && last.source !== undefined && each.source !== undefined && last.source.to + 1 === each.source.from) {
      const { protocol, from, to } = last;
      const source = { from: last.source.from, to: each.source.to };
      bySource[bySource.length - 1] = { protocol, from, to, ...(isWhole(source, ALL_PORTS) ? {} : { source }) };
    } else bySource.push(each);
  }
  const joined: PortTraffic[] = [];
  for (const each of bySource) {
    const at = joined.findLastIndex(
      ({ protocol, to, source }) =>
        protocol === each.protocol &&
        to + 1 === each.from &&
        source?.from === each.source?.from &&
        source?.to === each.source?.to,
    );
    const before = joined[at];
    if (before === undefined) joined.push(each);
    else joined[at] = { ...before, to: each.to };
  }
  return joined;
}

/** Neighbours in codes first, then in types that have all codes. */
function joinIcmp(classes: readonly IcmpTraffic[]): IcmpTraffic[] {
  const joined: IcmpTraffic[] = [];
  for (const each of classes) {
    const last = joined.at(-1);
    if (
      last?.protocol === each.protocol &&
      last.types.from === each.types.from &&
      last.codes.to + 1 === each.codes.from
    )
      joined[joined.length - 1] = { ...last, codes: { from: last.codes.from, to: each.codes.to } };
    else joined.push(each);
  }
  const types: IcmpTraffic[] = [];
  for (const each of joined) {
    const last = types.at(-1);
    const areWhole = last !== undefined && isWhole(last.codes, ALL_TYPES) && isWhole(each.codes, ALL_TYPES);
    if (areWhole && last.protocol === each.protocol && last.types.to + 1 === each.types.from)
      types[types.length - 1] = { ...last, types: { from: last.types.from, to: each.types.to } };
    else types.push(each);
  }
  return types;
}

function formatPorts(traffic: PortTraffic): string {
  const { protocol, source } = traffic;
  const name = formatName(protocol);
  const ports = isWhole(traffic, ALL_PORTS) ? name : `${formatRange(traffic)}/${name}`;
  if (source === undefined) return ports;
  return `${ports} from ${source.from === source.to ? "port" : "ports"} ${formatRange(source)}`;
}

function formatIcmp({ protocol, types, codes }: IcmpTraffic): string {
  const name = formatName(protocol);
  if (isWhole(types, ALL_TYPES) && isWhole(codes, ALL_TYPES)) return name;
  const text = `${name} ${types.from === types.to ? "type" : "types"} ${formatRange(types)}`;
  return isWhole(codes, ALL_TYPES)
    ? text
    : `${text} ${codes.from === codes.to ? "code" : "codes"} ${formatRange(codes)}`;
}

function formatRange({ from, to }: Range): string {
  return from === to ? String(from) : `${from}-${to}`;
}

/** Those that people know by name. Source: IANA protocol numbers. */
const NAMES: readonly (readonly [string, Protocol])[] = [
  ["icmp", ICMP],
  ["igmp", 2 as Protocol],
  ["ipip", 4 as Protocol],
  ["tcp", TCP],
  ["udp", UDP],
  ["gre", 47 as Protocol],
  ["esp", 50 as Protocol],
  ["ah", 51 as Protocol],
  ["icmpv6", ICMPV6],
  ["ospf", 89 as Protocol],
  ["vrrp", 112 as Protocol],
  ["sctp", SCTP],
  ["udplite", 136 as Protocol],
];

function formatName(protocol: Protocol): string {
  return NAMES.find(([, number]) => number === protocol)?.[0] ?? `protocol ${protocol}`;
}

/** `tcp`, `udp` or `sctp`, in any case. */
export function protocolWithPorts(name: string): Protocol | undefined {
  return ["TCP", "UDP", "SCTP"].includes(name.toUpperCase()) ? protocolByName(name.toUpperCase()) : undefined;
}

/** All traffic of a protocol, by name in any case or by number: `gre`, `47`. */
export function trafficOf(text: string): Traffic | undefined {
  const number = /^(0|[1-9]\d{0,2})$/.test(text) && Number(text) < 256 ? (Number(text) as Protocol) : undefined;
  const protocol = number ?? NAMES.find(([name]) => name === text.toLowerCase())?.[1];
  if (protocol === undefined) return undefined;
  if (WITH_PORTS.includes(protocol)) return { protocol, ...ALL_PORTS };
  return protocol === ICMP || protocol === ICMPV6 ? icmpTraffic(protocol) : { protocol };
}

export function icmpTraffic(protocol: Protocol, type?: number, code?: number): IcmpTraffic {
  const only = (value: number | undefined): Range => (value === undefined ? ALL_TYPES : { from: value, to: value });
  return { protocol, types: only(type), codes: only(code) };
}

/** The header fields of one packet that represents its class. */
export function representative(traffic: Traffic, family: Family): { readonly protocol: Protocol } & Fields {
  if (hasPorts(traffic)) {
    const { protocol, from, source } = traffic;
    return { protocol, sourcePort: source?.from ?? 0, destinationPort: from };
  }
  const none = { sourcePort: undefined, destinationPort: undefined };
  if (isIcmp(traffic))
    return { ...none, protocol: traffic.protocol, icmp: { type: traffic.types.from, code: traffic.codes.from } };
  if (traffic.protocol !== undefined) return { ...none, protocol: traffic.protocol };
  const own = family === 4 ? ICMP : ICMPV6;
  const { except = [] } = traffic;
  const free = Array.from({ length: 256 }, (_, i) => (255 - i) as Protocol).find((each) => !except.includes(each));
  return { ...none, protocol: except.includes(own) ? (free ?? own) : own };
}

interface Fields {
  readonly sourcePort: number | undefined;
  readonly destinationPort: number | undefined;
  readonly icmp?: { readonly type: number; readonly code: number };
}
