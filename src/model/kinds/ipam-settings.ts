/**
 * Settings of address management: IPAMConfiguration `default` (how nodes get blocks) and IPReservation (addresses that are assigned only
 * on request). Upstream: api/pkg/apis/projectcalico/v3/{ipamconfig,ipreservation}.go.
 */
import { fail, ok, type Result } from "../../lib/result.ts";
import { parseAddr } from "../../net/addr.ts";
import { parsePrefix, type Prefix, prefixOfAddr } from "../../net/prefix.ts";
import type { Key } from "../key.ts";
import { ONLY_DEFAULT } from "./cluster.ts";
import type { FieldError } from "../schema/field-error.ts";
import type { Schema } from "../schema/schema.ts";
import { META } from "./common.ts";

export interface IPAMConfigurationSpec {
  strictAffinity?: boolean;
  maxBlocksPerHost?: number;
  autoAllocateBlocks?: boolean;
}

export interface IPReservationSpec {
  reservedCIDRs?: string[];
}

export const IPAM_CONFIGURATION: Key<"IPAMConfiguration"> = {
  kind: "IPAMConfiguration",
  namespace: undefined,
  name: "default",
};

export interface IpamSettings {
  /** A node takes no address from a block that it does not own. */
  readonly strictAffinity: boolean;
  /** Blocks that a node may own in each family. */
  readonly blockLimit: number;
  /** Nodes claim blocks automatically. */
  readonly autoAllocateBlocks: boolean;
}

const BLOCK_LIMIT = 20;
const MOST_BLOCKS = 1_000_000;

/** An absent object means the defaults. */
export function ipamSettingsOf(
  configuration: { readonly spec?: IPAMConfigurationSpec } | undefined,
): Result<IpamSettings, FieldError> {
  const spec: Readonly<Record<string, unknown>> = { ...configuration?.spec };
  const strictAffinity = spec["strictAffinity"] ?? false;
  if (typeof strictAffinity !== "boolean")
    return invalid("spec.strictAffinity", strictAffinity, "must be true or false");
  const autoAllocateBlocks = spec["autoAllocateBlocks"] ?? true;
  if (typeof autoAllocateBlocks !== "boolean")
    return invalid("spec.autoAllocateBlocks", autoAllocateBlocks, "must be true or false");
  const blocks = spec["maxBlocksPerHost"] ?? 0;
  if (typeof blocks !== "number" || !Number.isInteger(blocks) || blocks < 0 || blocks > MOST_BLOCKS)
    return invalid("spec.maxBlocksPerHost", blocks, `must be an integer from 0 to ${MOST_BLOCKS}`);
  if (!strictAffinity && !autoAllocateBlocks)
    return invalid("spec.autoAllocateBlocks", autoAllocateBlocks, "must be true unless strictAffinity is true");
  if (!strictAffinity && blocks > 0)
    return invalid("spec.maxBlocksPerHost", blocks, "must be 0 unless strictAffinity is true");
  return ok({ strictAffinity, blockLimit: blocks === 0 ? BLOCK_LIMIT : blocks, autoAllocateBlocks });
}

/** The ranges of a reservation (a single address is a range of one), and the errors of the entries that are left out. */
export function reservedRangesOf(reservation: { readonly spec?: IPReservationSpec }): {
  readonly ranges: readonly Prefix[];
  readonly errors: readonly FieldError[];
} {
  const listed: unknown = reservation.spec?.reservedCIDRs ?? [];
  if (!Array.isArray(listed))
    return {
      ranges: [],
      errors: [{ field: "spec.reservedCIDRs", reason: "Invalid", value: listed, detail: "must be a list" }],
    };
  const ranges: Prefix[] = [];
  const errors: FieldError[] = [];
  listed.forEach((text: unknown, i) => {
    const range = typeof text === "string" ? rangeOf(text) : undefined;
    if (range === undefined)
      errors.push({
        field: `spec.reservedCIDRs[${i}]`,
        reason: "Invalid",
        value: text,
        detail: "must be a range such as 10.0.0.0/30 or an address such as fd00::1",
      });
    else ranges.push(range);
  });
  return { ranges, errors };
}

function rangeOf(text: string): Prefix | undefined {
  const prefix = parsePrefix(text);
  if (prefix.ok) return prefix.value;
  const addr = parseAddr(text);
  return addr.ok ? prefixOfAddr(addr.value) : undefined;
}

function invalid(field: string, value: unknown, detail: string): { readonly ok: false; readonly error: FieldError } {
  return fail({ field, reason: "Invalid", value, detail });
}

export const IPAM_CONFIGURATION_SCHEMA = {
  type: "object",
  description: "How nodes get blocks of addresses.",
  required: ["metadata", "spec"],
  "x-kubernetes-validations": ONLY_DEFAULT,
  properties: {
    ...META,
    spec: {
      type: "object",
      "x-kubernetes-validations": [
        {
          rule: "self.strictAffinity || self.autoAllocateBlocks",
          message: "must be true unless strictAffinity is true",
          fieldPath: ".autoAllocateBlocks",
        },
        {
          rule: "self.strictAffinity || !has(self.maxBlocksPerHost) || self.maxBlocksPerHost == 0",
          message: "must be 0 unless strictAffinity is true",
          fieldPath: ".maxBlocksPerHost",
        },
      ],
      properties: {
        autoAllocateBlocks: {
          type: "boolean",
          description: "Whether nodes claim blocks automatically.",
          default: true,
        },
        ipCooldownSeconds: {
          type: "integer",
          description: "How long a released address rests before it is used again.",
          format: "int32",
          minimum: 0,
          maximum: 1200,
        },
        kubeVirtVMAddressPersistence: {
          type: "string",
          description: "Whether virtual machines keep their addresses.",
          enum: ["Enabled", "Disabled"],
        },
        maxBlocksPerHost: {
          type: "integer",
          description: "Blocks that a node may own in each family; 0 means 20.",
          format: "int32",
          minimum: 0,
          maximum: MOST_BLOCKS,
          default: 0,
        },
        strictAffinity: {
          type: "boolean",
          description: "True: a node takes no address from a block that it does not own.",
          default: false,
        },
      },
    },
  },
} as const satisfies Schema;

export const IP_RESERVATION_SCHEMA = {
  type: "object",
  description: "Addresses that pods get only on request. Those in use stay in use.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: {
      type: "object",
      properties: {
        reservedCIDRs: {
          type: "array",
          description: "Ranges such as 10.0.0.0/30, or single addresses.",
          maxItems: 4096,
          "x-kubernetes-list-type": "set",
          items: {
            type: "string",
            maxLength: 48,
            "x-kubernetes-validations": [
              {
                rule: "isCIDR(self) || isIP(self)",
                message: "must be a range such as 10.0.0.0/30 or an address such as fd00::1",
              },
            ],
          },
        },
      },
    },
  },
} as const satisfies Schema;
