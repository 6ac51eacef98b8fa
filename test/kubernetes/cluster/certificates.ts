/** certificates: the cluster's own authority and what it issues, by openssl; valid for days, kept in one folder. */
import { writeFileSync } from "node:fs";
import { API_ADDRESS, API_ADDRESS6, API_PORT, type Layout } from "./layout.ts";
import { run } from "./run.ts";

export interface Issued {
  readonly certificate: string;
  readonly key: string;
}

const DAYS = "7";

/** The paths of what `issue` made under a name. */
export function issued(layout: Layout, name: string): Issued {
  return { certificate: `${layout.pki}/${name}.crt`, key: `${layout.pki}/${name}.key` };
}

/** A key and a certificate for it, by the authority, or by itself. */
async function make(
  { certificate, key }: Issued,
  subject: string,
  extensions: readonly string[],
  authority?: Issued,
): Promise<void> {
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key];
  const by = authority === undefined ? [] : ["-CA", authority.certificate, "-CAkey", authority.key];
  const options = extensions.flatMap((extension) => ["-addext", extension]);
  await run([
    "openssl",
    "req",
    "-x509",
    ...newKey,
    "-days",
    DAYS,
    "-subj",
    subject,
    ...by,
    ...options,
    "-out",
    certificate,
  ]);
}

function issue(layout: Layout, name: string, subject: string, names: readonly string[] = []): Promise<void> {
  const extensions = [
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=digitalSignature",
    "extendedKeyUsage=clientAuth,serverAuth",
    ...(names.length === 0 ? [] : [`subjectAltName=${names.join(",")}`]),
  ];
  return make(issued(layout, name), subject, extensions, issued(layout, "ca"));
}

/** Makes every certificate of the cluster. */
export async function makeCertificates(layout: Layout): Promise<void> {
  await make(issued(layout, "ca"), "/CN=calico-test-kubernetes", [
    "basicConstraints=critical,CA:TRUE",
    "keyUsage=keyCertSign,cRLSign",
  ]);
  const apiNames = [
    "IP:127.0.0.1",
    `IP:${API_ADDRESS}`,
    `IP:${API_ADDRESS6}`,
    "IP:10.96.0.1",
    "IP:fd00:96::1",
    "DNS:kubernetes",
    "DNS:kubernetes.default",
    "DNS:kubernetes.default.svc",
  ];
  await Promise.all([
    issue(layout, "apiserver", "/CN=kube-apiserver", apiNames),
    issue(layout, "admin", "/O=system:masters/CN=admin"),
    issue(layout, "controller-manager", "/CN=system:kube-controller-manager"),
    issue(layout, "scheduler", "/CN=system:kube-scheduler"),
    issue(layout, "apiserver-kubelet", "/O=system:masters/CN=kube-apiserver-kubelet-client"),
    issue(layout, "front-proxy", "/CN=front-proxy-client"),
    ...layout.nodes.flatMap((node) => [
      issue(layout, `kubelet-${node.name}`, `/O=system:nodes/CN=system:node:${node.name}`),
      issue(layout, `serving-${node.name}`, `/CN=${node.name}`, [
        `DNS:${node.name}`,
        ...node.addresses.map((address) => `IP:${address}`),
      ]),
    ]),
    run(["openssl", "genrsa", "-out", `${layout.pki}/service-account.key`, "2048"]),
  ]);
  await run([
    "openssl",
    "rsa",
    "-in",
    `${layout.pki}/service-account.key`,
    "-pubout",
    "-out",
    `${layout.pki}/service-account.pub`,
  ]);
}

/** Writes a kubeconfig whose user is `user` (JSON is YAML too); `port` is where the API server, or what stands before it, listens. */
export function writeKubeconfig(
  layout: Layout,
  path: string,
  user: Readonly<Record<string, string>>,
  port = API_PORT,
): void {
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "cluster",
        cluster: {
          server: `https://${API_ADDRESS}:${port}`,
          "certificate-authority": issued(layout, "ca").certificate,
        },
      },
    ],
    users: [{ name: "user", user }],
    contexts: [{ name: "context", context: { cluster: "cluster", user: "user" } }],
    "current-context": "context",
  };
  writeFileSync(path, JSON.stringify(config, undefined, 2), { mode: 0o600 });
}

/** A kubeconfig with a certificate that `makeCertificates` issued; its path. */
export function certificateKubeconfig(layout: Layout, name: string): string {
  const path = `${layout.directory}/${name}.kubeconfig`;
  const { certificate, key } = issued(layout, name);
  writeKubeconfig(layout, path, { "client-certificate": certificate, "client-key": key });
  return path;
}
