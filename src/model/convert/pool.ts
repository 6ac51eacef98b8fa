/** Pool: converts an IPPool to a row, with defaults filled in. A pool that does not convert gives no addresses and is reported. */
import { fail, formatParseError, ok, type Result } from "../../lib/result.ts";
import { bitsOf, type Family } from "../../net/addr.ts";
import { parsePrefix, type Prefix, prefixFamily, prefixLength } from "../../net/prefix.ts";
import type { Resource } from "../resource.ts";
import type { FieldError } from "../schema/field-error.ts";
import { parseSelector } from "../selector/parse.ts";
import type { Selector } from "../selector/selector.ts";

export interface PoolRow {
  readonly name: string;
  readonly prefix: Prefix;
  readonly family: Family;
  /** Prefix length of a block. */
  readonly blockSize: number;
  readonly disabled: boolean;
  /** Whether its routes are announced to other nodes. */
  readonly exported: boolean;
  /** Whether it serves only pods that name it. */
  readonly manual: boolean;
  /** Whether its addresses may be assigned to pods. */
  readonly forWorkloads: boolean;
  /** Selects, by labels of the Namespace, the namespaces whose pods get its addresses without naming it; undefined: all. */
  readonly namespaceSelector: Selector | undefined;
  /** Selects, by labels of the Node, the nodes that may take blocks. */
  readonly nodeSelector: Selector;
}

/** Shortest and longest prefix of a block, and the default. Upstream: libcalico-go/lib/validator/v3. */
const BLOCK_SIZES = { 4: { least: 20, most: 32, usual: 26 }, 6: { least: 116, most: 128, usual: 122 } } as const;

export function poolRowOf(pool: Resource<"IPPool">): Result<PoolRow, FieldError> {
  const spec: Readonly<Record<string, unknown>> = { ...pool.spec };
  const cidr = spec["cidr"];
  if (typeof cidr !== "string") return invalid("spec.cidr", cidr, "must be CIDR text such as 10.0.0.0/16 or fd00::/48");
  const prefix = parsePrefix(cidr);
  if (!prefix.ok) return invalid("spec.cidr", cidr, prefix.error.wanted);
  const family = prefixFamily(prefix.value);
  const { least, most, usual } = BLOCK_SIZES[family];
  // 0 and absent both mean the default: upstream's type cannot distinguish them.
  const given = spec["blockSize"] === undefined || spec["blockSize"] === 0 ? usual : spec["blockSize"];
  if (typeof given !== "number" || !Number.isInteger(given) || given < least || given > most) {
    return invalid(
      "spec.blockSize",
      given,
      `must be between ${least} and ${most}, inclusive, for an IPv${family} pool`,
    );
  }
  if (given < prefixLength(prefix.value))
    return invalid(
      "spec.blockSize",
      given,
      `must be between ${prefixLength(prefix.value)} (the pool's own length) and ${bitsOf(family)}`,
    );
  const disabled = spec["disabled"] ?? false;
  if (typeof disabled !== "boolean") return invalid("spec.disabled", disabled, "must be true or false");
  const unexported = spec["disableBGPExport"] ?? false;
  if (typeof unexported !== "boolean") return invalid("spec.disableBGPExport", unexported, "must be true or false");
  const mode = spec["assignmentMode"] ?? "Automatic";
  if (mode !== "Automatic" && mode !== "Manual")
    return invalid("spec.assignmentMode", mode, "must be Automatic or Manual");
  // Absent or empty means Workload and Tunnel.
  const uses = spec["allowedUses"] ?? [];
  if (!Array.isArray(uses))
    return invalid("spec.allowedUses", uses, "must be a list of Workload, Tunnel and LoadBalancer");
  const namespaces = selectorOf(spec, "namespaceSelector");
  if (!namespaces.ok) return namespaces;
  const nodes = selectorOf(spec, "nodeSelector");
  if (!nodes.ok) return nodes;
  return ok({
    name: pool.metadata.name,
    prefix: prefix.value,
    family,
    blockSize: given,
    disabled,
    exported: !unexported,
    manual: mode === "Manual",
    forWorkloads: uses.length === 0 || uses.includes("Workload"),
    namespaceSelector: namespaces.value.op === "all" ? undefined : namespaces.value,
    nodeSelector: nodes.value,
  });
}

/** An absent or empty selector selects all. */
function selectorOf(
  spec: Readonly<Record<string, unknown>>,
  field: "nodeSelector" | "namespaceSelector",
): Result<Selector, FieldError> {
  const text = spec[field] ?? "";
  if (typeof text !== "string") return invalid(`spec.${field}`, text, "must be a selector such as all()");
  const selector = parseSelector(text === "" ? "all()" : text);
  return selector.ok ? selector : invalid(`spec.${field}`, text, formatParseError(selector.error));
}

function invalid(field: string, value: unknown, detail: string): { readonly ok: false; readonly error: FieldError } {
  return fail({ field, reason: "Invalid", value, detail });
}
