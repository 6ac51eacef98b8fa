/** built-in: what is filled into built-in kinds, and what is refused in them. All of it as dry runs: nothing is stored. */
import { at, type Recorder } from "../recorder.ts";
import { configMap, DISCOVERY, NETWORKING, type Places, pod, policy, service } from "./places.ts";

type Cases = Readonly<Record<string, object>>;

export async function builtInKinds(recorder: Recorder, places: Places): Promise<void> {
  const tried = async (what: string, path: string, cases: Cases): Promise<void> => {
    for (const [name, body] of Object.entries(cases))
      await recorder.request(`${what}: ${name}`, "POST", `${path}?dryRun=All`, { body });
  };
  await tried("pod", places.in("pods"), PODS);
  await tried("pod refused", places.in("pods"), BAD_PODS);
  await tried("service", places.in("services"), SERVICES);
  await tried("service refused", places.in("services"), BAD_SERVICES);
  await tried("policy", places.in("networkpolicies", NETWORKING), POLICIES);
  await tried("policy refused", places.in("networkpolicies", NETWORKING), BAD_POLICIES);
  await tried("configuration", places.in("configmaps"), CONFIG_MAPS);
  await tried("secret", places.in("secrets"), SECRETS);
  await tried("account", places.in("serviceaccounts"), {
    plain: { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "robot" } },
  });
  await tried("slice", places.in("endpointslices", DISCOVERY), SLICES);
  await tried("namespace", places.all("namespaces"), {
    plain: { apiVersion: "v1", kind: "Namespace", metadata: { name: `more-${recorder.suffix}` } },
    "with status and finalizers": {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name: `more-${recorder.suffix}`, labels: { a: "b" } },
      spec: { finalizers: ["example.com/x"] },
      status: { phase: "Terminating" },
    },
  });
  await tried("node", places.all("nodes"), nodes(recorder.suffix));
  await tried("event", places.in("events"), events(places));
  await updates(recorder, places);
}

const port = (extra: object): object => ({ containers: [{ name: "main", image: "x:1", ports: [extra] }] });

const PODS: Cases = {
  plain: pod("p"),
  "latest image, no ports": pod("p", { containers: [{ name: "main", image: "x" }] }),
  "image by digest": pod("p", {
    containers: [{ name: "main", image: "x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" }],
  }),
  "host network": pod("p", { hostNetwork: true }),
  "probes, lifecycle, environment": pod("p", {
    containers: [
      {
        name: "main",
        image: "x:1",
        livenessProbe: { httpGet: { port: 80 } },
        readinessProbe: { tcpSocket: { port: "http" } },
        startupProbe: { exec: { command: ["a"] } },
        env: [{ name: "A", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } }],
        ports: [{ containerPort: 80, name: "http" }],
      },
    ],
  }),
  "limits become requests": pod("p", {
    containers: [{ name: "main", image: "x:1", resources: { limits: { cpu: "100m", memory: "64Mi" } } }],
  }),
  "quantities as numbers": pod("p", {
    containers: [{ name: "main", image: "x:1", resources: { limits: { cpu: 1, memory: 1e6 } } }],
  }),
  "quantities that are not canonical": pod("p", {
    containers: [{ name: "main", image: "x:1", resources: { requests: { cpu: "0.5", memory: "1024Ki" } } }],
  }),
  volumes: pod("p", {
    volumes: [
      { name: "a", configMap: { name: "c" } },
      { name: "b", secret: { secretName: "s" } },
      { name: "c", emptyDir: {} },
      { name: "d", hostPath: { path: "/x" } },
      { name: "e", projected: { sources: [{ serviceAccountToken: { path: "t" } }] } },
      { name: "f", downwardAPI: { items: [{ path: "p", fieldRef: { fieldPath: "metadata.name" } }] } },
    ],
  }),
  "init containers": pod("p", {
    initContainers: [
      { name: "first", image: "y" },
      { name: "side", image: "z:1", restartPolicy: "Always" },
    ],
  }),
  "node given": pod("p", { nodeName: "nowhere" }),
  "tolerations given": pod("p", { tolerations: [{ operator: "Exists" }] }),
  "status given": { ...pod("p"), status: { phase: "Running", podIP: "10.0.0.1" } },
  "service account by its old name": pod("p", { serviceAccount: "default" }),
  "a token is mounted": pod("p", { automountServiceAccountToken: null }),
  nulls: pod("p", { nodeName: null, nodeSelector: null, volumes: null, securityContext: null }),
};

