/**
 * Why: `calicoctl why SRC DST[:PORT[/PROTOCOL]]`: whether traffic passes, and which rule decides at each end. Needs no daemon: a kubeconfig
 * or manifests are enough, and it changes nothing.
 *
 * Exit code 0: everything in question is allowed. 1: some or all of it is denied. 2: there is no answer, or no certain one.
 */
import { formatParseError, type ParseError, type Result } from "../lib/result.ts";
import { formatKey } from "../model/key.ts";
import { formatFieldError } from "../model/schema/field-error.ts";
import { type Addr, familyOf } from "../net/addr.ts";
import type { Cluster } from "../semantics/cluster.ts";
import { clusterOf } from "../semantics/read-cluster.ts";
import { describeKey, describeVerdict, effectOfInvalid } from "../verify/describe.ts";
import { type Answer, type Explain, explainer, type Party } from "../verify/explain.ts";
import type { Traffic } from "../verify/traffic.ts";
import { isPlaceholder, placeholders } from "../verify/placeholders.ts";
import { readCluster } from "./cluster.ts";
import { hostWorldOf } from "./host-world.ts";
import { InputError, type Inventory, type Warning } from "./inventory.ts";
import { readManifests } from "./manifests.ts";
import { type Aim, aimsOf, type Scene, sceneOf, sourcesOf } from "./parties.ts";
import { stagingOf } from "./staged.ts";
import { parseDestination, parseSource, type Target } from "./target.ts";
import { type Pair, printJson, printText, type WhyReport } from "./why-print.ts";

