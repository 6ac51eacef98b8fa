import { describe, expect, test } from "bun:test";
import { CniRefusal } from "./cni-refusal.ts";
import { readArgs, readNetworkConfig, readValidAttachments } from "./network-config.ts";

const read = (config: Readonly<Record<string, unknown>>) => readNetworkConfig(config, "n1");

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof CniRefusal) return `${error.answer.code} ${error.answer.msg}`;
    throw error;
  }
  throw new Error("not refused");
}

test("upstream's default configuration is taken, and what it says of logging and API access is named", () => {
  const upstream = {
    name: "k8s-pod-network",
    cniVersion: "1.0.0",
    type: "calico",
    log_level: "info",
    log_file_path: "/var/log/calico/cni/cni.log",
    datastore_type: "kubernetes",
    nodename: "n1",
    mtu: 0,
    ipam: { type: "calico-ipam" },
    policy: { type: "k8s" },
    kubernetes: { kubeconfig: "/etc/cni/net.d/calico-kubeconfig" },
  };
  const { ignored, ...rest } = read(upstream);
  expect(rest).toEqual({
    network: "k8s-pod-network",
    mtuBytes: undefined,
    families: [4],
    ipv4Pools: undefined,
    ipv6Pools: undefined,
    unserved: [],
  });
  expect(ignored.map((line) => line.split(":")[0])).toEqual(["log_level", "log_file_path"]);
});

test("what the specification and the runtime add is nobody's business", () => {
  expect(
    read({
      prevResult: {},
      capabilities: { portMappings: true },
      runtimeConfig: {},
      "cni.dev/attachments": [],
      daemon_socket: "/x",
      nodename_file: "/y",
    }).ignored,
  ).toEqual([]);
});

describe("what would give the pod something else than was asked for is refused", () => {
  for (const [config, message] of [
    [
      { name: "a/b" },
      '7 network configuration field name is "a/b", must be a letter or digit, then letters, digits, "_", "." and "-"',
    ],
    [{ mtu: 67 }, "7 network configuration field mtu is 67, must be 0 (automatic) or an integer from 68 to 65535"],
    [{ ipam: [] }, "7 network configuration field ipam is [], must be an object"],
    [
      { ipam: { type: "host-local" } },
      '7 network configuration field ipam.type is "host-local", must be "calico-ipam"',
    ],
    [
      { ipam: { subnet: "usePodCidr" } },
      '7 network configuration field ipam.subnet is "usePodCidr", must be absent: addresses come from IPPools',
    ],
    [
      { ipam: { ranges: [[{}]] } },
      "7 network configuration field ipam.ranges is [[{}]], must be absent: addresses come from IPPools",
    ],
    [
      { ipam: { routes: [{ dst: "0.0.0.0/0" }] } },
      '7 network configuration field ipam.routes is [{"dst":"0.0.0.0/0"}], must be absent: other routes in a pod than the default ones is not supported',
    ],
    [
      { ipam: { assign_ipv4: "no" } },
      '7 network configuration field ipam.assign_ipv4 is "no", must be "true" or "false"',
    ],
    [
      { ipam: { assign_ipv4: false } },
      "7 network configuration field ipam.assign_ipv4 is false, must be true unless ipam.assign_ipv6 is",
    ],
    [
      { ipam: { ipv4_pools: "a" } },
      '7 network configuration field ipam.ipv4_pools is "a", must be a list of names or ranges of pools',
    ],
    [
      { ipam: { ipv4_pools: ["10.0.0.0/33"] } },
      '7 network configuration field ipam.ipv4_pools is ["10.0.0.0/33"], must be a list of names or ranges of IPv4 pools',
    ],
    [
      { nodename: "n2" },
      '7 network configuration field nodename is "n2", must be "n1", the name of this node, or absent',
    ],
    [
      { kubernetes: { node_name: "n2" } },
      '7 network configuration field kubernetes.node_name is "n2", must be "n1", the name of this node, or absent',
    ],
    [{ policy: { type: "none" } }, '7 network configuration field policy.type is "none", must be "k8s" or absent'],
    [
      { num_queues: 4 },
      "7 network configuration field num_queues is 4, must be 1: more than one queue for each veth is not supported",
    ],
    [
      { device_type: "netkit" },
      '7 network configuration field device_type is "netkit", must be "veth": another device is not supported',
    ],
    [
      { readiness_gates: ["http://x"] },
      '7 network configuration field readiness_gates is ["http://x"], must be empty: waiting for URLs is not supported',
    ],
    [
      { dataplane_options: { type: "grpc" } },
      '7 network configuration field dataplane_options is {"type":"grpc"}, must be empty: another dataplane is not supported',
    ],
    [
      { container_settings: { allow_ip_forwarding: true } },
      "7 network configuration field container_settings.allow_ip_forwarding is true, must be false: forwarding inside a pod is not supported",
    ],
    [
      { ipMasq: true },
      "7 network configuration field ipMasq is true, must be false: outgoing NAT is a pool's natOutgoing",
    ],
    [
      { runtimeConfig: { ips: ["10.0.0.1/24"] } },
      '7 network configuration field runtimeConfig.ips is ["10.0.0.1/24"], must be absent: addresses and MAC are asked for by annotations of the Pod',
    ],
    [
      { runtimeConfig: { mac: "02:00:00:00:00:01" } },
      '7 network configuration field runtimeConfig.mac is "02:00:00:00:00:01", must be absent: addresses and MAC are asked for by annotations of the Pod',
    ],
  ] as const) {
    test(JSON.stringify(config), () => expect(refusal(() => read(config))).toBe(message));
  }
});