const BAD_PODS: Cases = {
  "no containers": pod("p", { containers: [] }),
  "no name, no image": pod("p", { containers: [{}] }),
  "two containers of a name": pod("p", {
    containers: [
      { name: "a", image: "x" },
      { name: "a", image: "x" },
    ],
  }),
  "container name": pod("p", { containers: [{ name: "A_b", image: "x" }] }),
  "port too large": pod("p", port({ containerPort: 70000 })),
  "port missing": pod("p", port({})),
  "port name": pod("p", port({ containerPort: 80, name: "much-too-long-name-of-port" })),
  "port protocol": pod("p", port({ containerPort: 80, protocol: "FOO" })),
  "host port differs from container port in the host network": pod("p", {
    hostNetwork: true,
    ...port({ containerPort: 80, hostPort: 81 }),
  }),
  "restart policy": pod("p", { restartPolicy: "Sometimes" }),
  "DNS policy": pod("p", { dnsPolicy: "Sometimes" }),
  "pull policy": pod("p", { containers: [{ name: "main", image: "x", imagePullPolicy: "Sometimes" }] }),
  "mount without volume": pod("p", {
    containers: [{ name: "main", image: "x", volumeMounts: [{ name: "v", mountPath: "/x" }] }],
  }),
  "two volumes of a name": pod("p", {
    volumes: [
      { name: "a", emptyDir: {} },
      { name: "a", emptyDir: {} },
    ],
  }),
  "volume without source": pod("p", { volumes: [{ name: "a" }] }),
  "volume with two sources": pod("p", { volumes: [{ name: "a", emptyDir: {}, hostPath: { path: "/x" } }] }),
  "environment without name": pod("p", { containers: [{ name: "main", image: "x", env: [{ value: "a" }] }] }),
  "negative grace period": pod("p", { terminationGracePeriodSeconds: -1 }),
  "deadline of zero": pod("p", { activeDeadlineSeconds: 0 }),
  "node selector label": pod("p", { nodeSelector: { "a b": "c" } }),
  toleration: pod("p", { tolerations: [{ key: "a", operator: "Maybe" }] }),
  "unknown service account": pod("p", { serviceAccountName: "ghost" }),
  quantity: pod("p", { containers: [{ name: "main", image: "x", resources: { limits: { cpu: "much" } } }] }),
  "request beyond limit": pod("p", {
    containers: [{ name: "main", image: "x", resources: { limits: { cpu: "1" }, requests: { cpu: "2" } } }],
  }),
  hostname: pod("p", { hostname: "A_b" }),
  "image with spaces": pod("p", { containers: [{ name: "main", image: " x " }] }),
};

const tcp = [{ port: 80 }];
const SERVICES: Cases = {
  plain: service("s", { selector: { app: "a" }, ports: tcp }),
  headless: service("s", { clusterIP: "None", ports: tcp }),
  "headless without ports": service("s", { clusterIP: "None" }),
  "node port": service("s", { type: "NodePort", ports: tcp }),
  "load balancer": service("s", { type: "LoadBalancer", ports: tcp }),
  "external name": service("s", { type: "ExternalName", externalName: "example.com" }),
  IPv6: service("s", { ipFamilies: ["IPv6"], ports: tcp }),
  "both families": service("s", { ipFamilyPolicy: "PreferDualStack", ports: tcp }),
  "both families required, IPv6 first": service("s", {
    ipFamilyPolicy: "RequireDualStack",
    ipFamilies: ["IPv6", "IPv4"],
    ports: tcp,
  }),
  "named target": service("s", {
    ports: [
      { name: "a", port: 80, targetPort: "http" },
      { name: "b", port: 81, protocol: "UDP" },
    ],
  }),
  "session affinity": service("s", { sessionAffinity: "ClientIP", ports: tcp }),
};

