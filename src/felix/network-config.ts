/**
 * network-config: what upstream's network configuration and CNI_ARGS mean for one ADD.
 *
 * Every key is judged: it has its effect, or it changes nothing here, or it is named among those without effect, or, where the pod
 * would get something else than the configuration asks for, ADD is refused with key, value and what is allowed.
 * Source: cni-plugin/pkg/types/types.go; CNI specification 1.1.0 and its conventions.
 */
import { CNI_INVALID_CONFIG, CNI_INVALID_ENVIRONMENT, whyNotIdentifier } from "../podnet/protocol.ts";
import { type Addr, type Family, parseAddr } from "../net/addr.ts";
import { parsePrefix, prefixFamily } from "../net/prefix.ts";
import { CniRefusal } from "./cni-refusal.ts";

type Fields = Readonly<Record<string, unknown>>;

export interface NetworkConfig {
  /** First part of the IPAM handles. */
  readonly network: string;
  /** undefined: automatic. */
  readonly mtuBytes: number | undefined;
  readonly families: readonly Family[];
  /** Names or ranges of the pools to take from; undefined: those that serve the node. */
  readonly ipv4Pools: readonly string[] | undefined;
  readonly ipv6Pools: readonly string[] | undefined;
  /** Keys that are accepted and have no effect here, and why: for the log. */
  readonly ignored: readonly string[];
  /** What the Pod asks for and nobody serves: for the Pod's Events. */
  readonly unserved: readonly string[];
}

/** The network's name in upstream's IPAM handles when the configuration has no `name`. */
const DEFAULT_NETWORK = "k8s-pod-network";

function refuse(field: string, value: unknown, wanted: string): never {
  throw new CniRefusal(
    CNI_INVALID_CONFIG,
    `network configuration field ${field} is ${JSON.stringify(value)}, must be ${wanted}`,
  );
}

export function networkOf(config: Fields): string {
  const network = config["name"] ?? DEFAULT_NETWORK;
  if (typeof network !== "string") return refuse("name", network, "a string");
  const wrong = whyNotIdentifier(network);
  return wrong === undefined ? network : refuse("name", network, wrong);
}

/** Throws CniRefusal. `node` is this node's name. */
export function readNetworkConfig(config: Fields, node: string): NetworkConfig {
  const network = networkOf(config);
  const ignored = judge(config, "", {
    ...NETWORK_KEYS,
    nodename: onlyThisNode(node),
    hostname: onlyThisNode(node),
    kubernetes: inside({ ...KUBERNETES_KEYS, node_name: onlyThisNode(node) }),
  });
  const ipam = objectAt("ipam", config["ipam"] ?? {});
  ignored.push(...judge(ipam, "ipam.", IPAM_KEYS));
  return {
    network,
    mtuBytes: mtuOf(config),
    families: familiesOf(ipam),
    ipv4Pools: poolsAt("ipam.ipv4_pools", ipam["ipv4_pools"], 4),
    ipv6Pools: poolsAt("ipam.ipv6_pools", ipam["ipv6_pools"], 6),
    ignored,
    unserved: unservedOf(config["runtimeConfig"]),
  };
}

/** What is wrong with a value is thrown. A text says why the key has no effect, a list says it of keys inside; undefined: nothing to say. */
type Rule = (field: string, value: unknown) => string | readonly string[] | undefined;

/** Obeyed elsewhere, or changes nothing here. */
const quiet: Rule = () => undefined;
const idle =
  (why: string): Rule =>
  () =>
    why;
const must =
  (wanted: string, ...allowed: readonly unknown[]): Rule =>
  (field, value) =>
    allowed.some((one) => JSON.stringify(one) === JSON.stringify(value)) ? undefined : refuse(field, value, wanted);
const inside =
  (rules: Readonly<Record<string, Rule>>): Rule =>
  (field, value) =>
    judge(objectAt(field, value), `${field}.`, rules);

const LOGGING = idle("the plugin logs nothing of its own; the daemon logs to its standard error");
const DATASTORE = idle("the daemon has its own access to the datastore");
const onlyThisNode = (node: string): Rule =>
  must(`${JSON.stringify(node)}, the name of this node, or absent`, node, "");
const NOT_BUILT = "is not supported";

const KUBERNETES_KEYS: Readonly<Record<string, Rule>> = { kubeconfig: quiet, k8s_api_root: quiet };

