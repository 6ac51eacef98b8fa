/** What `why` makes of manifests: templates, Services, what is not known and what is not understood. */
import { describe, expect, test } from "bun:test";
import { type CommandResult, runWhy } from "./why.ts";

function why(manifests: string, source: string, destination: string, output: "text" | "json" = "text"): Promise<CommandResult> {
  const stdin = async (): Promise<Uint8Array> => new TextEncoder().encode(manifests);
  return runWhy({ source, destination, namespace: "shop", output, files: ["-"], recursive: false, stdin, kubeconfig: undefined, environment: {} });
}

const NAMESPACE = "---\n{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n";

function deployment(name: string, more = "", kind = "Deployment"): string {
  const apiVersion = kind.endsWith("Job") ? "batch/v1" : kind === "ReplicationController" ? "v1" : "apps/v1";
  const template = `{metadata: {labels: {app: ${name}}}, spec: {${more} containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}}`;
  const spec = kind === "CronJob" ? `{jobTemplate: {spec: {template: ${template}}}}` : `{template: ${template}}`;
  return `---\n{apiVersion: ${apiVersion}, kind: ${kind}, metadata: {name: ${name}, namespace: shop}, spec: ${spec}}\n`;
}

function policy(name: string, spec: string): string {
  return `---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: ${name}, namespace: shop}, spec: ${spec}}\n`;
}

function pod(name: string, addresses: string, more = "", node = "n1"): string {
  const ips = addresses.split(" ").map((ip) => `{ip: '${ip}'}`).join(", ");
  return `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${name}, namespace: shop, labels: {app: ${name}}}, spec: {nodeName: ${node}, ${more}}, status: {phase: Running, podIPs: [${ips}]}}\n`;
}

const ONLY_FRONT = policy("only-front", "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: front}}}], ports: [{port: http}]}]}");

describe("templates stand for their pods", () => {
  for (const [kind, word] of [
    ["Deployment", "deploy"],
    ["StatefulSet", "sts"],
    ["DaemonSet", "daemonsets.apps"],
    ["ReplicaSet", "rs"],
    ["ReplicationController", "rc"],
    ["Job", "job"],
    ["CronJob", "cj"],
  ] as const) {
    test(`${kind}, with labels and port names`, async () => {
      const files = NAMESPACE + deployment("web", "", kind) + deployment("front") + deployment("other") + ONLY_FRONT;
      const { code, out } = await why(files, "deploy/front", `${word}/web:8080`);
      expect(out).toStartWith(`shop/deployment/front → shop/${kind.toLowerCase()}/web: allowed\n  (IPv4, not known yet) → (IPv4, not known yet)\n  (IPv6, not known yet) → (IPv6, not known yet)\n    8080/tcp: allowed\n`);
      expect(code).toBe(0);
      expect((await why(files, "front", "shop/web:80")).code).toBe(1);
      expect((await why(files, "shop/other", `shop/${word}/web:8080`)).code).toBe(1);
    });
  }

  test("a pod that does not run yet stands for itself", async () => {
    const files = `${NAMESPACE}---\n{apiVersion: v1, kind: Pod, metadata: {name: front, labels: {app: front}}, spec: {containers: [{name: c}]}}\n${deployment("web")}${ONLY_FRONT}`;
    expect((await why(files, "front", "web:8080")).code).toBe(0);
    expect((await why(files, "shop/", "web:8080")).out).toContain("shop/front → shop/deployment/web");
  });

  test("pods that are there speak for themselves, and a ReplicaSet of a Deployment for nobody", async () => {
    const owned = pod("web-5f-abc", "10.65.0.4").replace("labels: {app: web-5f-abc}", "labels: {app: web, pod-template-hash: 5f}, ownerReferences: [{kind: ReplicaSet, name: web-5f}]");
    const set = deployment("web-5f", "", "ReplicaSet").replace("name: web-5f,", "name: web-5f, ownerReferences: [{kind: Deployment, name: web}],");
    const { out } = await why(NAMESPACE + owned + set + deployment("web") + deployment("front"), "front", "deploy/web:80");
    expect(out).toStartWith("shop/deployment/front → shop/web-5f-abc: allowed\n  (IPv4, not known yet) → 10.65.0.4\n");
    expect((await why(NAMESPACE + owned + set + deployment("web") + deployment("front"), "front", "shop/")).out.split("→").length).toBe(2);
  });

  test("a service account that is not named is the default one", async () => {
    const asks = policy("account", "{podSelector: {matchLabels: {projectcalico.org/serviceaccount: default}}, policyTypes: [Ingress]}");
    expect((await why(NAMESPACE + deployment("web") + deployment("front") + asks, "front", "web:80")).code).toBe(1);
    expect((await why(NAMESPACE + deployment("web", "serviceAccountName: own,") + deployment("front") + asks, "front", "web:80")).code).toBe(0);
  });

  test("a name that is a namespace's too must be written out", async () => {
    const files = `${NAMESPACE + deployment("web") + deployment("front")}---\n{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: deployment}, spec: {}}\n`;
    await expect(why(files, "front", "deploy/web")).rejects.toThrow("write shop/deployment/web or deployment/pod/web");
    expect((await why(files, "front", "deployment/pod/web:80")).out).toStartWith("shop/deployment/front → deployment/web: ");
    await expect(why(NAMESPACE + deployment("web") + deployment("web", "", "Job") + deployment("front"), "front", "web")).rejects.toThrow("more than one thing: write shop/deployment/web or shop/job/web");
  });
});

