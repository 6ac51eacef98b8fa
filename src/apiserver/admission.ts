/**
 * Admission: the rules for Calico's objects and annotations that a schema cannot say, as a list for the API server, which itself knows
 * nothing of Calico. Upstream's client library refuses the same; here kubectl is refused, too.
 */
import { formatParseError } from "../lib/result.ts";
import { validatePodAnnotations } from "../model/kubernetes/pod-annotations.ts";
import type { FieldError } from "../model/schema/field-error.ts";
import { fieldAt, stringAt } from "../model/schema/json.ts";
import { parseSelector } from "../model/selector/parse.ts";
import { parsePrefix, type Prefix, prefixCovers, prefixFamily, prefixLength } from "../net/prefix.ts";
import type { Admission, AdmissionRequest } from "./objects/context.ts";
import type { ApiObject } from "./object.ts";

export const CALICO_ADMISSION: readonly Admission[] = [admitPod, admitPool];

function admitPod({ resource, object, current }: AdmissionRequest): readonly FieldError[] {
  if (resource !== "pods" || current?.metadata.deletionTimestamp !== undefined) return [];
  return validatePodAnnotations(object.metadata.annotations ?? {});
}

const BLOCK_SIZES = { 4: { least: 20, most: 32, usual: 26 }, 6: { least: 116, most: 128, usual: 122 } } as const;

function admitPool({ resource, object, current, list }: AdmissionRequest): readonly FieldError[] {
  if (resource !== "ippools.projectcalico.org") return [];
  const text = stringAt(fieldAt(object, "spec", "cidr"));
  const prefix = parsePrefix(text);
  if (!prefix.ok) return [{ field: "spec.cidr", reason: "Invalid", value: text, detail: prefix.error.wanted }];
  const before = stringAt(fieldAt(current, "spec", "cidr"));
  const errors: FieldError[] = [];
  if (text !== prefix.value && !isSameAddress(text, prefix.value)) errors.push({ field: "spec.cidr", reason: "Invalid", value: text, detail: `host bits must be zero: ${prefix.value}` });
  if (current !== undefined && before !== text) errors.push({ field: "spec.cidr", reason: "Forbidden", value: text, detail: "the range of a pool cannot be changed" });
  errors.push(...checkBlockSize(object, current, prefix.value), ...checkOverlap(object, prefix.value, list("ippools.projectcalico.org", undefined)));
  return [...errors, ...checkSelectors(object)];
}

/** Whether the text is another spelling of the prefix, host bits zero. */
function isSameAddress(text: string, prefix: Prefix): boolean {
  const exact = parsePrefix(`${text.slice(0, text.indexOf("/"))}/${prefixFamily(prefix) === 4 ? 32 : 128}`);
  return exact.ok && exact.value.slice(0, exact.value.indexOf("/")) === prefix.slice(0, prefix.indexOf("/"));
}

function checkBlockSize(pool: ApiObject, current: ApiObject | undefined, prefix: Prefix): FieldError[] {
  const family = prefixFamily(prefix);
  const { least, most, usual } = BLOCK_SIZES[family];
  const given = fieldAt(pool, "spec", "blockSize");
  const size = typeof given === "number" ? given : usual;
  const errors: FieldError[] = [];
  if (size < least || size > most) errors.push({ field: "spec.blockSize", reason: "Invalid", value: size, detail: `must be between ${least} and ${most}, inclusive, for an IPv${family} pool` });
  else if (prefixLength(prefix) > size) errors.push({ field: "spec.cidr", reason: "Invalid", value: prefix, detail: `the pool is smaller than one block: its length must be at most the block size, ${size}` });
  if (current !== undefined) {
    const before = fieldAt(current, "spec", "blockSize");
    if ((typeof before === "number" ? before : usual) !== size) errors.push({ field: "spec.blockSize", reason: "Forbidden", value: size, detail: "the block size of a pool cannot be changed" });
  }
  return errors;
}

function checkOverlap(pool: ApiObject, prefix: Prefix, pools: readonly ApiObject[]): FieldError[] {
  for (const other of pools) {
    if (other.metadata.name === pool.metadata.name) continue;
    const range = parsePrefix(stringAt(fieldAt(other, "spec", "cidr")));
    if (!range.ok || !(prefixCovers(range.value, prefix) || prefixCovers(prefix, range.value))) continue;
    return [{ field: "spec.cidr", reason: "Invalid", value: prefix, detail: `overlaps ${range.value} of the IPPool ${JSON.stringify(other.metadata.name)}` }];
  }
  return [];
}

function checkSelectors(pool: ApiObject): FieldError[] {
  return ["nodeSelector", "namespaceSelector"].flatMap((field): FieldError[] => {
    const text = stringAt(fieldAt(pool, "spec", field));
    const selector = text === "" ? undefined : parseSelector(text);
    return selector === undefined || selector.ok ? [] : [{ field: `spec.${field}`, reason: "Invalid", value: text, detail: formatParseError(selector.error) }];
  });
}