export interface WhyOptions {
  readonly source: string;
  readonly destination: string;
  /** Namespace of whatever is named without one. */
  readonly namespace: string;
  readonly output: "text" | "json";
  /** Files and folders of manifests, `-` for standard input; if there are any, no cluster is read. */
  readonly files: readonly string[];
  /** Folders below folders too. */
  readonly recursive: boolean;
  readonly stdin: () => Promise<Uint8Array>;
  readonly kubeconfig: string | undefined;
  /** A CalicoAPIConfig; undefined: the usual file, if it exists. */
  readonly config?: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export interface CommandResult {
  readonly code: 0 | 1 | 2;
  readonly out: string;
  readonly error: string;
}

/** Rejects with InputError, StoreError or FileError when the question or the cluster cannot be read. */
export async function runWhy(options: WhyOptions): Promise<CommandResult> {
  const source = read(parseSource(options.source, options.namespace));
  const { target, traffic } = read(parseDestination(options.destination, options.namespace));
  const inventory = await readInventory(options, [source, target]);
  try {
    return answer(options, source, target, traffic, inventory);
  } catch (error) {
    // When a pod is not found, the cause may be what could not be read.
    throw error instanceof InputError
      ? new InputError(
          error.message,
          inventory.warnings.map(({ text }) => text),
        )
      : error;
  }
}

function answer(
  { output }: WhyOptions,
  source: Target,
  target: Target,
  traffic: Traffic | undefined,
  inventory: Inventory,
): CommandResult {
  const isOne = isPair({ source, target });
  const now = reportOf({ source, target, traffic }, inventory, clusterOf(inventory.resources));
  const staging = stagingOf(inventory, now.cluster, endsOf(now.pairs));
  const staged =
    staging === undefined
      ? undefined
      : {
          names: staging.names,
          report: reportOf({ source, target, traffic }, staging.inventory, staging.cluster),
        };
  const report = { ...now, ...(staged === undefined ? {} : { staged }) };
  const out = output === "json" ? printJson(report) : printText(report, isOne);
  return { code: now.doubts.length > 0 ? 2 : now.allowed ? 0 : 1, out, error: warningLines(now.notes) };
}

interface Asked {
  readonly source: Target;
  readonly target: Target;
  readonly traffic: Traffic | undefined;
}

/** Not many pods. */
function isPair({ source, target }: Pick<Asked, "source" | "target">): boolean {
  return source.type !== "namespace" && target.type !== "namespace";
}

/** What happens in this cluster to what was asked about. */
function reportOf({ source, target, traffic }: Asked, inventory: Inventory, cluster: Cluster): WhyReport {
  const scene = sceneOf(inventory, cluster);
  const sources = sourcesOf(source, scene);
  const { aims, doubts } = aimsOf(target, traffic, scene);
  const explain = explainer(cluster, inventory.unknowns, hostWorldOf(inventory, cluster));
  const isOne = isPair({ source, target });
  const pairs = sources.flatMap((from) =>
    aims.filter(({ party }) => isOne || from.label !== party.label).map((aim) => pairOf(from, aim, explain)),
  );
  if (pairs.length === 0)
    throw new InputError("Cannot find a pair to explain: source and destination are the same single pod");
  const allDoubts = new Set([
    ...doubts,
    ...pairs.flatMap((pair) => doubtsOf(pair, explain, scene)),
    ...doubtsOfInventory(inventory.warnings, pairs),
  ]);
  const allowed = pairs.every(({ answers }) => answers.length > 0 && answers.every((each) => each.allowed));
  const notes = [
    ...invalidPolicies(cluster),
    ...assumptions([source, target], inventory, scene),
    ...inventory.warnings.map(({ text }) => text).filter((text) => !allDoubts.has(text)),
  ];
  return { pairs, allowed, doubts: [...allDoubts], notes, cluster };
}

/** The pods at the ends. */
function endsOf(pairs: readonly Pair[]): ReadonlySet<string> {
  return new Set(
    pairs
      .flatMap(({ source, destination }) => [source.pod, destination.pod])
      .flatMap((key) => (key === undefined ? [] : formatKey(key))),
  );
}

export function warningLines(notes: readonly string[]): string {
  return notes.map((text) => `warning: ${text}\n`).join("");
}

function read<T>(result: Result<T, ParseError>): T {
  if (result.ok) return result.value;
  throw new InputError(formatParseError(result.error));
}

function readInventory(options: WhyOptions, targets: readonly Target[]): Promise<Inventory> {
  const { files, recursive, namespace, stdin, kubeconfig, config, environment } = options;
  if (files.length > 0) return readManifests({ paths: files, recursive, namespace, stdin });
  return readCluster({
    kubeconfig,
    config,
    environment,
    needsServices: targets.some(
      (target) => target.type === "address" || (target.type === "object" && target.kind === "service"),
    ),
  });
}

function pairOf(source: Party, { party, traffic, passage }: Aim, explain: Explain): Pair {
  return { source, destination: party, passage, answers: explain({ source, destination: party, traffic }) };
}

/** What makes the answers about one pair uncertain: what is not known, and what else the packet may look like after translation. */
function doubtsOf(pair: Pair, explain: Explain, scene: Scene): string[] {
  const { cluster, world } = scene;
  const { source, destination, passage, answers } = pair;
  const doubts = answers.some(({ otherwise }) => otherwise !== undefined) ? unknownsOf(pair, scene) : [];
  if (passage === undefined) return doubts;
  if (source.pod !== undefined && destination.pod !== undefined && source.label === destination.label) {
    return [
      ...doubts,
      `${source.label} reaches itself through ${passage.text}: its node translates the source too, which is not explained`,
    ];
  }
  if (!passage.isExternal) return doubts;
  const seesBefore = (hook: string): boolean => hook === "pre-dnat" || hook === "untracked";
  if (cluster.hostEndpoints.length > 0 && cluster.policies.some(({ hooks }) => hooks.some(seesBefore)))
    doubts.push(`policy of host endpoints before translation sees another destination, which is not explained`);
  const seen =
    passage.address === undefined
      ? []
      : explain({
          source,
          destination: { label: passage.address, pod: undefined, addresses: [passage.address] },
          traffic: passage.traffic,
        });
  if (differs(answers, seen, "egress"))
    doubts.push(
      `${source.label} sends to ${passage.address}; if another node translates that, leaving it is ${wordOf(seen, "egress", cluster)}`,
    );
  if (passage.keepsSource) return doubts;
  const nodes = [...world.nodeAddresses];
  const from = explain({
    source: { label: "a node", pod: undefined, addresses: nodes.length > 0 ? nodes : NO_NODE },
    destination,
    traffic: answers[0]?.traffic[0],
  });
  if (differs(answers, from, "ingress"))
    doubts.push(
      `what comes through ${passage.text} may have a node's address as its source; then entering ${destination.label} is ${wordOf(from, "ingress", cluster)}`,
    );
  return doubts;
}

/** Represents the address of a node that no manifest contains. */
const NO_NODE: readonly Addr[] = placeholders(0xff_fff0);

/** Whether another path of the packet has another verdict at one end, or an unknown one. */
function differs(answers: readonly Answer[], others: readonly Answer[], end: "egress" | "ingress"): boolean {
  const actions = (list: readonly Answer[], family: number): string[] =>
    list
      .filter(({ source }) => familyOf(source) === family)
      .flatMap((answer) => [answer[end].action, answer.otherwise?.[end].action ?? answer[end].action]);
  return answers.some(({ source, [end]: { action } }) =>
    actions(others, familyOf(source)).some((other) => other !== action),
  );
}

function wordOf(answers: readonly Answer[], end: "egress" | "ingress", cluster: Cluster): string {
  return [...new Set(answers.map((answer) => describeVerdict(answer[end], cluster)))].join("; or ");
}

/** The things about a pair that are not known, where an answer depends on them. */
function unknownsOf({ source, destination, answers }: Pair, { inventory, podsByKey, asked }: Scene): string[] {
  const { namespaces, knownAccounts, knownServices } = inventory.unknowns;
  const open = answers.filter(({ otherwise }) => otherwise !== undefined);
  const isByNode = ({ otherwise }: Answer): boolean => otherwise?.ingress.reason.type === "own-node";
  const node = open.some(isByNode) ? [`whether ${destination.label} runs on the node that sends`] : [];
  if (open.every((answer) => isByNode(answer) && answer.egress.action === "allow")) return node.map(unknownText);
  const addresses = [source, destination]
    .filter((party) => party.addresses.some(isPlaceholder))
    .map(({ label }) => `the address of ${label}`);
  const spaces = new Set(
    [source, destination]
      .flatMap(({ pod }) => pod?.namespace ?? [])
      .filter((namespace) => namespaces.includes(namespace)),
  );
  const labels = [...spaces].map((namespace) => `the labels of namespace ${namespace} (there is no Namespace object)`);
  const accounts = [source, destination].flatMap(({ pod }) => {
    const found = pod === undefined || !asked.accounts ? undefined : podsByKey.get(formatKey(pod));
    const account = found?.labels["projectcalico.org/serviceaccount"];
    const name = `${found?.namespace}/${account}`;
    return account === undefined || knownAccounts?.has(name) !== false
      ? []
      : [`the labels of service account ${name} (there is no ServiceAccount object)`];
  });
  const services = asked.services
    .filter((service) => knownServices?.has(service) === false)
    .map((service) => `the endpoints of Service ${service}`);
  const interfaces = open
    .flatMap(({ hosts = [] }) => hosts)
    .filter(({ verdicts }) => new Set(verdicts.map(({ action }) => action)).size > 1)
    .map(({ node: name }) => `by which interface of node ${name} the packet goes, and so which HostEndpoint applies`);
  const found = [...interfaces, ...node, ...addresses, ...labels, ...accounts, ...services];
  // The namespace of a network set, say.
  return [...new Set(found.length > 0 ? found : ["labels that are not in the manifests"])].map(unknownText);
}

function unknownText(what: string): string {
  return `not known, and it may decide: ${what}`;
}

/** The warnings that affect these pairs. */
function doubtsOfInventory(warnings: readonly Warning[], pairs: readonly Pair[]): string[] {
  const parties = pairs.flatMap(({ source, destination }) => [source, destination]);
  const namespaces = new Set(parties.map(({ pod }) => pod?.namespace));
  const hasHost = parties.some(({ pod }) => pod === undefined);
  return warnings
    .filter(
      ({ doubt, namespaces: scope }) =>
        (doubt === "all" || (doubt === "hosts" && hasHost)) &&
        (scope === undefined || scope.some((namespace) => namespaces.has(namespace))),
    )
    .map(({ text }) => text);
}

/** What is assumed about addresses where the manifests do not contain those of all pods and Services. */
function assumptions(
  targets: readonly Target[],
  { resources, services }: Inventory,
  { cluster, world }: Scene,
): string[] {
  const isIncomplete = resources.pods.some(({ status }) =>
    (status?.podIPs ?? []).some(({ ip }) => isPlaceholder((ip ?? "") as Addr)),
  );
  if (!isIncomplete) return [];
  return targets.flatMap((target) => {
    if (target.type !== "address" || world.nodeAddresses.has(target.addr)) return [];
    const isKnown =
      cluster.pods.some(({ addresses }) => addresses.includes(target.addr)) ||
      services.some(({ addresses }) => addresses.some(({ addr }) => addr === target.addr));
    return isKnown
      ? []
      : [
          `${target.addr} is taken for an address outside the cluster: the manifests do not say the addresses of all pods and Services`,
        ];
  });
}

function invalidPolicies(cluster: Cluster): string[] {
  const invalid = cluster.policies.filter(({ errors }) => errors.length > 0);
  return invalid.map(
    ({ key, errors }) =>
      `${describeKey(key)} is invalid and ${effectOfInvalid(key)}: ${errors.map(formatFieldError).join("; ")}`,
  );
}