test("what has no effect is named, inside objects too", () => {
  const config = {
    qps: 5,
    datastore_type: "etcdv3",
    kubernetes: { kubeconfig: "/x", typo: 1 },
    container_settings: { typo: 1 },
    ipam: { type: "calico-ipam", typo: 1 },
    typo: 1,
    toString: 1,
  };
  expect(read(config).ignored).toEqual([
    "qps: the daemon has its own access to the datastore",
    "datastore_type: the daemon's own datastore counts",
    "kubernetes.typo: it is not known",
    "container_settings.typo: it is not known",
    "typo: it is not known",
    "toString: it is not known",
    "ipam.typo: it is not known",
  ]);
});

test("pools and families", () => {
  const { families, ipv4Pools, ipv6Pools } = read({
    ipam: { assign_ipv4: "FALSE", assign_ipv6: true, ipv4_pools: [], ipv6_pools: ["a", "fd00::/64"] },
  });
  expect([families, ipv4Pools, ipv6Pools]).toEqual([[6], undefined, ["a", "fd00::/64"]]);
});

test("host ports and bandwidth that reach this plugin are served by nobody", () => {
  expect(
    read({
      runtimeConfig: {
        portMappings: [{ hostPort: 53, containerPort: 53, protocol: "UDP" }],
        bandwidth: { ingressRate: 1 },
      },
    }).unserved,
  ).toEqual([
    "host port 53/udp: the CNI plugin portmap is not installed on this node",
    "bandwidth limits: the CNI plugin bandwidth is not installed on this node",
  ]);
  expect(read({ runtimeConfig: { portMappings: [], bandwidth: {} } }).unserved).toEqual([]);
});

test("CNI_ARGS: the address; unknown keys are named, or refused unless IgnoreUnknown is set", () => {
  expect(readArgs({ K8S_POD_NAME: "p", IP: "" })).toEqual({ address: undefined, ignored: [] });
  expect(readArgs({ IP: "FD00::1", IgnoreUnknown: "true", X: "1" })).toEqual({
    address: "fd00::1" as never,
    ignored: ["CNI_ARGS X: it is not known"],
  });
  expect(refusal(() => readArgs({ X: "1" }))).toBe(
    '4 CNI_ARGS has "X=1", known keys are IgnoreUnknown, K8S_POD_NAMESPACE, K8S_POD_NAME, K8S_POD_INFRA_CONTAINER_ID, K8S_POD_UID, IP; IgnoreUnknown=1 allows others',
  );
  expect(refusal(() => readArgs({ IP: "10.0.0.1/24" }))).toStartWith(
    '4 CNI_ARGS IP is "10.0.0.1/24", must be an IPv4 or IPv6 address',
  );
});

test("the attachments that GC keeps", () => {
  expect(
    readValidAttachments({ "cni.dev/valid-attachments": [{ containerID: "a", ifname: "eth0", more: 1 }] }),
  ).toEqual([{ containerId: "a", interface: "eth0" }]);
  expect(refusal(() => readValidAttachments({}))).toBe(
    "7 network configuration field cni.dev/valid-attachments is undefined, must be a list of objects with containerID and ifname",
  );
});
