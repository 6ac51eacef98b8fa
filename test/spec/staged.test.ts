/** POL-53: staged policies; the trap is one for implementations. */
import { expect, test } from "bun:test";
import type { Resource } from "../../src/model/resource.ts";
import { type Addr, parseAddr } from "../../src/net/addr.ts";
import { TCP } from "../../src/net/protocol.ts";
import { unwrap } from "../../src/lib/result.ts";
import type { ClusterResources } from "../../src/semantics/cluster.ts";
import { journey } from "../../src/semantics/journey.ts";
import { clusterOf } from "../../src/semantics/read-cluster.ts";
import { type StagedKind, type StagedPolicy, withStaged } from "../../src/semantics/staged.ts";

const addr = (text: string): Addr => unwrap(parseAddr(text));
const POD: Resource<"Pod"> = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { namespace: "alpha", name: "web", labels: { app: "web" } },
  spec: { nodeName: "n1", containers: [] },
  status: { podIPs: [{ ip: "10.0.0.1" }, { ip: "fd00::1" }] },
};

function enforced(name: string, spec: object): Resource<"NetworkPolicy"> {
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "NetworkPolicy",
    metadata: { namespace: "alpha", name },
    spec,
  } as Resource<"NetworkPolicy">;
}

function staged(kind: StagedKind, name: string, spec: object): StagedPolicy {
  const namespace = kind === "StagedGlobalNetworkPolicy" ? {} : { namespace: "alpha" };
  const object = { apiVersion: "projectcalico.org/v3", kind, metadata: { ...namespace, name }, spec };
  return { kind, object: object as unknown as Resource<StagedKind> };
}

/** What happens to a connection to the pod, as it is and with the staged policies enforced; both families agree. */
function verdicts(policies: readonly Resource<"NetworkPolicy">[], pending: readonly StagedPolicy[]): string[] {
  const resources: ClusterResources = { pods: [POD], namespaces: [], networkPolicies: [], calicoPolicies: policies };
  return [resources, withStaged(resources, pending)].map((each) => {
    const actions = [
      ["198.51.100.1", "10.0.0.1"],
      ["2001:db8::1", "fd00::1"],
    ].map(([source = "", destination = ""]) => {
      const packet = {
        source: addr(source),
        destination: addr(destination),
        protocol: TCP,
        sourcePort: 1,
        destinationPort: 80,
      } as const;
      return journey(clusterOf(each), packet, { source: undefined, destination: undefined }).ingress.action;
    });
    expect(actions[0]).toBe(actions[1]);
    return String(actions[0]);
  });
}

const DENY = { ingress: [{ action: "Deny" }] };
const ALLOW = { ingress: [{ action: "Allow" }] };

test.each([
  [
    "a staged policy counts only where it is taken as enforced",
    [],
    [staged("StagedNetworkPolicy", "p", DENY)],
    "allow deny",
  ],
  [
    "trap 11: so does the end of a tier with nothing else",
    [],
    [staged("StagedNetworkPolicy", "p", { types: ["Ingress"] })],
    "allow deny",
  ],
  ["of the cluster's scope", [], [staged("StagedGlobalNetworkPolicy", "p", DENY)], "allow deny"],
  [
    "of Kubernetes' form",
    [],
    [staged("StagedKubernetesNetworkPolicy", "p", { podSelector: {}, policyTypes: ["Ingress"] })],
    "allow deny",
  ],
  [
    "it takes the place of what is enforced under its name",
    [enforced("p", DENY)],
    [staged("StagedNetworkPolicy", "p", ALLOW)],
    "deny allow",
  ],
  ["and of nothing else", [enforced("p", DENY)], [staged("StagedNetworkPolicy", "q", ALLOW)], "deny deny"],
  [
    "nor of another kind",
    [enforced("p", { ...DENY, order: 1 })],
    [staged("StagedGlobalNetworkPolicy", "p", ALLOW)],
    "deny deny",
  ],
  [
    "Delete deletes it",
    [enforced("p", DENY)],
    [staged("StagedNetworkPolicy", "p", { stagedAction: "Delete" })],
    "deny allow",
  ],
  ["Delete of nothing", [], [staged("StagedNetworkPolicy", "p", { stagedAction: "Delete" })], "allow allow"],
  ["Learn is Set", [], [staged("StagedNetworkPolicy", "p", { ...DENY, stagedAction: "Learn" })], "allow deny"],
  ["Ignore says nothing", [], [staged("StagedNetworkPolicy", "p", { ...DENY, stagedAction: "Ignore" })], "allow allow"],
] as const)("%s", (_, policies, pending, words) => {
  expect(verdicts(policies, pending).join(" ")).toBe(words);
});
