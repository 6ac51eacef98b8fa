/** Explain evaluates each question in a part of the cluster; the whole cluster gives the same verdicts. */
import { describe, expect, test } from "bun:test";
import type { Resource } from "../model/resource.ts";
import { familyOf, parseAddr } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import { unwrap } from "../lib/result.ts";
import { clusterOf } from "../semantics/read-cluster.ts";
import { journey } from "../semantics/journey.ts";
import { explainer, type Party } from "./explain.ts";
import { hasPorts, representative } from "./traffic.ts";

function pod(name: string, labels: Record<string, string>, index: number, namespace = "shop"): Resource<"Pod"> {
  const podIPs = [{ ip: `10.65.0.${index}` }, { ip: `fd00::${index}` }];
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace, labels },
    spec: {
      nodeName: `n${index % 2}`,
      containers: [{ name: "c", ports: [{ name: "http", containerPort: 8000 + index }] }],
    },
    status: { podIPs },
  };
}

function policy(name: string, spec: object, namespace = "shop"): Resource<"KubernetesNetworkPolicy"> {
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name, namespace },
    spec: spec as NonNullable<Resource<"KubernetesNetworkPolicy">["spec"]>,
  };
}

const OPEN = { ingress: [{}] };
const RESOURCES = {
  pods: [
    pod("one", { app: "one", both: "" }, 1),
    pod("two", { app: "two", both: "" }, 2),
    pod("three", { app: "three" }, 3),
    pod("far", { app: "one" }, 4, "other"),
  ],
  namespaces: [
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } },
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "other", labels: { team: "x" } } },
  ],
  nodes: [
    {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: "n1" },
      status: { addresses: [{ type: "InternalIP", address: "192.0.2.1" }] },
    },
  ],
  networkPolicies: [
    policy("z-both", { podSelector: { matchLabels: { both: "" } }, ...OPEN }),
    policy("a-two", { podSelector: { matchLabels: { app: "two" } }, ...OPEN }),
    policy("m-http", {
      podSelector: { matchLabels: { app: "three" } },
      ingress: [
        { from: [{ namespaceSelector: { matchLabels: { team: "x" } } }], ports: [{ port: "http" }] },
        { from: [{ ipBlock: { cidr: "10.65.0.0/30" } }], ports: [{ port: 53, protocol: "UDP" }] },
      ],
    }),
    policy("e-one", {
      podSelector: { matchLabels: { app: "one" } },
      policyTypes: ["Egress"],
      egress: [{ ports: [{ port: 8002, endPort: 8003 }] }],
    }),
    policy("invalid", { podSelector: { matchLabels: { app: "one" } }, ingress: [{ ports: [{ port: 0 }] }] }, "other"),
  ],
};
const CLUSTER = clusterOf(RESOURCES);
const PARTIES: Party[] = [
  ...CLUSTER.pods.map(({ key, addresses }) => ({ label: key.name, pod: key, addresses })),
  { label: "node", pod: undefined, addresses: [unwrap(parseAddr("192.0.2.1"))] },
];

test("the rule that decides is the first in the order of the cluster, whichever pod the policy was selected for", () => {
  const [one, two] = [PARTIES[0] as Party, PARTIES[1] as Party];
  const [answer] = explainer(CLUSTER)({
    source: one,
    destination: two,
    traffic: { protocol: 6, from: 8002, to: 8002 },
  } as Parameters<ReturnType<typeof explainer>>[0]);
  expect(answer?.ingress.reason).toMatchObject({ type: "rule", policy: { name: "a-two" } });
});

test("every class of traffic between every two parties has the verdict that the whole cluster gives each of its ends", () => {
  const explain = explainer(CLUSTER);
  let asked = 0;
  for (const source of PARTIES) {
    for (const destination of PARTIES) {
      for (const answer of explain({ source, destination, traffic: undefined })) {
        for (const traffic of answer.traffic) {
          const ports = hasPorts(traffic) ? [traffic.from, traffic.to] : [undefined];
          for (const destinationPort of ports) {
            const packet: FlowPacket = {
              source: answer.source,
              destination: answer.destination,
              ...representative(traffic, familyOf(answer.source)),
              destinationPort,
            };
            const { egress, ingress } = journey(CLUSTER, packet, { source: source.pod, destination: destination.pod });
            expect({ egress: answer.egress, ingress: answer.ingress }).toEqual({ egress, ingress });
            asked++;
          }
        }
      }
    }
  }
  expect(asked).toBeGreaterThan(450);
});