const NETWORK_KEYS: Readonly<Record<string, Rule>> = {
  cniVersion: quiet,
  name: quiet,
  type: quiet,
  ipam: quiet,
  mtu: quiet,
  daemon_socket: quiet,
  prevResult: quiet,
  capabilities: quiet,
  runtimeConfig: quiet,
  disableCheck: quiet,
  disableGC: quiet,
  // The plugin needs no file to know the node, and no lock of its own.
  nodename_file: quiet,
  nodename_file_optional: quiet,
  ipam_lock_file: quiet,
  // Rules are in the kernel before ADD answers, whatever the time allowed.
  policy_setup_timeout_seconds: quiet,
  policy: (field, value) =>
    must('"k8s" or absent', "k8s", "", undefined)(`${field}.type`, objectAt(field, value)["type"]),
  datastore_type: (_, value) =>
    value === "kubernetes" || value === "" ? undefined : "the daemon's own datastore counts",
  etcd_endpoints: DATASTORE,
  etcd_discovery_srv: DATASTORE,
  etcd_scheme: DATASTORE,
  etcd_authority: DATASTORE,
  etcd_key_file: DATASTORE,
  etcd_cert_file: DATASTORE,
  etcd_ca_cert_file: DATASTORE,
  qps: DATASTORE,
  burst: DATASTORE,
  calico_api_group: DATASTORE,
  log_level: LOGGING,
  log_file_path: LOGGING,
  log_file_max_size: LOGGING,
  log_file_max_age: LOGGING,
  log_file_max_count: LOGGING,
  endpoint_status_dir: idle("ADD waits for the rules themselves"),
  require_mtu_file: idle("the MTU is read from the node's interfaces, not from a file"),
  include_default_routes: idle("a pod always has its default routes"),
  feature_control: idle("the annotations that it allows are refused"),
  num_queues: must(`1: more than one queue for each veth ${NOT_BUILT}`, 0, 1),
  device_type: must(`"veth": another device ${NOT_BUILT}`, "", "veth"),
  readiness_gates: must(`empty: waiting for URLs ${NOT_BUILT}`, [], null),
  dataplane_options: must(`empty: another dataplane ${NOT_BUILT}`, {}, null),
  mode: must(`absent: it is for Windows`, ""),
  ipMasq: must("false: outgoing NAT is a pool's natOutgoing", false),
  container_settings: inside({ allow_ip_forwarding: must(`false: forwarding inside a pod ${NOT_BUILT}`, false) }),
};

const IPAM_KEYS: Readonly<Record<string, Rule>> = {
  type: must('"calico-ipam"', "calico-ipam"),
  assign_ipv4: quiet,
  assign_ipv6: quiet,
  ipv4_pools: quiet,
  ipv6_pools: quiet,
  subnet: must("absent: addresses come from IPPools", "", null),
  ranges: must("absent: addresses come from IPPools", [], null),
  routes: must(`absent: other routes in a pod than the default ones ${NOT_BUILT}`, [], null),
};

/** One line for each key without effect. */
function judge(fields: Fields, path: string, rules: Readonly<Record<string, Rule>>): string[] {
  return Object.entries(fields).flatMap(([name, value]) => {
    // Keys with a dot are the specification's, for the runtime or for GC.
    if (path === "" && name.startsWith("cni.dev/")) return [];
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined;
    const why = rule === undefined ? "it is not known" : rule(path + name, value);
    return typeof why === "string" ? [`${path}${name}: ${why}`] : (why ?? []);
  });
}

function objectAt(field: string, value: unknown): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return refuse(field, value, "an object");
  return { ...value };
}

function mtuOf(config: Fields): number | undefined {
  const mtu = config["mtu"] ?? 0;
  if (typeof mtu !== "number" || !Number.isInteger(mtu) || (mtu !== 0 && (mtu < 68 || mtu > 65535)))
    return refuse("mtu", mtu, "0 (automatic) or an integer from 68 to 65535");
  return mtu === 0 ? undefined : mtu;
}

function familiesOf(ipam: Fields): readonly Family[] {
  const wants = (field: string, otherwise: boolean): boolean => {
    const value = ipam[field];
    if (value === undefined) return otherwise;
    const text = String(value).toLowerCase();
    if (text !== "true" && text !== "false") return refuse(`ipam.${field}`, value, '"true" or "false"');
    return text === "true";
  };
  const families: Family[] = [];
  if (wants("assign_ipv4", true)) families.push(4);
  if (wants("assign_ipv6", false)) families.push(6);
  return families.length === 0
    ? refuse("ipam.assign_ipv4", ipam["assign_ipv4"], "true unless ipam.assign_ipv6 is")
    : families;
}

