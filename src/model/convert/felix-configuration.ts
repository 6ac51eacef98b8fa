/** Felix configuration: converts a FelixConfiguration to what of it has a meaning here. Upstream: felix/config/config_params.go. */
import { parseNet, type Prefix } from "../../net/prefix.ts";
import { parseProtocol, type Protocol } from "../../net/protocol.ts";
import { objectsIn } from "../kubernetes/fields.ts";
import type { Resource } from "../resource.ts";

/** Fields that are absent say nothing. */
export interface FelixRow {
  readonly name: string;
  /** RFC 3339 text; of several that select a node the oldest counts. */
  readonly createdAt: string;
  /** Of objects that are neither for all nodes nor for one. */
  readonly nodeSelector: string;
  readonly failsafeInbound: readonly FailsafeRow[] | undefined;
  readonly failsafeOutbound: readonly FailsafeRow[] | undefined;
  readonly endpointToHost: "drop" | "accept" | undefined;
  readonly logPrefix: string | undefined;
  readonly bpfEnabled: boolean | undefined;
  /** `enabled` or `disabled`. */
  readonly bpfRedirectToPeer: string | undefined;
  /** As written, in lower case: `auto`, `enabled`, `disabled`; `auto`, `legacy`, `nft`. */
  readonly nftablesMode: string | undefined;
  readonly iptablesBackend: string | undefined;
  /** `all` or `disabled`. */
  readonly nftablesFlowTableOffload: string | undefined;
  readonly interfacePrefixes: readonly string[] | undefined;
  /** `any` or `disabled`. */
  readonly workloadSourceSpoofing: string | undefined;
}

export interface FailsafeRow {
  readonly protocol: Protocol;
  readonly port: number;
  readonly net?: Prefix | undefined;
}

export function felixRowOf({ metadata, spec }: Resource<"FelixConfiguration">): FelixRow {
  return {
    name: metadata.name,
    createdAt: metadata.creationTimestamp ?? "",
    nodeSelector: textOf(spec?.nodeSelector),
    failsafeInbound: failsafesOf(spec?.failsafeInboundHostPorts),
    failsafeOutbound: failsafesOf(spec?.failsafeOutboundHostPorts),
    endpointToHost: endpointToHostOf(wordOf(spec?.defaultEndpointToHostAction)),
    logPrefix: wordOf(spec?.logPrefix),
    bpfEnabled: typeof spec?.bpfEnabled === "boolean" ? spec.bpfEnabled : undefined,
    bpfRedirectToPeer: wordOf(spec?.bpfRedirectToPeer)?.toLowerCase(),
    nftablesMode: wordOf(spec?.nftablesMode)?.toLowerCase(),
    iptablesBackend: wordOf(spec?.iptablesBackend)?.toLowerCase(),
    nftablesFlowTableOffload: wordOf(spec?.nftablesFlowTableOffload)?.toLowerCase(),
    interfacePrefixes: interfacePrefixesOf(spec?.interfacePrefix),
    workloadSourceSpoofing: wordOf(spec?.workloadSourceSpoofing)?.toLowerCase(),
  };
}

/** What is no text is no selector either, and selects no node. */
function textOf(selector: unknown): string {
  if (selector === undefined || selector === null) return "";
  return typeof selector === "string" ? selector : JSON.stringify(selector);
}

function wordOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** An entry that cannot be read is left out: a failsafe port opens. */
function failsafesOf(entries: unknown): FailsafeRow[] | undefined {
  if (!Array.isArray(entries)) return undefined;
  return objectsIn(entries).flatMap(({ protocol, port, net }) => {
    const number = parseProtocol(String(protocol ?? "TCP").toUpperCase());
    const parsed = net ? parseNet(String(net)) : undefined;
    if (!Number.isInteger(number) || typeof port !== "number" || parsed?.ok === false) return [];
    return [{ protocol: number, port, net: parsed?.value }];
  });
}

/** `cali,tap`. undefined: none are given, or they cannot be read. */
export function interfacePrefixesOf(text: unknown): readonly string[] | undefined {
  return typeof text === "string" && INTERFACE_PREFIXES.test(text) ? text.split(",") : undefined;
}

/** Source: felix/config/config_params.go (iface-list). */
const INTERFACE_PREFIXES = /^[a-zA-Z0-9_-]{1,15}(,[a-zA-Z0-9_-]{1,15})*$/;

/** `Accept` and `Return` are one: what this product lets pass, another table may still drop. */
function endpointToHostOf(action: string | undefined): FelixRow["endpointToHost"] {
  switch (action?.toLowerCase()) {
    case "drop":
    case "reject":
      return "drop";
    case "accept":
    case "return":
      return "accept";
    default:
      return undefined;
  }
}
