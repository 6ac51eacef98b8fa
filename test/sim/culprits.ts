/**
 * Culprits: a policy, or a pod, of which a node's kernel refuses something: who must not pay for it, and what must be closed meanwhile.
 *
 * All of it is in one namespace. The policy first allows everything, then only some: a kernel that goes on running the first is open.
 */
import { chainId, setId } from "../../src/dataplane/nftables/rows.ts";
import { EBUSY, EEXIST } from "../../src/kernel/errno.ts";
import type { FakeRequest } from "../../src/kernel/fake/faults.ts";
import { bytesToHex } from "../../src/lib/bytes.ts";
import { unwrap } from "../../src/lib/result.ts";
import { policyOfNetworkPolicy } from "../../src/model/convert/network-policy.ts";
import { formatName, type Key } from "../../src/model/key.ts";
import type { Resource } from "../../src/model/resource.ts";
import { type Addr, familyOf, parseAddr } from "../../src/net/addr.ts";
import { hostInterfaceName } from "../../src/podnet/names.ts";
import { lowerPolicy } from "../../src/program/lower-rule.ts";
import { fateOf } from "./evaluate.ts";
import { tableDifferences } from "./invariants.ts";
import { type SimNode, UPLINK } from "./machine.ts";
import type { Runtime, Sandbox } from "./runtime.ts";
import { NAMESPACES, type World } from "./world.ts";

const NAMESPACE = NAMESPACES[2];
const POLICY = "culprit";
const KEY: Key<"KubernetesNetworkPolicy"> = { kind: "KubernetesNetworkPolicy", namespace: NAMESPACE, name: POLICY };
const ENOMEM = 12;
/** Longer than any retry of the product. */
const INNOCENTS_MS = 40_000;
const GAP_MS = 2_500;
const WORLD: { readonly [F in 4 | 6]: Addr } = {
  4: unwrap(parseAddr("198.51.100.7")),
  6: unwrap(parseAddr("2001:db8::7")),
};

const KINDS = ["chain", "rules", "set", "element", "pod's chain", "pod's rules", "pod's dispatch"] as const;

/** What a kernel refuses. */
export interface Refused {
  readonly kind: (typeof KINDS)[number];
  readonly errno: number;
  /** Host end of the pod, for what is a pod's. */
  readonly interface: string;
}

/** Ids of the sets that any version of the policy had so far. */
const SETS = new WeakMap<World, Set<string>>();

function policyVersion(world: World, version: number): Resource<"KubernetesNetworkPolicy"> {
  const from = [{ podSelector: { matchLabels: { only: `culprit-${version % 2}` } }, namespaceSelector: {} }];
  const policy: Resource<"KubernetesNetworkPolicy"> = {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: POLICY, namespace: NAMESPACE },
    spec: { podSelector: {}, policyTypes: ["Ingress"], ingress: [version === 0 ? {} : { from }] },
  };
  const known = SETS.get(world) ?? new Set();
  for (const id of lowerPolicy(policyOfNetworkPolicy(policy)).sets.keys()) known.add(id);
  SETS.set(world, known);
  return policy;
}

/** Whether the kernel refuses the request. */
export function refuses(world: World, { kind, interface: name }: Refused, request: FakeRequest): boolean {
  const { subsystem, does, object } = request;
  if (subsystem !== "nftables" || does !== "add") return false;
  const isOfSet = (what: string): boolean =>
    [...(SETS.get(world) ?? [])].some((id) => object.startsWith(`${what} ${id}`));
  switch (kind) {
    case "chain":
      return object.startsWith("chain ") && object.includes(POLICY);
    case "rules":
      return object.startsWith("rules of ") && object.includes(POLICY);
    case "set":
    case "element":
      return isOfSet(kind);
    case "pod's chain":
      return object.startsWith("chain ") && object.includes(name.slice("cali".length));
    case "pod's rules":
      return object.startsWith("rules of ") && object.includes(name.slice("cali".length));
    case "pod's dispatch":
      return object.startsWith(`element from-endpoint ${hexOf(name)}`);
  }
}

function hexOf(name: string): string {
  return bytesToHex(new TextEncoder().encode(name));
}

