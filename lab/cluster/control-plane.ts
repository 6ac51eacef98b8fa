/**
 * control-plane: the programs that make up the lab's API: our embedded one, or Kubernetes' own from PATH (`--api kubernetes`); and the
 * cluster's controllers.
 *
 * Kubernetes' API server listens on this machine's loopback; the nodes, which are on a separate network, reach it through
 * `calico-lab forward`. etcd listens on a Unix socket; its unused port for peers is inside the fabric.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { openCredentials } from "../pki/certificates.ts";
import { writeKubeconfig } from "../pki/kubeconfig.ts";
import { type DaemonSpec, prepareDirectories } from "./daemon.ts";
import { etcdMembers } from "./hosts.ts";
import { labExecutable, nodeExecutable } from "./executables.ts";
import { inNetns, type Layout, netnsPath } from "./layout.ts";
import { CommandError, run, tryRun } from "./run.ts";

/** Both APIs assign service addresses from these. */
export const SERVICES4 = "10.96.0.0/16";
export const SERVICES6 = "fd00:96::/112";
export const CALICO_CONTROLLERS = "calico-controllers";
const PROGRAMS = ["etcd", "kube-apiserver", "kube-controller-manager"] as const;
/** The oldest etcd whose watches have progress notifications; without them kube-apiserver 1.34 ends watches that ask for bookmarks. */
const OLDEST_ETCD = [3, 5, 13] as const;

/** The port on loopback, chosen once, so that a kubeconfig stays valid when the API restarts. */
export function hostPort(layout: Layout): number {
  const file = `${layout.directory}/api-port`;
  if (existsSync(file)) return Number(readFileSync(file, "utf8"));
  const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = probe;
  probe.stop(true);
  writeFileSync(file, String(port));
  return port;
}

/** Throws a CommandError that names what is missing, before anything is created. */
export function checkPrograms(): void {
  const missing = PROGRAMS.filter((program) => Bun.which(program) === null);
  const advice = '"make lab-kubernetes" builds them and starts the lab with them';
  if (missing.length > 0)
    throw new CommandError(
      `--api kubernetes needs ${PROGRAMS.join(", ")} on PATH; missing: ${missing.join(", ")}; ${advice}`,
    );
  const version = /etcd Version: (\d+)\.(\d+)\.(\d+)/
    .exec(tryRun(["etcd", "--version"]).stdout)
    ?.slice(1)
    .map(Number) ?? [0, 0, 0];
  const at = OLDEST_ETCD.findIndex((part, i) => part !== version[i]);
  if (at >= 0 && (version[at] ?? 0) < (OLDEST_ETCD[at] ?? 0))
    throw new CommandError(
      `${Bun.which("etcd")} is etcd ${version.join(".")}, must be ${OLDEST_ETCD.join(".")} or newer; ${advice}`,
    );
}

/** Certificates, keys and kubeconfigs of Kubernetes' own API server, which reloads renewed ones; the embedded one creates its own. Call repeatedly to renew certificates that expire soon. */
export function prepareControlPlane(layout: Layout): void {
  if (layout.config.api === "embedded" || layout.config.datastore !== undefined) return;
  prepareDirectories(layout.apiDirectory);
  const { authority, adminToken } = openCredentials(layout.apiDirectory, [layout.apiHost], Date.now());
  writeFileSync(`${layout.apiDirectory}/tokens.csv`, `${adminToken},admin,admin,"system:masters"\n`, { mode: 0o600 });
  const key = `${layout.apiDirectory}/service-account.key`;
  if (!existsSync(key)) run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key]);
  writeKubeconfig(layout.nodeKubeconfig, { server: `https://${layout.apiAddress}`, authority, token: adminToken });
  writeKubeconfig(layout.kubeconfig, { server: `https://127.0.0.1:${hostPort(layout)}`, authority, token: adminToken });
}

export function controlPlane(layout: Layout): readonly DaemonSpec[] {
  if (layout.config.datastore !== undefined) return etcdMembers(layout);
  const api =
    layout.config.api === "embedded"
      ? [embedded(layout)]
      : [etcd(layout), apiserver(layout), controllerManager(layout), forwarder(layout)];
  return [...api, calicoControllers(layout)];
}