test("manifests without a policy: that is said", async () => {
  expect(await why(NAMESPACE + deployment("web") + deployment("front"), "front", "web")).toMatchObject({ code: 0, error: "warning: the manifests hold no NetworkPolicy: as far as they say, everything is allowed\n" });
  expect((await why(NAMESPACE + deployment("web") + deployment("front") + ONLY_FRONT, "front", "web:8080")).error).toBe("");
});

test("a namespace of one pod has no pairs: that is said, not passed over", async () => {
  await expect(why(NAMESPACE + deployment("web"), "shop/", "shop/")).rejects.toThrow("Cannot find anybody to ask about");
  await expect(why(NAMESPACE + deployment("web"), "shop/", "web:80")).rejects.toThrow("Cannot find anybody to ask about");
});

describe("what is not known is not taken for certain", () => {
  const WEB = "podSelector: {matchLabels: {app: web}}";

  test("an address in a block", async () => {
    const files = NAMESPACE + deployment("web") + deployment("front") + policy("blocks", `{${WEB}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}, {ipBlock: {cidr: 'fd00::/8'}}]}]}`);
    const { code, out } = await why(files, "front", "web:80");
    expect(code).toBe(2);
    expect(out).toStartWith("shop/deployment/front → shop/deployment/web: not known\n");
    expect(out).toContain("    80/tcp: not known\n      leaving shop/deployment/front: allowed: no policy selects it for egress\n      entering shop/deployment/web: denied: no ingress rule");
    expect(out).toContain("        or, by what is not known: allowed by ingress rule 1 of NetworkPolicy shop/blocks (spec.ingress[0])\n");
    expect(out).toContain("not certain: not known, and it may decide: the address of shop/deployment/front\n");
    const answer = JSON.parse((await why(files, "front", "web:80", "json")).out);
    expect([answer.allowed, answer.certain, answer.pairs[0].answers[0].source]).toEqual([false, false, null]);
  });

  test("an address in the whole of its family is known well enough, and so is one that cannot matter", async () => {
    const all = policy("all", `{${WEB}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}}]}]}`);
    expect((await why(NAMESPACE + deployment("web") + deployment("front") + all, "front", "web:80")).code).toBe(0);
    const closed = policy("closed", `{${WEB}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 81}]}]}`);
    expect((await why(NAMESPACE + deployment("web") + deployment("front") + closed, "front", "web:80")).code).toBe(1);
    const beside = policy("beside", `{${WEB}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}, {from: [{podSelector: {}}]}]}`);
    expect((await why(NAMESPACE + deployment("web") + deployment("front") + beside, "front", "web:80")).code).toBe(0);
  });

  test("an exception of a block", async () => {
    const except = policy("except", `{${WEB}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}]}`);
    expect((await why(NAMESPACE + deployment("web") + deployment("front") + except, "front", "web:80")).code).toBe(2);
    expect((await why(NAMESPACE + deployment("web") + except, "192.0.2.1", "web:80")).code).toBe(0);
    expect((await why(NAMESPACE + deployment("web") + except, "10.1.2.3", "web:80")).code).toBe(1);
  });

  test("labels of a namespace without a Namespace object; its name is known", async () => {
    const asks = (labels: string): string => policy("spaces", `{${WEB}, ingress: [{from: [{namespaceSelector: {matchLabels: {${labels}}}}]}]}`);
    const files = `${NAMESPACE + deployment("web")}---\n{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: team}, spec: {}}\n`;
    const { code, out } = await why(files + asks("team: blue"), "team/a", "web:80");
    expect([code, out]).toEqual([2, expect.stringContaining("the labels of namespace team (there is no Namespace object)")]);
    expect((await why(files + asks("kubernetes.io/metadata.name: team"), "team/a", "web:80")).code).toBe(0);
    expect((await why(files + asks("kubernetes.io/metadata.name: other, team: blue"), "team/a", "web:80")).code).toBe(1);
    const known = "---\n{apiVersion: v1, kind: Namespace, metadata: {name: team, labels: {team: blue}}}\n";
    expect((await why(files + known + asks("team: blue"), "team/a", "web:80")).code).toBe(0);
    expect((await why(files + known + asks("team: red"), "team/a", "web:80")).code).toBe(1);
    expect((await why(files + known + asks("kubernetes.io/metadata.name: team"), "team/a", "web:80")).code).toBe(0);
  });

  test("labels that a controller adds", async () => {
    const later = policy("later", "{podSelector: {matchLabels: {pod-template-hash: abc}}, policyTypes: [Ingress]}");
    const { code, out } = await why(NAMESPACE + deployment("web") + deployment("front") + later, "front", "web:80");
    expect([code, out]).toEqual([2, expect.stringContaining("not certain: NetworkPolicy shop/later asks for the label pod-template-hash")]);
  });

  test("whether a node is the pod's own", async () => {
    const node = "---\n{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}\n";
    const closed = policy("closed", `{${WEB}, policyTypes: [Ingress]}`);
    expect((await why(NAMESPACE + node + deployment("web") + closed, "192.0.2.1", "web:80")).code).toBe(2);
    expect((await why(NAMESPACE + node + deployment("web") + closed, "192.0.2.2", "web:80")).code).toBe(1);
    expect((await why(NAMESPACE + deployment("web") + deployment("agent", "hostNetwork: true,") + closed, "agent", "web:80")).code).toBe(2);
    expect((await why(NAMESPACE + deployment("web") + deployment("agent", "hostNetwork: true,") + closed, "web", "agent:80")).code).toBe(0);
  });

  test("an address that may be some pod's is said to be taken for one outside", async () => {
    const { code, error } = await why(NAMESPACE + deployment("web"), "10.1.2.3", "web:80");
    expect([code, error]).toEqual([0, expect.stringContaining("10.1.2.3 is taken for an address outside the cluster")]);
    expect((await why(NAMESPACE + pod("web", "10.65.0.4") + ONLY_FRONT, "10.1.2.3", "web:80")).error).toBe("");
  });
});