/** The policy, and pods of its namespace and of another, around the moment at which the kernel begins to refuse. */
export async function refuseRows(world: World, runtime: Runtime): Promise<void> {
  const { choices } = world;
  const { node } = runtime;
  if (node.refused !== undefined) return;
  const kind = choices.pick(KINDS);
  const errno = choices.pick([EBUSY, ENOMEM, EEXIST]);
  const labels = { only: `culprit-${choices.below(2)}` };
  const pod = await world.createPod(runtime, NAMESPACE, labels);
  if (choices.chance(50)) await world.clock.advance(GAP_MS);
  const own = hostInterfaceName(NAMESPACE, pod.name);
  world.say(
    `${node.name} kernel refuses (errno ${errno}) the ${kind} of policy ${formatName(KEY)} or pod ${formatName(pod)}`,
  );
  node.refused = { kind, errno, interface: own };
  for (let steps = 1 + choices.below(3); steps > 0; steps--) {
    const found = await world.store.get(KEY);
    await world.unlessRefused(async () => {
      if (found === undefined) await world.store.create("KubernetesNetworkPolicy", policyVersion(world, 0));
      else
        await world.store.update("KubernetesNetworkPolicy", {
          ...policyVersion(world, 1 + choices.below(2)),
          metadata: found.metadata,
        });
    });
    await world.clock.advance(choices.below(GAP_MS));
  }
  await world.createPod(runtime, NAMESPACES[0]);
}

/** Long after the refusals began, and with nothing else wrong: nobody else waits, all else is as wanted, culprits are closed and say so. */
export async function checkInnocents(world: World): Promise<void> {
  if (world.violation !== undefined || !world.nodes.some(({ refused }) => refused !== undefined)) return;
  await world.clock.advance(INNOCENTS_MS);
  for (const runtime of world.runtimes) {
    const { node, pods } = runtime;
    const { refused } = node;
    if (refused === undefined) continue;
    const isCulprit = (key: Key<"Pod">): boolean =>
      refused.kind.startsWith("pod")
        ? hostInterfaceName(key.namespace ?? "", key.name) === refused.interface
        : key.namespace === NAMESPACE;
    for (const { key, leaving, sandbox } of pods.values())
      if (!isCulprit(key) && !leaving && sandbox?.addresses === undefined)
        world.violate(
          `pod ${formatName(key)} on ${node.name} waits, because the kernel refuses the ${refused.kind} of another`,
        );
    const live = runtime.live().filter(({ pod }) => isCulprit(pod));
    // Those that ADD has not come for yet wait as well.
    const waiting = [...pods.values()].filter(({ key }) => isCulprit(key)).map(({ key }) => key);
    for (const wrong of await checkCulprits(world, node, live, waiting)) world.violate(wrong);
  }
}

async function checkCulprits(
  world: World,
  node: SimNode,
  culprits: readonly Sandbox[],
  waiting: readonly Key<"Pod">[],
): Promise<string[]> {
  const wrong: string[] = [];
  const nameOfPod = (pod: Key<"Pod">): string => hostInterfaceName(pod.namespace ?? "", pod.name);
  const names = culprits.map(({ pod }) => nameOfPod(pod));
  const sets = [...(SETS.get(world) ?? [])];
  const isOfPolicy = (id: string): boolean =>
    (id.startsWith(chainId("")) && id.includes(POLICY)) ||
    sets.some((set) => id.startsWith(setId(set)) || id.startsWith(`element ${set}`));
  const nameOf = (id: string): string | undefined =>
    [...names, ...waiting.map(nameOfPod), node.refused?.interface ?? ""].find(
      (name) => id.includes(name.slice("cali".length)) || id.includes(hexOf(name)),
    );
  const differences = await tableDifferences(world, node);
  for (const { id, text } of differences)
    if (!isOfPolicy(id) && nameOf(id) === undefined) wrong.push(`${text}, because the kernel refuses another's`);
  const ofPolicy = differences.some(({ id }) => isOfPolicy(id));
  const status = (await (await node.sockets.request("/status"))?.json()) as
    | { readonly refused: readonly string[] }
    | undefined;
  if (status === undefined) return [...wrong, `${node.name} does not say what is refused`];
  const says = (start: string): boolean => status.refused.some((line) => line.startsWith(start));
  if (
    ofPolicy &&
    node.refused?.kind.startsWith("pod") === false &&
    !status.refused.some((line) => line.includes(" is failed: "))
  )
    wrong.push(`${node.name}: something of policy ${formatName(KEY)} is refused, and /status does not say so`);
  for (const [i, { pod, addresses }] of culprits.entries()) {
    const name = names[i] ?? "";
    const isOwn = node.refused?.kind.startsWith("pod") === true;
    if (isOwn ? !differences.some(({ id }) => nameOf(id) === name) : !ofPolicy) continue;
    if (!says(`pod ${formatName(pod)} is `))
      wrong.push(`${node.name}: pod ${formatName(pod)} is closed, and /status does not say so`);
    for (const text of addresses ?? []) {
      const addr = unwrap(parseAddr(text));
      const packet = { input: UPLINK, output: name, source: WORLD[familyOf(addr)], destination: addr };
      const table = node.kernel.root.nftables.tables.find((one) => one.name === "calico");
      if (fateOf(table, "forward", packet) !== "drop")
        wrong.push(
          `${node.name}: pod ${formatName(pod)} is not closed, though its policy is refused: ${text} gets a packet`,
        );
    }
  }
  return wrong;
}
