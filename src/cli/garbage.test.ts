/** For any content of a manifest, `why` answers or reports an error in it; it never fails with a bug. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { InputError } from "./inventory.ts";
import { Graph } from "../calc/graph.ts";
import { type Kind, KINDS } from "../model/kind.ts";
import { rowsFor } from "../model/convert/rows.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import type { JsonValue } from "../model/schema/json.ts";
import { withoutNullFields } from "../model/schema/normalize.ts";
import type { Update } from "../model/update.ts";
import { runWhy } from "./why.ts";

type Json = null | boolean | number | string | Json[] | { [field: string]: Json };

const META = { name: "a", namespace: "shop", labels: { app: "a" } };
const POD_SPEC = {
  nodeName: "n1",
  hostNetwork: false,
  containers: [{ name: "c", ports: [{ name: "http", containerPort: 80, hostPort: 9000, protocol: "TCP" }] }],
  initContainers: [],
};
const OBJECTS: Json[] = [
  { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop", labels: { team: "x" } } },
  {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: "n1" },
    status: { addresses: [{ type: "InternalIP", address: "192.0.2.1" }] },
  },
  { apiVersion: "v1", kind: "ServiceAccount", metadata: META },
  {
    apiVersion: "v1",
    kind: "Pod",
    metadata: META,
    spec: POD_SPEC,
    status: { phase: "Running", podIPs: [{ ip: "10.65.0.1" }], conditions: [{ type: "Ready", status: "True" }] },
  },
  {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { ...META, name: "b", ownerReferences: [{ kind: "ReplicaSet", name: "x" }] },
    spec: {},
    status: {},
  },
  {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { ...META, name: "d" },
    spec: { template: { metadata: { labels: { app: "d" } }, spec: POD_SPEC } },
  },
  {
    apiVersion: "batch/v1",
    kind: "CronJob",
    metadata: { ...META, name: "e" },
    spec: { jobTemplate: { spec: { template: { spec: {} } } } },
  },
  {
    apiVersion: "v1",
    kind: "Service",
    metadata: { ...META, name: "s" },
    spec: {
      clusterIP: "10.96.0.1",
      clusterIPs: ["10.96.0.1"],
      selector: { app: "a" },
      ports: [{ port: 80, targetPort: "http", nodePort: 30080 }],
    },
    status: { loadBalancer: { ingress: [{ ip: "203.0.113.1" }] } },
  },
  {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: "t", namespace: "shop", labels: { "kubernetes.io/service-name": "t" } },
    ports: [{ port: 80 }],
    endpoints: [{ addresses: ["10.65.0.1"], conditions: { ready: true }, targetRef: { kind: "Pod", name: "a" } }],
  },
  {
    apiVersion: "v1",
    kind: "Endpoints",
    metadata: { name: "u", namespace: "shop" },
    subsets: [{ ports: [{ port: 80 }], addresses: [{ ip: "10.65.0.1" }] }],
  },
  {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: "p", namespace: "shop" },
    spec: {
      podSelector: { matchLabels: { app: "a" }, matchExpressions: [{ key: "k", operator: "In", values: ["v"] }] },
      policyTypes: ["Ingress"],
      ingress: [
        {
          from: [
            { namespaceSelector: { matchLabels: { team: "x" } } },
            { ipBlock: { cidr: "10.0.0.0/8", except: ["10.1.0.0/16"] } },
          ],
          ports: [
            { port: "http", protocol: "TCP" },
            { port: 80, endPort: 90 },
          ],
        },
      ],
    },
  },
  { apiVersion: "cilium.io/v2", kind: "CiliumNetworkPolicy", metadata: { name: "q", namespace: "other" } },
  { apiVersion: "v1", kind: "List", items: [] },
  {
    apiVersion: "projectcalico.org/v3",
    kind: "NetworkPolicy",
    metadata: { name: "p", namespace: "shop" },
    spec: {
      tier: "t",
      order: 1,
      selector: "app == 'a'",
      types: ["Ingress", "Egress"],
      ingress: [
        {
          action: "Allow",
          protocol: "TCP",
          source: { selector: "has(app)", nets: ["10.0.0.0/8"], services: { name: "s" } },
          destination: { ports: [80, "http", "81:90"] },
        },
        { action: "Deny", protocol: "ICMP", icmp: { type: 8, code: 0 }, notProtocol: 47 },
      ],
      egress: [{ action: "Pass", destination: { services: { name: "s", namespace: "shop" } } }],
    },
  },
  {
    apiVersion: "projectcalico.org/v3",
    kind: "GlobalNetworkPolicy",
    metadata: { name: "g" },
    spec: { namespaceSelector: "team == 'x'", applyOnForward: true, ingress: [{ action: "Log" }] },
  },
  {
    apiVersion: "projectcalico.org/v3",
    kind: "StagedGlobalNetworkPolicy",
    metadata: { name: "g" },
    spec: { stagedAction: "Set", selector: "all()" },
  },
  { apiVersion: "projectcalico.org/v3", kind: "Tier", metadata: { name: "t" }, spec: { order: 5 } },
  {
    apiVersion: "projectcalico.org/v3",
    kind: "GlobalNetworkSet",
    metadata: { name: "n", labels: { app: "a" } },
    spec: { nets: ["10.0.0.0/8"] },
  },
  {
    apiVersion: "crd.projectcalico.org/v1",
    kind: "HostEndpoint",
    metadata: { name: "h", annotations: { "projectcalico.org/metadata": '{"labels":{"app":"a"}}' } },
    spec: {
      node: "n1",
      interfaceName: "eth0",
      expectedIPs: ["192.0.2.1"],
      profiles: ["kns.shop"],
      ports: [{ name: "http", port: 80, protocol: "TCP" }],
    },
  },
  {
    apiVersion: "projectcalico.org/v3",
    kind: "FelixConfiguration",
    metadata: { name: "default" },
    spec: {
      failsafeInboundHostPorts: [{ protocol: "TCP", port: 22, net: "10.0.0.0/8" }],
      defaultEndpointToHostAction: "Drop",
    },
  },
  {
    apiVersion: "policy.networking.k8s.io/v1alpha2",
    kind: "ClusterNetworkPolicy",
    metadata: { name: "c" },
    spec: {
      tier: "Admin",
      priority: 5,
      subject: { namespaces: { matchLabels: { team: "x" } } },
      egress: [
        {
          action: "Deny",
          to: [{ networks: ["10.0.0.0/8"] }],
          protocols: [{ tcp: { destinationPort: { number: 80 } } }],
        },
      ],
    },
  },
];
const JUNK: Json[] = [
  null,
  true,
  0,
  -1,
  70000,
  1.5,
  "",
  "text",
  "{{ x }}",
  "10.0.0.1",
  [],
  {},
  [null],
  [{}],
  ["x"],
  { x: null },
  { x: 1 },
  "__proto__",
];

/** Paths to everything in a value. */
function paths(value: Json, path: readonly string[] = []): (readonly string[])[] {
  const below =
    typeof value === "object" && value !== null
      ? Object.entries(value).flatMap(([name, item]) => paths(item, [...path, name]))
      : [];
  return [path, ...below];
}

