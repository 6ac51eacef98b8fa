/** Paths: the URL paths of the API server for our kinds. Source: https://kubernetes.io/docs/reference/using-api/api-concepts/ */
import { KINDS, type Kind } from "../../model/kind.ts";
import type { Key } from "../../model/key.ts";

/** `/api/v1/namespaces/NS/pods`, `/api/v1/pods` (all namespaces) or `/apis/projectcalico.org/v3/ippools`. */
export function collectionPath(
  kind: Kind,
  namespace: string | undefined,
  { apiVersion, plural }: { readonly apiVersion: string; readonly plural: string } = KINDS[kind],
): string {
  const { namespaced } = KINDS[kind];
  const root = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  return namespaced && namespace !== undefined
    ? `${root}/namespaces/${encodeURIComponent(namespace)}/${plural}`
    : `${root}/${plural}`;
}

export function objectPath(key: Key, place?: Parameters<typeof collectionPath>[2]): string {
  return `${collectionPath(key.kind, key.namespace, place)}/${encodeURIComponent(key.name)}`;
}

/**
 * Where annotations are patched with the least permission. The status of a Pod accepts annotations too (the server ignores the spec
 * there), so the permission to annotate pods does not include changing what they run. No other annotated kind has such a subresource.
 */
export function annotationPath(key: Key): string {
  return key.kind === "Pod" || key.kind === "Node" ? `${objectPath(key)}/status` : objectPath(key);
}

/** `?a=b&c=d`, empty without parameters; undefined values are left out. */
export function queryText(parameters: Readonly<Record<string, string | undefined>>): string {
  const parts = Object.entries(parameters).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${encodeURIComponent(value)}`],
  );
  return parts.length === 0 ? "" : `?${parts.join("&")}`;
}

/** `a=b,c=d`, or undefined without labels. */
export function labelSelectorText(labels: Readonly<Record<string, string>> | undefined): string | undefined {
  const entries = Object.entries(labels ?? {});
  return entries.length === 0 ? undefined : entries.map(([name, value]) => `${name}=${value}`).join(",");
}
