/** Kubeconfig: the file with which kubectl and the product's own programs reach an API server of ours as its administrator. */
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { dump } from "js-yaml";

export interface KubeconfigContent {
  /** `https://10.0.0.1:6443`. */
  readonly server: string;
  /** PEM of the authority. */
  readonly authority: string;
  readonly token: string;
}

function formatKubeconfig(content: KubeconfigContent): string {
  const name = "calico";
  return dump({
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name,
        cluster: {
          server: content.server,
          "certificate-authority-data": Buffer.from(content.authority).toString("base64"),
        },
      },
    ],
    users: [{ name, user: { token: content.token } }],
    contexts: [{ name, context: { cluster: name, user: name } }],
    "current-context": name,
  });
}

/** Replaces the file in one step, readable by its owner only. */
export function writeKubeconfig(path: string, content: KubeconfigContent): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, formatKubeconfig(content), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