function replaced(value: Json, [first, ...rest]: readonly string[], junk: Json): Json {
  if (first === undefined) return junk;
  if (Array.isArray(value))
    return value.map((item, index) => (String(index) === first ? replaced(item, rest, junk) : item));
  return typeof value === "object" && value !== null
    ? { ...value, [first]: replaced(value[first] ?? null, rest, junk) }
    : value;
}

const PLACES = OBJECTS.flatMap((object, index) => paths(object).map((path) => ({ index, path })));
const QUESTIONS = [
  ["shop/", "shop/"],
  ["a", "d"],
  ["192.0.2.1", "svc/s:80"],
  ["e", "10.96.0.1:80"],
  ["203.0.113.1", "192.0.2.1:30080"],
  ["svc/s", "deploy/d"],
  ["host/n1", "a"],
  ["d", "host/n1:22"],
  ["b", "a/icmp"],
] as const;

/** GARBAGE_SEED=7 tries others. */
const SEED = Number(process.env["GARBAGE_SEED"] ?? "20261130");

test("junk in any one place", async () => {
  const place = fc.record({
    at: fc.constantFrom(...PLACES),
    junk: fc.constantFrom(...JUNK),
    question: fc.constantFrom(...QUESTIONS),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(place, { minLength: 1, maxLength: 2 }), async (changes) => {
      const objects = OBJECTS.map((object, index) =>
        changes
          .filter(({ at }) => at.index === index)
          .reduce((before, { at, junk }) => replaced(before, at.path, junk), object),
      );
      const text = objects.map((object) => `---\n${JSON.stringify(object)}\n`).join("");
      const [source, destination] = changes[0]?.question ?? QUESTIONS[0];
      const stdin = async (): Promise<Uint8Array> => new TextEncoder().encode(text);
      const result = await runWhy({
        source,
        destination,
        namespace: "shop",
        output: "text",
        files: ["-"],
        recursive: false,
        stdin,
        kubeconfig: undefined,
        environment: {},
      }).catch((error: unknown) => error);
      if (!(result instanceof InputError)) expect(result).toHaveProperty("code");
    }),
    { numRuns: 500, seed: SEED },
  );
}, 120_000);

/** What a datastore without a schema, such as etcd, may hold of Calico's kinds. */
const STORED = PLACES.filter(({ index, path }) => {
  const { apiVersion } = OBJECTS[index] as { readonly apiVersion: string };
  return path[0] === "spec" && apiVersion === "projectcalico.org/v3";
});

test("junk in two places of one object does not stop a daemon", () => {
  const change = fc.record({
    place: fc.constantFrom(...STORED),
    junk: fc.constantFrom(...JUNK),
    more: fc.nat(),
    other: fc.constantFrom(...JUNK),
  });
  fc.assert(
    fc.property(change, ({ place: { index, path }, junk, more, other }) => {
      const own = STORED.filter((place) => place.index === index);
      const second = own[more % own.length]?.path ?? path;
      const graph = new Graph({ node: "n1" });
      const reduce = rowsFor("n1");
      OBJECTS.forEach((object, at) => {
        const changed = at === index ? replaced(replaced(object, path, junk), second, other) : object;
        const value = withoutNullFields(changed as JsonValue) as Json;
        const kind = kindOf(value);
        if (kind === undefined) return;
        const resource = value as unknown as Resource;
        graph.update([reduce({ kind, key: keyOf(kind, resource), value: resource } as Update)]);
      });
      graph.flush();
    }),
    { numRuns: 3_000, seed: SEED },
  );
}, 120_000);

function kindOf(object: Json): Kind | undefined {
  const { apiVersion, kind } = object as { readonly apiVersion: string; readonly kind: string };
  return (Object.keys(KINDS) as Kind[]).find(
    (each) => KINDS[each].apiVersion === apiVersion && KINDS[each].apiKind === kind,
  );
}