const BAD_SERVICES: Cases = {
  "no ports": service("s", {}),
  "no spec": { apiVersion: "v1", kind: "Service", metadata: { name: "s" } },
  "port out of range": service("s", { ports: [{ port: 70000 }] }),
  "two ports without names": service("s", { ports: [{ port: 80 }, { port: 81 }] }),
  "the same port twice": service("s", {
    ports: [
      { name: "a", port: 80 },
      { name: "b", port: 80 },
    ],
  }),
  type: service("s", { type: "Nonsense", ports: tcp }),
  "external name without name": service("s", { type: "ExternalName" }),
  "address outside of the range": service("s", { clusterIP: "192.0.2.1", ports: tcp }),
  "address that is none": service("s", { clusterIP: "nonsense", ports: tcp }),
  "external address": service("s", { externalIPs: ["nonsense"], ports: tcp }),
  "target port": service("s", { ports: [{ port: 80, targetPort: "UPPER_case" }] }),
  protocol: service("s", { ports: [{ port: 80, protocol: "FOO" }] }),
  "selector label": service("s", { selector: { "a b": "c" }, ports: tcp }),
  families: service("s", { ipFamilies: ["IPv5"], ports: tcp }),
};

const POLICIES: Cases = {
  empty: policy("p", {}),
  "no spec": { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { name: "p" } },
  "selector only": policy("p", { podSelector: {} }),
  egress: policy("p", {
    podSelector: {},
    egress: [
      {
        to: [{ ipBlock: { cidr: "fd00::/8", except: ["fd00:1::/32"] } }],
        ports: [{ port: 53, protocol: "UDP" }, { port: "dns" }],
      },
    ],
  }),
  "egress only, told": policy("p", { podSelector: {}, policyTypes: ["Egress"] }),
  range: policy("p", {
    podSelector: { matchLabels: { app: "a" } },
    ingress: [
      {
        from: [
          { ipBlock: { cidr: "10.0.0.0/8", except: ["10.1.0.0/16"] } },
          { podSelector: {}, namespaceSelector: { matchExpressions: [{ key: "a", operator: "In", values: ["b"] }] } },
        ],
        ports: [{ port: 80, endPort: 90 }],
      },
    ],
  }),
  "empty lists": policy("p", { podSelector: {}, ingress: [], egress: [] }),
  "empty rule": policy("p", { podSelector: {}, ingress: [{}] }),
  "host bits": policy("p", { podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: "10.0.0.1/8" } }] }] }),
};

const from = (peer: object): object => policy("p", { podSelector: {}, ingress: [{ from: [peer] }] });
const ports = (entry: object): object => policy("p", { podSelector: {}, ingress: [{ ports: [entry] }] });

const BAD_POLICIES: Cases = {
  protocol: ports({ protocol: "FOO", port: 80 }),
  "port too large": ports({ port: 70000 }),
  "port zero": ports({ port: 0 }),
  "port name": ports({ port: "UPPER_case" }),
  "port name too long": ports({ port: "much-too-long-name-of-port" }),
  "end before begin": ports({ port: 90, endPort: 80 }),
  "end without begin": ports({ endPort: 80 }),
  "end with a name": ports({ port: "http", endPort: 80 }),
  "end too large": ports({ port: 80, endPort: 70000 }),
  "empty peer": from({}),
  "block beside selector": from({ ipBlock: { cidr: "10.0.0.0/8" }, podSelector: {} }),
  "block without range": from({ ipBlock: {} }),
  "block that is an address": from({ ipBlock: { cidr: "10.0.0.1" } }),
  "block that is nonsense": from({ ipBlock: { cidr: "nonsense" } }),
  "block with leading zeros": from({ ipBlock: { cidr: "010.000.0.0/08", except: ["10.01.0.0/16"] } }),
  "block that is IPv4-mapped": from({ ipBlock: { cidr: "::ffff:10.0.0.0/104", except: ["10.1.0.0/16"] } }),
  "block that is not canonical": from({ ipBlock: { cidr: "FD00:0::/8", except: ["fd00:0:0::/48"] } }),
  "block with all that is odd": from({ ipBlock: { cidr: "010.0.0.5/8" } }),
  "block with a zone": from({ ipBlock: { cidr: "fe80::%eth0/64" } }),
  "exception outside": from({ ipBlock: { cidr: "10.0.0.0/8", except: ["11.0.0.0/16"] } }),
  "exception as large": from({ ipBlock: { cidr: "10.0.0.0/8", except: ["10.0.0.0/8"] } }),
  "exception of the other family": from({ ipBlock: { cidr: "10.0.0.0/8", except: ["fd00::/16"] } }),
  "exception that is nonsense": from({ ipBlock: { cidr: "10.0.0.0/8", except: ["nonsense"] } }),
  "selector label": policy("p", { podSelector: { matchLabels: { "a b": "c d" } } }),
  "selector operator": policy("p", { podSelector: { matchExpressions: [{ key: "a", operator: "Maybe" }] } }),
  "selector without values": policy("p", { podSelector: { matchExpressions: [{ key: "a", operator: "In" }] } }),
  "selector with values it must not have": policy("p", {
    podSelector: { matchExpressions: [{ key: "a", operator: "Exists", values: ["b"] }] },
  }),
  "policy type": policy("p", { podSelector: {}, policyTypes: ["Sideways"] }),
  "three policy types": policy("p", { podSelector: {}, policyTypes: ["Ingress", "Egress", "Ingress"] }),
  "several errors": policy("p", {
    podSelector: {},
    ingress: [{ ports: [{ protocol: "FOO", port: 70000 }], from: [{}] }],
    egress: [{ to: [{ ipBlock: { cidr: "x" } }] }],
  }),
};

