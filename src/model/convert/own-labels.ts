/** Own labels: the labels of an object that is no pod. It cannot pretend to be in a namespace, to be a pod, or to have inherited labels: such labels are dropped. */
import { fail, ok, type ParseError, type Result } from "../../lib/result.ts";
import {
  NAMESPACE_LABEL,
  NAMESPACE_PREFIX,
  ORCHESTRATOR_LABEL,
  SERVICE_ACCOUNT_LABEL,
  SERVICE_ACCOUNT_PREFIX,
} from "../labels.ts";
import type { ObjectMeta } from "../resource.ts";

const RESERVED: readonly string[] = [NAMESPACE_LABEL, ORCHESTRATOR_LABEL, SERVICE_ACCOUNT_LABEL];

/** Fails on a value that is not text. */
export function ownLabelsOf(metadata: ObjectMeta): Result<Map<string, string>, ParseError> {
  for (const [name, value] of Object.entries<unknown>(metadata.labels ?? {}))
    if (typeof value !== "string")
      return fail({ what: `value of label ${name}`, found: JSON.stringify(value), wanted: "must be a string" });
  return ok(withoutReserved(Object.entries(metadata.labels ?? {})));
}

export function withoutReserved(labels: readonly (readonly [string, string])[]): Map<string, string> {
  const isReserved = (name: string): boolean =>
    name.startsWith(NAMESPACE_PREFIX) || name.startsWith(SERVICE_ACCOUNT_PREFIX) || RESERVED.includes(name);
  return new Map(labels.filter(([name]) => !isReserved(name)));
}