/** Whether they exist is for IPAM to say. */
function poolsAt(field: string, value: unknown, family: Family): readonly string[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value)) return refuse(field, value, "a list of names or ranges of pools");
  const names = value.map((name: unknown) => {
    const prefix = typeof name === "string" && name.includes("/") ? parsePrefix(name) : undefined;
    const wrong =
      typeof name !== "string" ||
      name === "" ||
      prefix?.ok === false ||
      (prefix?.ok === true && prefixFamily(prefix.value) !== family);
    return wrong ? refuse(field, value, `a list of names or ranges of IPv${family} pools`) : name;
  });
  return names.length === 0 ? undefined : names;
}

/**
 * `runtimeConfig` has only what the plugin's `capabilities` ask for: `cni install` has our plugin ask for host ports and bandwidth
 * where no plugin in the chain serves them, so that a Pod hears of it.
 */
function unservedOf(value: unknown): readonly string[] {
  const runtime = objectAt("runtimeConfig", value ?? {});
  for (const field of ["ips", "mac", "ipRanges"]) {
    const asked = runtime[field];
    if (asked !== undefined && !(Array.isArray(asked) && asked.length === 0) && asked !== "")
      refuse(`runtimeConfig.${field}`, asked, "absent: addresses and MAC are asked for by annotations of the Pod");
  }
  const { portMappings, bandwidth } = runtime;
  const unserved = (Array.isArray(portMappings) ? portMappings : []).map(
    ({ hostPort, protocol }: { hostPort?: unknown; protocol?: unknown }) =>
      `host port ${String(hostPort)}/${String(protocol ?? "tcp").toLowerCase()}: the CNI plugin portmap is not installed on this node`,
  );
  if (
    bandwidth !== undefined &&
    bandwidth !== null &&
    Object.keys(objectAt("runtimeConfig.bandwidth", bandwidth)).length > 0
  )
    unserved.push("bandwidth limits: the CNI plugin bandwidth is not installed on this node");
  return unserved;
}

const ARGS: ReadonlySet<string> = new Set([
  "IgnoreUnknown",
  "K8S_POD_NAMESPACE",
  "K8S_POD_NAME",
  "K8S_POD_INFRA_CONTAINER_ID",
  "K8S_POD_UID",
  "IP",
]);

/** CNI_ARGS: the address asked for, and the keys without effect. Throws CniRefusal for an unknown key unless `IgnoreUnknown` is set, as upstream does. */
export function readArgs(args: Readonly<Record<string, string>>): {
  readonly address: Addr | undefined;
  readonly ignored: readonly string[];
} {
  const unknown = Object.keys(args).filter((name) => !ARGS.has(name));
  const ignore = /^(1|t|true)$/i.test(args["IgnoreUnknown"] ?? "");
  const [first] = unknown;
  if (first !== undefined && !ignore)
    throw new CniRefusal(
      CNI_INVALID_ENVIRONMENT,
      `CNI_ARGS has ${JSON.stringify(`${first}=${args[first]}`)}, known keys are ${[...ARGS].join(", ")}; IgnoreUnknown=1 allows others`,
    );
  const ignored = unknown.map((name) => `CNI_ARGS ${name}: it is not known`);
  const text = args["IP"] ?? "";
  if (text === "") return { address: undefined, ignored };
  const address = parseAddr(text);
  if (!address.ok)
    throw new CniRefusal(CNI_INVALID_ENVIRONMENT, `CNI_ARGS IP is ${JSON.stringify(text)}, ${address.error.wanted}`);
  return { address: address.value, ignored };
}

/** Attachments that GC must keep, as the CNI specification writes them. Throws CniRefusal: without the list nothing is known to be stale. */
export function readValidAttachments(
  config: Fields,
): readonly { readonly containerId: string; readonly interface: string }[] {
  const field = "cni.dev/valid-attachments";
  const wanted = "a list of objects with containerID and ifname";
  const value = config[field];
  if (!Array.isArray(value)) return refuse(field, value, wanted);
  return value.map((entry: unknown) => {
    const { containerID: containerId, ifname } =
      typeof entry === "object" && entry !== null ? (entry as { containerID?: unknown; ifname?: unknown }) : {};
    if (typeof containerId !== "string" || typeof ifname !== "string") return refuse(field, value, wanted);
    return { containerId, interface: ifname };
  });
}
