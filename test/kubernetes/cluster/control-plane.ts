/** control-plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler: their command lines. All live in the fabric's namespace. */
import { writeFileSync } from "node:fs";
import type { Binaries } from "../build/binaries.ts";
import { certificateKubeconfig, issued } from "./certificates.ts";
import type { DaemonSpec } from "./daemons.ts";
import { API_ADDRESS, API_PORT, inNetns, type Layout, SERVICE_RANGES } from "./layout.ts";

const ETCD = "http://127.0.0.1:2379";
const ETCD_PEER = "http://127.0.0.1:2380";

function flags(values: Readonly<Record<string, string>>): readonly string[] {
  return Object.entries(values).map(([name, value]) => `--${name}=${value}`);
}

export function etcd(layout: Layout, binaries: Binaries): DaemonSpec {
  const options = {
    name: "test",
    "data-dir": `${layout.directory}/etcd`,
    "listen-client-urls": ETCD,
    "advertise-client-urls": ETCD,
    "listen-peer-urls": ETCD_PEER,
    "initial-advertise-peer-urls": ETCD_PEER,
    "initial-cluster": `test=${ETCD_PEER}`,
    "unsafe-no-fsync": "true",
    "log-level": "warn",
  };
  return { name: "etcd", command: inNetns(layout.fabric, [binaries.etcd, ...flags(options)]) };
}

const AUDITED = ["calico-node", "calico-controllers"].map((name) => `system:serviceaccount:kube-system:${name}`);

/** Notes what `calico node` and `calico controllers` ask, and nothing else. */
function auditPolicy(layout: Layout): string {
  const path = `${layout.directory}/audit-policy.json`;
  const policy = {
    apiVersion: "audit.k8s.io/v1",
    kind: "Policy",
    omitStages: ["RequestReceived"],
    rules: [{ level: "Metadata", users: AUDITED }, { level: "None" }],
  };
  writeFileSync(path, JSON.stringify(policy));
  return path;
}

export function apiserver(layout: Layout, binaries: Binaries): DaemonSpec {
  const serving = issued(layout, "apiserver");
  const kubelet = issued(layout, "apiserver-kubelet");
  const proxy = issued(layout, "front-proxy");
  const ca = issued(layout, "ca").certificate;
  const options = {
    "etcd-servers": ETCD,
    "bind-address": "0.0.0.0",
    "secure-port": String(API_PORT),
    "advertise-address": API_ADDRESS,
    "service-cluster-ip-range": SERVICE_RANGES.join(","),
    "service-account-issuer": "https://kubernetes.default.svc",
    "service-account-key-file": `${layout.pki}/service-account.pub`,
    "service-account-signing-key-file": `${layout.pki}/service-account.key`,
    "client-ca-file": ca,
    "tls-cert-file": serving.certificate,
    "tls-private-key-file": serving.key,
    "authorization-mode": "Node,RBAC",
    "allow-privileged": "true",
    // Otherwise logs and exec look node names up in DNS.
    "kubelet-preferred-address-types": "InternalIP",
    "kubelet-certificate-authority": ca,
    "kubelet-client-certificate": kubelet.certificate,
    "kubelet-client-key": kubelet.key,
    "requestheader-client-ca-file": ca,
    "requestheader-allowed-names": "front-proxy-client",
    "requestheader-username-headers": "X-Remote-User",
    "requestheader-group-headers": "X-Remote-Group",
    "requestheader-extra-headers-prefix": "X-Remote-Extra-",
    "proxy-client-cert-file": proxy.certificate,
    "proxy-client-key-file": proxy.key,
    "audit-policy-file": auditPolicy(layout),
    "audit-log-path": layout.auditLog,
  };
  return { name: "kube-apiserver", command: inNetns(layout.fabric, [binaries.apiserver, ...flags(options)]) };
}

export function controllerManager(layout: Layout, binaries: Binaries): DaemonSpec {
  const kubeconfig = certificateKubeconfig(layout, "controller-manager");
  const options = {
    kubeconfig,
    "service-account-private-key-file": `${layout.pki}/service-account.key`,
    "root-ca-file": issued(layout, "ca").certificate,
    "use-service-account-credentials": "true",
    "leader-elect": "false",
    "service-cluster-ip-range": SERVICE_RANGES.join(","),
    "secure-port": "0",
  };
  return {
    name: "kube-controller-manager",
    command: inNetns(layout.fabric, [binaries.controllerManager, ...flags(options)]),
  };
}

export function scheduler(layout: Layout, binaries: Binaries): DaemonSpec {
  const kubeconfig = certificateKubeconfig(layout, "scheduler");
  const options = { kubeconfig, "leader-elect": "false", "secure-port": "0" };
  return { name: "kube-scheduler", command: inNetns(layout.fabric, [binaries.scheduler, ...flags(options)]) };
}
