/** `why` with addresses that are translated before policy: Services, node ports and host ports. */
import { describe, expect, test } from "bun:test";
import { deployment, NAMESPACE, ONLY_FRONT, pod, policy, why } from "./test-manifests.ts";

describe("addresses that are translated", () => {
  const NODES =
    "---\n{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: '2001:db8::1'}]}}\n---\n{apiVersion: v1, kind: Node, metadata: {name: n2}, status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}}\n";
  const PORTS = "containers: [{name: c, ports: [{name: http, containerPort: 8080, hostPort: 9000}]}]";
  const service = (more: string, ports = "{port: 80, targetPort: http, nodePort: 30080}"): string =>
    `---\n{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIPs: [10.96.0.7, 'fd96::7'], clusterIP: 10.96.0.7, selector: {app: web}, ports: [${ports}], ${more}}, status: {loadBalancer: {ingress: [{ip: 203.0.113.9}]}}}\n`;
  const FILES =
    NAMESPACE +
    NODES +
    pod("web", "10.65.0.4 fd00::4", PORTS) +
    pod("front", "10.65.0.5 fd00::5") +
    pod("other", "10.65.0.6", "", "n2");
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
      const open =
        FILES +
        service("externalIPs: [198.51.100.7]") +
        policy("open", "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 8080}]}]}");
      expect((await why(open, "front", address)).code).toBe(0);
      expect((await why(open, "203.0.113.77", address)).code).toBe(0);
      const closed =
        FILES +
        service("externalIPs: [198.51.100.7]") +
        policy("closed", "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 81}]}]}");
      expect((await why(closed, "other", address)).code).toBe(2); // its own node may be the one that translates
    });
  }

  test("a Service that keeps the source", async () => {
    const local =
      FILES +
      service("externalTrafficPolicy: Local, externalIPs: [198.51.100.7]") +
      policy(
        "outside",
        "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]}",
      );
    expect((await why(local, "203.0.113.77", "192.0.2.1:30080")).code).toBe(0);
    expect((await why(local, "203.0.114.77", "192.0.2.1:30080")).code).toBe(1);
    expect(
      (await why(local.replace("externalTrafficPolicy: Local,", ""), "203.0.113.77", "192.0.2.1:30080")).code,
    ).toBe(2);
  });

  test("egress may see the address before translation, at another node", async () => {
    const egress =
      FILES +
      service("") +
      policy(
        "egress",
        "{podSelector: {matchLabels: {app: front}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: web}}}]}]}",
      );
    expect((await why(egress, "front", "10.96.0.7:80")).code).toBe(0);
    expect(await why(egress, "front", "192.0.2.2:30080")).toMatchObject({
      code: 2,
      out: expect.stringContaining("if another node translates that, leaving it is denied"),
    });
  });

  test("a Service with a node's address takes its own ports only", async () => {
    const shared =
      FILES +
      service("externalIPs: [192.0.2.1]") +
      policy("open", "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 8080}]}]}");
    expect((await why(shared, "front", "192.0.2.1:80")).out).toStartWith(
      "shop/front → shop/web (through Service shop/web, 192.0.2.1 80/tcp): allowed\n",
    );
    expect((await why(shared, "front", "192.0.2.1:22")).out).toStartWith("shop/front → 192.0.2.1: allowed\n");
    expect((await why(shared, "192.0.2.1", "web:8080")).code).toBe(0);
  });

  test("a host port", async () => {
    const { code, out } = await why(
      FILES + policy("open", "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 8080}]}]}"),
      "other",
      "192.0.2.1:9000",
    );
    expect(out).toStartWith(
      "shop/other → shop/web (through host port, 192.0.2.1 9000/tcp): allowed\n  10.65.0.6 → 10.65.0.4\n    8080/tcp: allowed\n",
    );
    expect(code).toBe(0);
    expect((await why(FILES, "other", "192.0.2.2:9000")).out).toStartWith("shop/other → 192.0.2.2: allowed\n");
  });

  test("a node without a port: some of its traffic goes elsewhere", async () => {
    expect(await why(ALL, "front", "192.0.2.1")).toMatchObject({
      code: 2,
      out: expect.stringContaining("ask for them by number: 30080/tcp to Service shop/web, 9000/tcp to pod shop/web\n"),
    });
    expect((await why(ALL, "front", "192.0.2.1:22")).code).toBe(0);
  });

  test("the endpoints that a slice lists, whatever the selector says; those not ready get nothing", async () => {
    const slice = (ready: boolean): string =>
      `---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-x, namespace: shop, labels: {kubernetes.io/service-name: web}}, ports: [{name: '', port: 9090, protocol: TCP}], endpoints: [{addresses: [10.65.0.6], conditions: {ready: ${ready}}, targetRef: {kind: Pod, name: other}}, {addresses: [10.65.0.4], conditions: {ready: false}}]}\n`;
    expect((await why(ALL + slice(true), "front", "svc/web:80")).out).toMatch(
      /^shop\/front → shop\/other .*: allowed\n {2}10.65.0.5 → 10.65.0.6\n {4}9090\/tcp: allowed\n[^→]*$/,
    );
    await expect(why(ALL + slice(false), "front", "svc/web:80")).rejects.toThrow(
      "Service shop/web has nothing behind it: none of its endpoints is ready and has the port",
    );
    const endpoints =
      "---\n{apiVersion: v1, kind: Endpoints, metadata: {name: web, namespace: shop}, subsets: [{ports: [{port: 5432}], addresses: [{ip: 198.51.100.1}]}]}\n";
    expect((await why(ALL + endpoints, "front", "10.96.0.7:80")).out).toStartWith(
      "shop/front → 198.51.100.1 (through Service shop/web, 10.96.0.7 80/tcp): allowed\n",
    );
  });

  test("each backend, by its own number for a port name", async () => {
    const second = pod("web2", "10.65.0.8", PORTS.replace("8080", "8081")).replace("{app: web2}", "{app: web}");
    const { out, code } = await why(
      FILES +
        second +
        service("") +
        policy("one", "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 8080}]}]}"),
      "front",
      "10.96.0.7:80",
    );
    expect(out).toContain(
      "shop/front → shop/web (through Service shop/web, 10.96.0.7 80/tcp): allowed\n  10.65.0.5 → 10.65.0.4\n    8080/tcp: allowed",
    );
    expect(out).toContain(
      "shop/front → shop/web2 (through Service shop/web, 10.96.0.7 80/tcp): denied\n  10.65.0.5 → 10.65.0.8\n    8081/tcp: denied",
    );
    expect(code).toBe(1);
  });

  test("behind a Service of templates", async () => {
    const files =
      NAMESPACE +
      deployment("web") +
      deployment("front") +
      "---\n{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}}\n" +
      ONLY_FRONT;
    expect(await why(files, "front", "svc/web:80")).toMatchObject({
      code: 0,
      out: expect.stringMatching(
        /^shop\/deployment\/front → shop\/deployment\/web \(through Service shop\/web, 80\/tcp\): allowed\n/,
      ),
    });
  });

  test("a headless Service stands for its pods, whose ports are not translated", async () => {
    const headless =
      FILES +
      "---\n{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}}\n" +
      ONLY_FRONT;
    expect((await why(headless, "front", "svc/web:8080")).code).toBe(0);
    expect((await why(headless, "front", "svc/web:80")).code).toBe(1);
  });

  test("a pod that reaches itself", async () => {
    expect(await why(ALL, "web", "10.96.0.7:80")).toMatchObject({
      code: 2,
      out: expect.stringContaining("reaches itself through Service shop/web"),
    });
  });

  for (const [what, source, destination, message] of [
    [
      "a port that the Service lacks",
      "front",
      "10.96.0.7:81",
      "Cannot explain 10.96.0.7, the cluster address of Service shop/web: Service shop/web has no such port, only 80/tcp",
    ],
    ["a Service that is not there", "front", "svc/nothing:80", 'Cannot find Service "shop/nothing"'],
    [
      "a cluster address as a source",
      "10.96.0.7",
      "web:80",
      "Cannot use 10.96.0.7 as a source: it is the cluster address of Service shop/web",
    ],
    ["a load balancer's address as a source", "203.0.113.9", "web:80", "no packet comes from there"],
    ["a Service as a source", "svc/web", "web:80", "Cannot use a Service as a source"],
  ] as const) {
    test(`refused: ${what}`, () => expect(why(ALL, source, destination)).rejects.toThrow(message));
  }

  test("refused: an external name, and a Service without backends", async () => {
    await expect(
      why(
        `${FILES}---\n{apiVersion: v1, kind: Service, metadata: {name: ext}, spec: {type: ExternalName, externalName: db.example.com}}\n`,
        "front",
        "svc/ext:80",
      ),
    ).rejects.toThrow("stands for the name db.example.com");
    await expect(
      why(ALL.replaceAll("selector: {app: web}", "selector: {app: none}"), "front", "10.96.0.7:80"),
    ).rejects.toThrow("has nothing behind it: no pod that is known has the labels app=none");
  });
});