const CONFIG_MAPS: Cases = {
  "text and bytes": configMap("c", {}, { data: { a: "1" }, binaryData: { b: "AAE=" }, immutable: true }),
  "bad key": configMap("c", {}, { data: { "a b": "c" } }),
  "key of dots": configMap("c", {}, { data: { "..": "c" } }),
  "key given twice": configMap("c", {}, { data: { a: "1" }, binaryData: { a: "AAE=" } }),
  "bytes that are none": configMap("c", {}, { binaryData: { a: "*" } }),
  "null data": configMap("c", {}, { data: null }),
};

const secret = (rest: object): object => ({ apiVersion: "v1", kind: "Secret", metadata: { name: "s" }, ...rest });
const SECRETS: Cases = {
  plain: secret({ data: { a: "Yg==" } }),
  "text becomes bytes": secret({ stringData: { a: "b" }, data: { a: "AAA=", c: "ZA==" } }),
  "bytes that are none": secret({ data: { a: "*" } }),
  "bad key": secret({ data: { "a b": "Yg==" } }),
  "TLS without key": secret({ type: "kubernetes.io/tls", data: {} }),
  "account token without account": secret({ type: "kubernetes.io/service-account-token" }),
  "basic authentication without name": secret({ type: "kubernetes.io/basic-auth", data: {} }),
};

const slice = (rest: object): object => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: { name: "e" },
  ...rest,
});
const SLICES: Cases = {
  plain: slice({ addressType: "IPv4", endpoints: [{ addresses: ["10.0.0.1"] }], ports: [{ port: 80 }] }),
  IPv6: slice({
    addressType: "IPv6",
    endpoints: [{ addresses: ["fd00::1"], conditions: { ready: false } }],
    ports: [{ name: "a", port: 80, protocol: "UDP" }],
  }),
  "no type": slice({ endpoints: [] }),
  "unknown type": slice({ addressType: "IPv5", endpoints: [] }),
  "address of the other family": slice({ addressType: "IPv4", endpoints: [{ addresses: ["fd00::1"] }] }),
  "no addresses": slice({ addressType: "IPv4", endpoints: [{ addresses: [] }] }),
};

function nodes(suffix: string): Cases {
  const node = (rest: object): object => ({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: `node-${suffix}` },
    ...rest,
  });
  return {
    plain: node({}),
    "pod range": node({ spec: { podCIDR: "10.9.0.0/24", podCIDRs: ["10.9.0.0/24", "fd00:9::/64"] } }),
    "with status": node({
      status: {
        addresses: [{ type: "InternalIP", address: "192.0.2.1" }],
        conditions: [{ type: "Ready", status: "True" }],
      },
    }),
    "with taints": node({ spec: { taints: [{ key: "a", effect: "NoSchedule" }], unschedulable: true } }),
    "bad pod range": node({ spec: { podCIDR: "nonsense", podCIDRs: ["nonsense"] } }),
    "bad taint": node({ spec: { taints: [{ key: "a", effect: "Sometimes" }] } }),
    "the same taint twice": node({
      spec: {
        taints: [
          { key: "a", effect: "NoSchedule" },
          { key: "a", effect: "NoSchedule" },
        ],
      },
    }),
  };
}

