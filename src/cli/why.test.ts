import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type CommandResult, runWhy } from "./why.ts";

const POD = (name: string, labels: string, status: string, spec = "nodeName: n1"): string => `
---
apiVersion: v1
kind: Pod
metadata: {name: ${name}, namespace: shop, labels: {${labels}}}
spec: {${spec}, containers: [{name: c, ports: [{name: redis, containerPort: 6379}]}]}
status: ${status}`;

const CLUSTER = [
  POD("client", "app: client", "{phase: Running, podIPs: [{ip: 10.65.0.3}, {ip: 'fd00::3'}]}"),
  POD("front", "app: front", "{phase: Running, podIPs: [{ip: 10.65.0.4}, {ip: 'fd00::4'}]}"),
  POD("redis", "app: redis", "{phase: Running, podIPs: [{ip: 10.65.0.9}, {ip: 'fd00::9'}]}"),
  POD("only4", "app: front", "{phase: Running, podIPs: [{ip: 10.65.0.20}]}"),
  POD("only6", "app: other", "{phase: Running, podIPs: [{ip: 'fd00::20'}]}"),
  POD("done", "app: job", "{phase: Succeeded, podIPs: [{ip: 10.65.0.8}]}"),
  POD("agent", "app: agent", "{phase: Running, podIPs: [{ip: 192.0.2.1}]}", "nodeName: n1, hostNetwork: true"),
  `
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}
- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: ignored}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: front-only, namespace: shop}
spec:
  podSelector: {matchLabels: {app: redis}}
  ingress:
  - from: [{ipBlock: {cidr: 10.65.0.3/32}}]
    ports: [{port: 22}]
  - from: [{podSelector: {matchLabels: {app: front}}}]
    ports: [{port: redis}]
`,
].join("\n");

let directory = "";

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "why-"));
  await writeFile(join(directory, "cluster.yaml"), CLUSTER);
});

afterAll(() => rm(directory, { recursive: true }));

async function why(source: string, destination: string, output: "text" | "json" = "text"): Promise<CommandResult> {
  return runWhy({
    source,
    destination,
    namespace: "shop",
    output,
    files: [directory],
    recursive: false,
    stdin: async () => new Uint8Array(),
    kubeconfig: undefined,
    environment: {},
  });
}

test("denied, both families at once, with the policy that decided", async () => {
  expect(await why("shop/client", "redis:6379/tcp")).toEqual({
    code: 1,
    error: "",
    out: `shop/client → shop/redis: denied
  10.65.0.3 → 10.65.0.9
  fd00::3 → fd00::9
    6379/tcp: denied
      leaving shop/client: allowed: no policy selects it for egress
      entering shop/redis: denied: no ingress rule of NetworkPolicy shop/front-only, which selects it, matched
`,
  });
});

test("allowed, with the rule as the operator numbers it", async () => {
  const { code, out } = await why("front", "shop/redis:6379");
  expect(code).toBe(0);
  expect(out).toContain(
    "entering shop/redis: allowed by ingress rule 2 of NetworkPolicy shop/front-only (spec.ingress[1])",
  );
});

test("a difference between the families is reported", async () => {
  const { code, out } = await why("client", "redis:22");
  expect(code).toBe(1);
  expect(out).toStartWith("shop/client → shop/redis: partly denied\n");
  expect(out).toEndWith("  IPv4 and IPv6 differ\n");
});

test("without a port all traffic is sorted by its fate", async () => {
  const { code, out } = await why("front", "redis");
  expect(code).toBe(1);
  expect(out).toContain("    6379/tcp: allowed\n");
  expect(out).toContain("    0-6378/tcp, 6380-65535/tcp, udp, sctp, protocols without ports: denied\n");
  expect((await why("redis", "front")).out).toContain("    all traffic: allowed\n");
});

test("addresses of both families, with and without port", async () => {
  expect((await why("10.65.0.4", "10.65.0.9:6379")).code).toBe(0);
  expect((await why("[fd00::4]", "[fd00::9]:6379/tcp")).code).toBe(0);
  expect((await why("fd00::3", "fd00::9")).code).toBe(1);
  expect((await why("198.51.100.1", "redis:6379")).out).toContain(
    "leaving 198.51.100.1: allowed: not a pod with a network of its own, so no policy applies here\n",
  );
});

test("the pod's own node, and a pod on its network", async () => {
  expect((await why("192.0.2.1", "redis:6379")).out).toContain(
    "entering shop/redis: allowed: comes from the pod's own node\n",
  );
  const { code, out } = await why("agent", "redis:6379");
  expect(code).toBe(0);
  expect(out).toStartWith("shop/agent (on the network of node n1) → shop/redis: allowed\n");
});

test("no family in common is denied", async () => {
  expect(await why("only4", "only6:80")).toEqual({
    code: 1,
    error: "",
    out: "shop/only4 → shop/only6: denied: they have no address family in common\n",
  });
});

