/** Profile: the labels that endpoints inherit from their Namespace or ServiceAccount. */
import { NAME_LABEL, type NAMESPACE_PREFIX, type SERVICE_ACCOUNT_PREFIX } from "../labels.ts";

/** Labels as selectors see them, prefix included. */
export type ProfileLabels = ReadonlyMap<string, string>;

/** The object's labels, prefixed, and its name, which its own labels cannot overwrite. */
export function inheritedLabels(
  prefix: typeof NAMESPACE_PREFIX | typeof SERVICE_ACCOUNT_PREFIX,
  name: string,
  labels: Readonly<Record<string, string>> | undefined,
): ProfileLabels {
  const inherited = new Map<string, string>();
  for (const [label, value] of Object.entries(labels ?? {})) inherited.set(prefix + label, String(value));
  return inherited.set(prefix + NAME_LABEL, name);
}