describe("a difference in a single respect is distinguished", () => {
  /** Pods of the same labels and ports, the first on n1, asked one after the other. */
  function allowed(
    nodes: readonly string[],
    spec: object,
    pairs: readonly (readonly [string, string])[],
  ): (boolean | undefined)[] {
    const twins = nodes
      .map((nodeName, index) => pod(`twin${index}`, {}, index + 1))
      .map((each, index) => ({
        ...each,
        spec: { nodeName: nodes[index] ?? "", containers: [{ name: "c" }] },
      }));
    const cluster = clusterOf({
      ...RESOURCES,
      pods: twins,
      networkPolicies: [policy("one", { podSelector: {}, ...spec })],
    });
    const explain = explainer(cluster);
    const party = (addr: string): Party => ({ label: addr, pod: undefined, addresses: [unwrap(parseAddr(addr))] });
    return pairs.map(
      ([source, destination]) =>
        explain({ source: party(source), destination: party(destination), traffic: undefined })[0]?.allowed,
    );
  }

  test("the node of a pod", () => {
    expect(
      allowed(["n1", "n2"], { policyTypes: ["Ingress"] }, [
        ["192.0.2.1", "10.65.0.1"],
        ["192.0.2.1", "10.65.0.2"],
      ]),
    ).toEqual([true, false]);
  });

  test("a node's address", () => {
    expect(
      allowed(["n1"], { policyTypes: ["Ingress"] }, [
        ["192.0.2.1", "10.65.0.1"],
        ["192.0.2.9", "10.65.0.1"],
      ]),
    ).toEqual([true, false]);
  });

  test.each([
    ["of the pod", "two", { podSelector: { matchLabels: { app: "one" } } }],
    [
      "of the pod, by an expression",
      "two",
      { podSelector: { matchExpressions: [{ key: "app", operator: "In", values: ["one"] }] } },
    ],
    [
      "of its namespace",
      "far",
      { podSelector: {}, namespaceSelector: { matchExpressions: [{ key: "team", operator: "DoesNotExist" }] } },
    ],
  ])("a label %s", (_, other, peer) => {
    const explain = explainer(
      clusterOf({ ...RESOURCES, networkPolicies: [policy("one", { podSelector: {}, ingress: [{ from: [peer] }] })] }),
    );
    const named = (name: string): Party => PARTIES.find(({ label }) => label === name) as Party;
    const allowed = (source: string): boolean | undefined =>
      explain({ source: named(source), destination: named("three"), traffic: undefined })[0]?.allowed;
    expect([allowed("one"), allowed(other)]).toEqual([true, false]);
  });

  test("a block", () => {
    const spec = { ingress: [{ from: [{ ipBlock: { cidr: "10.65.0.1/32" } }] }] };
    expect(
      allowed(["n1", "n1", "n1"], spec, [
        ["10.65.0.1", "10.65.0.3"],
        ["10.65.0.2", "10.65.0.3"],
      ]),
    ).toEqual([true, false]);
  });
});

test("pods that differ in labels for which nobody asks, and in their nodes, are evaluated once", () => {
  const twins = ["a", "b"].map((only, index) => pod(only, { app: "two", both: "", only }, 20 + index));
  const cluster = clusterOf({
    ...RESOURCES,
    pods: [
      ...RESOURCES.pods,
      ...twins.map((each) => ({ ...each, spec: { ...each.spec, containers: [{ name: "c" }] } })),
    ],
  });
  const explainTwins = explainer(cluster);
  const answersTo = (name: string) => {
    const { key, addresses } = cluster.pods.find((each) => each.key.name === name) ?? { key: undefined, addresses: [] };
    return explainTwins({
      source: PARTIES[0] as Party,
      destination: { label: name, pod: key, addresses },
      traffic: undefined,
    });
  };
  const [first, second] = [answersTo("a"), answersTo("b")];
  expect(first.length).toBeGreaterThan(2);
  // The very same lists, not equal ones.
  expect(second.map(({ traffic }) => traffic).every((traffic, i) => traffic === first[i]?.traffic)).toBe(true);
});