test("a namespace is summarised", async () => {
  const { code, out } = await why("shop/", "redis:6379");
  expect(code).toBe(1);
  expect(out).toContain("2 of 4 pairs\n  6379/tcp: denied\n");
  expect(out).toContain("    shop/client → shop/redis\n    shop/only6 → shop/redis (IPv6)\n");
  expect(out).toContain("    shop/front → shop/redis\n    shop/only4 → shop/redis (IPv4)\n");
});

test("json", async () => {
  const { code, out } = await why("client", "redis:6379", "json");
  expect(code).toBe(1);
  const answer = JSON.parse(out);
  expect(answer.allowed).toBe(false);
  expect(answer.pairs[0].answers.map((each: { destination: string }) => each.destination)).toEqual([
    "10.65.0.9",
    "fd00::9",
  ]);
  expect(answer.pairs[0].answers[0].ingress).toEqual({
    action: "deny",
    reason: {
      type: "no-rule-matched",
      tier: "default",
      policies: [{ kind: "KubernetesNetworkPolicy", namespace: "shop", name: "front-only" }],
      direction: "ingress",
    },
    text: "denied: no ingress rule of NetworkPolicy shop/front-only, which selects it, matched",
  });
});

for (const [source, destination, message] of [
  [
    "client",
    "redis:http",
    'Cannot parse destination "redis:http": port is "http", must be 1 to 65535, then /tcp, /udp or /sctp if wanted',
  ],
  ["client", "redis:0", "must be 1 to 65535"],
  ["client", "redis:80/icmp", 'protocol is "icmp", must be tcp, udp or sctp'],
  [
    "a/b/c",
    "redis",
    'Cannot parse source "a/b/c": must be NAMESPACE/POD, POD, NAMESPACE/ (all its pods), KIND/NAME, NAMESPACE/KIND/NAME, host/NODE or an address',
  ],
  ["client", "", 'Cannot parse destination ""'],
  ["nobody", "redis", 'Cannot find pod "shop/nobody"'],
  ["done", "redis", 'Cannot find an address of pod "shop/done": it has finished (phase Succeeded)'],
  ["empty/", "redis", 'Cannot find a pod with an address in namespace "empty"'],
] as const) {
  test(`${source} → ${destination} is an error`, () => expect(why(source, destination)).rejects.toThrow(message));
}

for (const [what, text, message] of [
  ["a key twice", "a: 1\n---\nkind: Pod\nkind: Pod\n", 'other.yaml:4: key "kind" is given twice'],
  [
    "a key twice in JSON",
    '{"apiVersion": "v1",\n"kind": "Pod", "kind": "Pod"}',
    'other.yaml:2: key "kind" is given twice',
  ],
  ["no apiVersion", "kind: Pod\n", "other.yaml:1: apiVersion and kind must be given"],
  ["no name", "# first\n---\n{apiVersion: v1, kind: Pod}\n", "other.yaml:3: metadata.name of the Pod must be given"],
  [
    "a name that YAML takes for a boolean",
    "{apiVersion: v1, kind: Pod, metadata: {name: on}}\n",
    "other.yaml:1: Pod: metadata.name: is true, must be text; put it in quotes",
  ],
  ["the same object twice", CLUSTER, "Pod shop/client is also in"],
  [
    "a pod that cannot be read",
    "{apiVersion: v1, kind: Pod, metadata: {name: x, labels: {a: yes}}}\n",
    'Pod: metadata.labels["a"]: is true, must be text',
  ],
  [
    "a controller without template",
    "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}}\n",
    "the Deployment has no template of pods",
  ],
  [
    "what Helm has yet to fill in",
    "{apiVersion: v1, kind: Pod, metadata: {name: '{{ .Release.Name }}'}}\n",
    'use "helm template',
  ],
  [
    "what Helm has yet to fill in, unreadable",
    "{{- if .Values.on }}\napiVersion: v1\n{{ end }}\n",
    'use "helm template',
  ],
  [
    "a kustomize source",
    "{apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization}\n",
    'use "kubectl kustomize',
  ],
] as const) {
  test(`a file with ${what} is refused, naming file and line`, async () => {
    const other = join(directory, "other.yaml");
    await writeFile(other, text);
    try {
      const error = await why("client", "redis").catch((reason: unknown) => String(reason));
      expect(error).toContain(message);
      expect(error).toContain(other);
    } finally {
      await rm(other);
    }
  });
}

test("an invalid policy is a warning, and explained", async () => {
  const other = join(directory, "other.yaml");
  await writeFile(
    other,
    "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: bad, namespace: shop}, spec: {podSelector: {matchLabels: {app: front}}, ingress: [{ports: [{port: 0}]}]}}\n",
  );
  try {
    const { code, out, error } = await why("client", "front:80");
    expect(code).toBe(1);
    expect(error).toBe(
      "warning: NetworkPolicy shop/bad is invalid and allows nothing: spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive\n",
    );
    expect(out).toContain("; shop/bad is invalid and allows nothing\n");
    const { out: summary } = await why("shop/", "front:80");
    expect(summary).not.toContain("must be between 1 and 65535");
    expect(JSON.parse((await why("shop/", "front:80", "json")).out).warnings).toEqual([
      error.slice("warning: ".length, -1),
    ]);
  } finally {
    await rm(other);
  }
});