function calicoControllers(layout: Layout): DaemonSpec {
  return {
    name: CALICO_CONTROLLERS,
    cgroup: `${layout.cgroup}/${CALICO_CONTROLLERS}`,
    ready: () => existsSync(layout.kubeconfig),
    command: [nodeExecutable(), "controllers", "--kubeconfig", layout.kubeconfig],
  };
}

function embedded(layout: Layout): DaemonSpec {
  const nodeListen = `netns:${netnsPath(layout.fabricNetns)}@${layout.apiAddress}`;
  return {
    name: "api",
    cgroup: `${layout.cgroup}/api`,
    command: [
      labExecutable(),
      "apiserver",
      "--data-dir",
      layout.apiDirectory,
      "--listen",
      `127.0.0.1:${hostPort(layout)}`,
      "--listen",
      nodeListen,
      "--kubeconfig-out",
      layout.kubeconfig,
      "--kubeconfig-out",
      `${layout.nodeKubeconfig}=1`,
    ],
  };
}

function flags(values: Readonly<Record<string, string>>): readonly string[] {
  return Object.entries(values).map(([name, value]) => `--${name}=${value}`);
}

function etcdSocket(layout: Layout): string {
  return `${layout.apiDirectory}/etcd.sock`;
}

function etcd(layout: Layout): DaemonSpec {
  const peer = "http://127.0.0.1:2380";
  const options = {
    name: "lab",
    "data-dir": `${layout.apiDirectory}/etcd`,
    "listen-client-urls": `unix://${etcdSocket(layout)}`,
    // The advertised address must have a port.
    "advertise-client-urls": "http://127.0.0.1:2379",
    "listen-peer-urls": peer,
    "initial-advertise-peer-urls": peer,
    "initial-cluster": `lab=${peer}`,
    // A lab's objects need not survive the machine.
    "unsafe-no-fsync": "true",
    "log-level": "warn",
  };
  return {
    name: "etcd",
    cgroup: `${layout.cgroup}/etcd`,
    command: inNetns(netnsPath(layout.fabricNetns), ["etcd", ...flags(options)]),
  };
}

function apiserver(layout: Layout): DaemonSpec {
  const { ipv4, ipv6 } = layout.config;
  const key = `${layout.apiDirectory}/service-account.key`;
  const options = {
    "etcd-servers": `unix://${etcdSocket(layout)}`,
    "bind-address": "127.0.0.1",
    "secure-port": String(hostPort(layout)),
    "advertise-address": layout.apiHost,
    // It does not listen on the address that it would write into the service `kubernetes`.
    "endpoint-reconciler-type": "none",
    "service-cluster-ip-range": [...(ipv4 ? [SERVICES4] : []), ...(ipv6 ? [SERVICES6] : [])].join(","),
    "service-account-issuer": "https://kubernetes.default.svc",
    "service-account-key-file": key,
    "service-account-signing-key-file": key,
    "client-ca-file": `${layout.apiDirectory}/ca.crt`,
    "tls-cert-file": `${layout.apiDirectory}/serving.crt`,
    "tls-private-key-file": `${layout.apiDirectory}/serving.key`,
    "token-auth-file": `${layout.apiDirectory}/tokens.csv`,
    "authorization-mode": "RBAC",
    "allow-privileged": "true",
    // Only the node lifecycle controller would remove node taints, and it needs a kubelet's leases.
    "disable-admission-plugins": "TaintNodesByCondition",
  };
  return {
    name: "api",
    cgroup: `${layout.cgroup}/api`,
    ready: () => existsSync(etcdSocket(layout)),
    command: ["kube-apiserver", ...flags(options)],
  };
}

function controllerManager(layout: Layout): DaemonSpec {
  const options = {
    kubeconfig: layout.kubeconfig,
    "service-account-private-key-file": `${layout.apiDirectory}/service-account.key`,
    "root-ca-file": `${layout.apiDirectory}/ca.crt`,
    "leader-elect": "false",
    "secure-port": "0",
    controllers: "*,-node-lifecycle-controller,-taint-eviction-controller",
  };
  return {
    name: "controllers",
    cgroup: `${layout.cgroup}/controllers`,
    ready: () => existsSync(etcdSocket(layout)),
    command: ["kube-controller-manager", ...flags(options)],
  };
}

function forwarder(layout: Layout): DaemonSpec {
  return {
    name: "forward",
    cgroup: `${layout.cgroup}/forward`,
    command: [labExecutable(), "forward", "--name", layout.config.name],
  };
}
