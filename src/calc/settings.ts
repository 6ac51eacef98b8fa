/**
 * Settings: what holds for the whole node, out of the FelixConfigurations: `default` for all nodes, then the oldest whose `nodeSelector`
 * selects the node, then `node.NAME`; a later one overrides an earlier one field by field.
 */
import { equal } from "../lib/equal.ts";
import type { FelixRow } from "../model/convert/felix-configuration.ts";
import { evaluateSelector } from "../model/selector/evaluate.ts";
import { parseSelector } from "../model/selector/parse.ts";
import type { DataplaneChoice, Delta, Settings } from "../program/program.ts";
import { DEFAULT_SETTINGS } from "../program/settings.ts";

type NodeLabels = Readonly<Record<string, string>>;

/** What the start of the daemon says, before all objects. */
export type GivenSettings = Partial<
  Pick<
    FelixRow,
    | "interfacePrefixes"
    | "bpfEnabled"
    | "bpfRedirectToPeer"
    | "nftablesMode"
    | "iptablesBackend"
    | "nftablesFlowTableOffload"
  >
>;

/** Shared with the from-scratch calculation. */
export function settingsOf(
  rows: readonly FelixRow[],
  node: string,
  labels: NodeLabels,
  given: GivenSettings = {},
): Settings {
  const own = `node.${node}`;
  const selecting = rows
    .filter(
      ({ name, nodeSelector }) => name !== "default" && !name.startsWith("node.") && selects(nodeSelector, labels),
    )
    .sort((a, b) => compareText(a.createdAt, b.createdAt) || compareText(a.name, b.name));
  const layers = [
    rows.find(({ name }) => name === own),
    selecting[0],
    rows.find(({ name }) => name === "default"),
  ].flatMap((row) => row ?? []);
  const first = <T>(read: (row: FelixRow) => T | undefined): T | undefined =>
    layers.map(read).find((value) => value !== undefined);
  const firstOf = <K extends keyof GivenSettings>(field: K): FelixRow[K] | undefined =>
    given[field] ?? first((row) => row[field]);
  return {
    failsafes: {
      ingress: first(({ failsafeInbound }) => failsafeInbound) ?? DEFAULT_SETTINGS.failsafes.ingress,
      egress: first(({ failsafeOutbound }) => failsafeOutbound) ?? DEFAULT_SETTINGS.failsafes.egress,
    },
    endpointToHost: first(({ endpointToHost }) => endpointToHost) ?? DEFAULT_SETTINGS.endpointToHost,
    logPrefix: first(({ logPrefix }) => logPrefix) ?? DEFAULT_SETTINGS.logPrefix,
    workloadPrefixes: withOurs(firstOf("interfacePrefixes")),
    dataplane: dataplaneOf(firstOf("bpfEnabled"), firstOf("nftablesMode"), firstOf("iptablesBackend")),
    allowsSourcePrefixes: first((row) => row.workloadSourceSpoofing) === "any",
    offloadsFlows: firstOf("nftablesFlowTableOffload") === "all",
    goesPastStack: firstOf("bpfRedirectToPeer") !== "disabled",
  };
}

/** eBPF if it is enabled; else nftables unless it is disabled: of what upstream calls `Auto`, it is what every supported kernel can. */
function dataplaneOf(
  bpfEnabled: boolean | undefined,
  nftablesMode: string | undefined,
  iptablesBackend: string | undefined,
): DataplaneChoice {
  if (bpfEnabled === true) return "ebpf";
  if (nftablesMode !== "disabled") return "nftables";
  if (iptablesBackend === "legacy") return "iptables-legacy";
  return iptablesBackend === "nft" ? "iptables-nft" : "iptables";
}

/** Pods' interfaces are workloads' whatever else is: the CNI plugin names them. */
function withOurs(prefixes: readonly string[] | undefined): readonly string[] {
  if (prefixes === undefined) return DEFAULT_SETTINGS.workloadPrefixes;
  return [...new Set([...DEFAULT_SETTINGS.workloadPrefixes, ...prefixes])];
}

/** One without a selector is for no node. */
function selects(nodeSelector: string, labels: NodeLabels): boolean {
  const selector = parseSelector(nodeSelector);
  return nodeSelector.trim() !== "" && selector.ok && evaluateSelector(selector.value, labels);
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

export class NodeSettings {
  readonly #node: string;
  readonly #given: GivenSettings;
  readonly #rows = new Map<string, FelixRow>();
  #labels: NodeLabels = {};
  #settings: Settings;

  constructor(node: string, given: GivenSettings) {
    this.#node = node;
    this.#given = given;
    const settings = settingsOf([], node, {}, given);
    this.#settings = equal(settings, DEFAULT_SETTINGS) ? DEFAULT_SETTINGS : settings;
  }

  /** The same object as long as nothing changes. */
  step(rows: Delta<string, FelixRow>, labels: Delta<string, NodeLabels>): Settings {
    if (rows.size === 0 && !labels.has(this.#node)) return this.#settings;
    for (const [name, row] of rows)
      if (row === undefined) this.#rows.delete(name);
      else this.#rows.set(name, row);
    if (labels.has(this.#node)) this.#labels = labels.get(this.#node) ?? {};
    const now = settingsOf([...this.#rows.values()], this.#node, this.#labels, this.#given);
    if (!equal(now, this.#settings)) this.#settings = now;
    return this.#settings;
  }
}