function events(places: Places): Cases {
  const event = (rest: object): object => ({
    apiVersion: "v1",
    kind: "Event",
    metadata: { name: "e" },
    involvedObject: { kind: "Pod", name: "a", namespace: places.namespace },
    ...rest,
  });
  return {
    plain: event({ reason: "Tested", message: "m", type: "Normal", source: { component: "c" } }),
    "of another namespace": event({ involvedObject: { kind: "Pod", name: "a", namespace: "elsewhere" } }),
    "without object": { apiVersion: "v1", kind: "Event", metadata: { name: "e" } },
  };
}

/** What updates may and may not do, on objects that are stored. */
async function updates(recorder: Recorder, places: Places): Promise<void> {
  const services = places.in("services");
  await recorder.request("create a service to change", "POST", services, {
    body: service("change", { selector: { app: "a" }, ports: tcp }),
  });
  const type = "application/merge-patch+json";
  await recorder.request("a service's address cannot change", "PATCH", `${services}/change`, {
    type,
    body: { spec: { clusterIP: "10.96.255.250", clusterIPs: ["10.96.255.250"] } },
  });
  await recorder.request("a service gets a port", "PATCH", `${services}/change`, {
    type: "application/strategic-merge-patch+json",
    body: {
      spec: {
        ports: [
          { name: "b", port: 81 },
          { name: "a", port: 80 },
        ],
      },
    },
  });
  await recorder.request("a service replaced without its address", "PUT", `${services}/change`, {
    body: service("change", { ports: tcp }),
  });
  await recorder.request("a service becomes a node port", "PATCH", `${services}/change?dryRun=All`, {
    type,
    body: { spec: { type: "NodePort" } },
  });
  await recorder.request("a service's status", "PATCH", `${services}/change/status`, {
    type,
    body: { status: { loadBalancer: { ingress: [{ ip: "192.0.2.1" }] } } },
  });
  const maps = places.in("configmaps");
  await recorder.send("POST", maps, { body: configMap("fixed", {}, { data: { a: "1" }, immutable: true }) });
  await recorder.request("an immutable configmap", "PATCH", `${maps}/fixed`, { type, body: { data: { a: "2" } } });
  await recorder.request("an immutable configmap made mutable", "PATCH", `${maps}/fixed`, {
    type,
    body: { immutable: false },
  });
  await recorder.request("an immutable configmap's label", "PATCH", `${maps}/fixed`, {
    type,
    body: { metadata: { labels: { a: "b" } } },
  });
  const secrets = places.in("secrets");
  await recorder.send("POST", secrets, { body: secret({ data: { a: "Yg==" } }) });
  await recorder.request("a secret's type cannot change", "PATCH", `${secrets}/s`, { type, body: { type: "other" } });
  await recorder.request("a secret's text", "PATCH", `${secrets}/s`, { type, body: { stringData: { b: "c" } } });
  const slices = places.in("endpointslices", DISCOVERY);
  await recorder.send("POST", slices, { body: slice({ addressType: "IPv4", endpoints: [] }) });
  await recorder.request("a slice's type cannot change", "PATCH", `${slices}/e`, {
    type,
    body: { addressType: "IPv6" },
  });
  await recorder.request("a slice's endpoints raise its generation", "PATCH", `${slices}/e`, {
    type,
    body: { endpoints: [{ addresses: ["10.0.0.1"] }] },
    select: (body) =>
      JSON.parse(JSON.stringify({ generation: at(body, "metadata", "generation"), endpoints: at(body, "endpoints") })),
  });
  const namespace = `${places.all("namespaces")}/${places.namespace}`;
  await recorder.request("a namespace's own label", "PATCH", namespace, {
    type,
    body: { metadata: { labels: { "kubernetes.io/metadata.name": null, a: "b" } } },
  });
  await recorder.request("a namespace's finalizers are not changed so", "PATCH", namespace, {
    type,
    body: { spec: { finalizers: null } },
  });
  await recorder.request(
    "a namespace of the system cannot go",
    "DELETE",
    `${places.all("namespaces")}/kube-system?dryRun=All`,
  );
  await recorder.request("the namespace default cannot go", "DELETE", `${places.all("namespaces")}/default?dryRun=All`);
}
