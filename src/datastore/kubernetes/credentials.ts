/** Credentials: the access to the API server that a process uses: from the kubeconfig it was given, or from the pod it runs in. */
import type { Files } from "../../host/files.ts";
import { fail, type ParseError, type Result } from "../../lib/result.ts";
import { inClusterAccess, type KubernetesAccess, parseKubeconfig } from "./kubeconfig.ts";

/**
 * The access that the kubeconfig file at `path` describes, of the context named or its current one; without a path, that of the pod
 * (environment and service account volume). Fails when the file is missing or unusable, or when there is no path and the process does not run in a pod.
 */
export async function kubernetesCredentials(
  path: string | undefined,
  files: Files,
  environment: Readonly<Record<string, string | undefined>>,
  context?: string,
): Promise<Result<KubernetesAccess, ParseError>> {
  if (path === undefined || path === "") return inClusterAccess(environment);
  const text = await files.readText(path);
  if (text === undefined) return fail({ what: "kubeconfig", found: path, wanted: "the file does not exist" });
  return parseKubeconfig(text, {
    directory: path.slice(0, Math.max(0, path.lastIndexOf("/"))) || (path.startsWith("/") ? "/" : "."),
    ...(context === undefined ? {} : { context }),
  });
}