describe("what is not understood is named, and the answer not certain", () => {
  const FILES = NAMESPACE + pod("web", "10.65.0.4") + pod("front", "10.65.0.5");
  for (const [apiVersion, kind, namespace] of [
    ["projectcalico.org/v3", "NetworkPolicy", "shop"],
    ["projectcalico.org/v3", "GlobalNetworkPolicy", ""],
    ["crd.projectcalico.org/v1", "GlobalNetworkPolicy", ""],
    ["policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", ""],
    ["policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy", ""],
    ["policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", ""],
    ["cilium.io/v2", "CiliumNetworkPolicy", "shop"],
    ["cilium.io/v2", "CiliumClusterwideNetworkPolicy", ""],
    ["crd.antrea.io/v1beta1", "NetworkPolicy", "shop"],
    ["crd.antrea.io/v1beta1", "ClusterNetworkPolicy", ""],
    ["security.istio.io/v1", "AuthorizationPolicy", "shop"],
    ["k8s.ovn.org/v1", "EgressFirewall", "shop"],
    ["example.com/v1", "SuperNetworkPolicy", "shop"],
    ["extensions/v1beta1", "NetworkPolicy", "shop"],
    ["networking.k8s.io/v1beta1", "NetworkPolicy", "shop"],
  ] as const) {
    test(`${kind} of ${apiVersion}`, async () => {
      const object = `---\n{apiVersion: ${apiVersion}, kind: ${kind}, metadata: {name: x${namespace === "" ? "" : `, namespace: ${namespace}`}}, spec: {}}\n`;
      const { code, out } = await why(FILES + object, "front", "web:80");
      expect(code).toBe(2);
      expect(out).toStartWith("shop/front → shop/web: allowed, but not certainly\n");
      expect(out).toContain(`not certain: ${kind} (${apiVersion}) ${namespace === "" ? "" : "shop/"}x: not understood`);
      const answer = JSON.parse((await why(FILES + object, "front", "web:80", "json")).out);
      expect([answer.allowed, answer.certain, answer.warnings.length, answer.pairs[0].answers[0].certain]).toEqual([true, false, 1, false]);
    });
  }

  test("a policy of another namespace has no say, but is told", async () => {
    const object = "---\n{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: x, namespace: other}, spec: {}}\n";
    expect(await why(FILES + object, "front", "web:80")).toMatchObject({ code: 0, error: "warning: CiliumNetworkPolicy (cilium.io/v2) other/x: not understood, and may decide otherwise\n" });
  });

  test("what has no effect by itself is told", async () => {
    const object = "---\n{apiVersion: projectcalico.org/v3, kind: StagedNetworkPolicy, metadata: {name: x, namespace: shop}, spec: {}}\n---\n{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {name: z}}\n";
    expect(await why(FILES + object, "front", "web:80")).toMatchObject({ code: 0, error: expect.stringContaining("StagedNetworkPolicy (projectcalico.org/v3) shop/x: has no effect by itself\n") });
  });

  test("a host endpoint matters to nodes alone", async () => {
    const object = "---\n{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: x}, spec: {}}\n";
    expect((await why(FILES + object, "front", "web:80")).code).toBe(0);
    expect((await why(FILES + object, "front", "192.0.2.1:80")).code).toBe(2);
  });
});

describe("addresses that are translated", () => {
  const NODES = "---\n{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: '2001:db8::1'}]}}\n---\n{apiVersion: v1, kind: Node, metadata: {name: n2}, status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}}\n";
  const PORTS = "containers: [{name: c, ports: [{name: http, containerPort: 8080, hostPort: 9000}]}]";
  const service = (more: string, ports = "{port: 80, targetPort: http, nodePort: 30080}"): string => `---\n{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIPs: [10.96.0.7, 'fd96::7'], clusterIP: 10.96.0.7, selector: {app: web}, ports: [${ports}], ${more}}, status: {loadBalancer: {ingress: [{ip: 203.0.113.9}]}}}\n`;
  const FILES = NAMESPACE + NODES + pod("web", "10.65.0.4 fd00::4", PORTS) + pod("front", "10.65.0.5 fd00::5") + pod("other", "10.65.0.6", "", "n2");
  const ALL = FILES + service("externalIPs: [198.51.100.7]") + ONLY_FRONT;

  for (const address of ["10.96.0.7:80", "[fd96::7]:80", "svc/web:80", "shop/svc/web:80", "shop/service/web"]) {
    test(`the cluster address: ${address}`, async () => {
      const { code, out } = await why(ALL, "front", address);
      expect(out).toMatch(/^shop\/front → shop\/web \(through Service shop\/web, .*80\/tcp\): allowed\n/);
      expect(out).toContain("    8080/tcp: allowed\n");
      expect(code).toBe(0);
      expect((await why(ALL, "other", address)).code).toBe(1);
    });
  }

  for (const [what, address] of [
    ["external address", "198.51.100.7:80"],
    ["load balancer's address", "203.0.113.9:80"],
    ["node port", "192.0.2.2:30080"],
  ] as const) {
    test(`${what}: the backend may see a node's address, which policy denies`, async () => {
      const { code, out } = await why(ALL, "front", address);
      expect(out).toStartWith(`shop/front → shop/web (through Service shop/web, ${address.split(":")[0]} `);
      expect(out).toContain("not certain: what comes through Service shop/web");
      expect(code).toBe(2);
    });

    test(`${what}: where the source does not matter, it is certain`, async () => {
      const open = FILES + service("externalIPs: [198.51.100.7]") + policy("open", "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 8080}]}]}");
      expect((await why(open, "front", address)).code).toBe(0);
      expect((await why(open, "203.0.113.77", address)).code).toBe(0);
      const closed = FILES + service("externalIPs: [198.51.100.7]") + policy("closed", "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 81}]}]}");
      expect((await why(closed, "other", address)).code).toBe(2); // its own node may be the one that translates
    });
  }

  test("a Service that keeps the source", async () => {
    const local = FILES + service("externalTrafficPolicy: Local, externalIPs: [198.51.100.7]") + policy("outside", "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]}");
    expect((await why(local, "203.0.113.77", "192.0.2.1:30080")).code).toBe(0);
    expect((await why(local, "203.0.114.77", "192.0.2.1:30080")).code).toBe(1);
    expect((await why(local.replace("externalTrafficPolicy: Local,", ""), "203.0.113.77", "192.0.2.1:30080")).code).toBe(2);
  });

  test("egress may see the address before translation, at another node", async () => {
    const egress = FILES + service("") + policy("egress", "{podSelector: {matchLabels: {app: front}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: web}}}]}]}");
    expect((await why(egress, "front", "10.96.0.7:80")).code).toBe(0);
    expect(await why(egress, "front", "192.0.2.2:30080")).toMatchObject({ code: 2, out: expect.stringContaining("if another node translates that, leaving it is denied") });
  });

  test("a Service with a node's address takes its own ports only", async () => {
    const shared = FILES + service("externalIPs: [192.0.2.1]") + policy("open", "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 8080}]}]}");
    expect((await why(shared, "front", "192.0.2.1:80")).out).toStartWith("shop/front → shop/web (through Service shop/web, 192.0.2.1 80/tcp): allowed\n");
    expect((await why(shared, "front", "192.0.2.1:22")).out).toStartWith("shop/front → 192.0.2.1: allowed\n");
    expect((await why(shared, "192.0.2.1", "web:8080")).code).toBe(0);
  });

  test("a host port", async () => {
    const { code, out } = await why(FILES + policy("open", "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 8080}]}]}"), "other", "192.0.2.1:9000");
    expect(out).toStartWith("shop/other → shop/web (through host port, 192.0.2.1 9000/tcp): allowed\n  10.65.0.6 → 10.65.0.4\n    8080/tcp: allowed\n");
    expect(code).toBe(0);
    expect((await why(FILES, "other", "192.0.2.2:9000")).out).toStartWith("shop/other → 192.0.2.2: allowed\n");
  });

  test("a node without a port: some of its traffic goes elsewhere", async () => {
    expect(await why(ALL, "front", "192.0.2.1")).toMatchObject({ code: 2, out: expect.stringContaining("ask for them by number: 30080/tcp to Service shop/web, 9000/tcp to pod shop/web\n") });
    expect((await why(ALL, "front", "192.0.2.1:22")).code).toBe(0);
  });

  test("the endpoints that a slice lists, whatever the selector says; those not ready get nothing", async () => {
    const slice = (ready: boolean): string => `---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-x, namespace: shop, labels: {kubernetes.io/service-name: web}}, ports: [{name: '', port: 9090, protocol: TCP}], endpoints: [{addresses: [10.65.0.6], conditions: {ready: ${ready}}, targetRef: {kind: Pod, name: other}}, {addresses: [10.65.0.4], conditions: {ready: false}}]}\n`;
    expect((await why(ALL + slice(true), "front", "svc/web:80")).out).toMatch(/^shop\/front → shop\/other .*: allowed\n {2}10.65.0.5 → 10.65.0.6\n {4}9090\/tcp: allowed\n[^→]*$/);
    await expect(why(ALL + slice(false), "front", "svc/web:80")).rejects.toThrow("Service shop/web has no ready endpoint");
    const endpoints = "---\n{apiVersion: v1, kind: Endpoints, metadata: {name: web, namespace: shop}, subsets: [{ports: [{port: 5432}], addresses: [{ip: 198.51.100.1}]}]}\n";
    expect((await why(ALL + endpoints, "front", "10.96.0.7:80")).out).toStartWith("shop/front → 198.51.100.1 (through Service shop/web, 10.96.0.7 80/tcp): allowed\n");
  });

  test("each backend, by its own number for a port name", async () => {
    const second = pod("web2", "10.65.0.8", PORTS.replace("8080", "8081")).replace("{app: web2}", "{app: web}");
    const { out, code } = await why(FILES + second + service("") + policy("one", "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 8080}]}]}"), "front", "10.96.0.7:80");
    expect(out).toContain("shop/front → shop/web (through Service shop/web, 10.96.0.7 80/tcp): allowed\n  10.65.0.5 → 10.65.0.4\n    8080/tcp: allowed");
    expect(out).toContain("shop/front → shop/web2 (through Service shop/web, 10.96.0.7 80/tcp): denied\n  10.65.0.5 → 10.65.0.8\n    8081/tcp: denied");
    expect(code).toBe(1);
  });

  test("behind a Service of templates", async () => {
    const files = NAMESPACE + deployment("web") + deployment("front") + "---\n{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}}\n" + ONLY_FRONT;
    expect(await why(files, "front", "svc/web:80")).toMatchObject({ code: 0, out: expect.stringMatching(/^shop\/deployment\/front → shop\/deployment\/web \(through Service shop\/web, 80\/tcp\): allowed\n/) });
  });

  test("a headless Service stands for its pods, whose ports are not translated", async () => {
    const headless = FILES + "---\n{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}}\n" + ONLY_FRONT;
    expect((await why(headless, "front", "svc/web:8080")).code).toBe(0);
    expect((await why(headless, "front", "svc/web:80")).code).toBe(1);
  });

  test("a pod that reaches itself", async () => {
    expect(await why(ALL, "web", "10.96.0.7:80")).toMatchObject({ code: 2, out: expect.stringContaining("reaches itself through Service shop/web") });
  });

  for (const [what, source, destination, message] of [
    ["a port that the Service lacks", "front", "10.96.0.7:81", "Cannot tell about 10.96.0.7, the cluster address of Service shop/web: Service shop/web has no such port, only 80/tcp"],
    ["a Service that is not there", "front", "svc/nothing:80", 'Cannot find Service "shop/nothing"'],
    ["a cluster address as a source", "10.96.0.7", "web:80", "Cannot use 10.96.0.7 as a source: it is the cluster address of Service shop/web"],
    ["a load balancer's address as a source", "203.0.113.9", "web:80", "no packet comes from there"],
    ["a Service as a source", "svc/web", "web:80", "Cannot use a Service as a source"],
  ] as const) {
    test(`refused: ${what}`, () => expect(why(ALL, source, destination)).rejects.toThrow(message));
  }

  test("refused: a name outside, and nobody behind", async () => {
    await expect(why(`${FILES}---\n{apiVersion: v1, kind: Service, metadata: {name: ext}, spec: {type: ExternalName, externalName: db.example.com}}\n`, "front", "svc/ext:80")).rejects.toThrow("stands for the name db.example.com");
    await expect(why(ALL.replaceAll("selector: {app: web}", "selector: {app: none}"), "front", "10.96.0.7:80")).rejects.toThrow("has no ready endpoint");
  });
});
