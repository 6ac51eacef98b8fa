/**
 * PodAnnotations: the annotations with which a Pod, or its Namespace, requests addresses from Calico, and their validation.
 *
 * Source: upstream cni-plugin pkg/ipamplugin and pkg/k8s (`cni.projectcalico.org/…`).
 */
import { parseAddr, familyOf, type Family } from "../../net/addr.ts";
import { parseNet, parsePrefix, prefixFamily } from "../../net/prefix.ts";
import type { FieldError } from "../schema/field-error.ts";

export const IP_ADDRS_ANNOTATION = "cni.projectcalico.org/ipAddrs";
export const IPV4_POOLS_ANNOTATION = "cni.projectcalico.org/ipv4pools";
export const IPV6_POOLS_ANNOTATION = "cni.projectcalico.org/ipv6pools";
export const IP_FAMILIES_ANNOTATION = "cni.projectcalico.org/ipFamilies";
export const SOURCES_ANNOTATION = "cni.projectcalico.org/allowedSourcePrefixes";
export const MAC_ANNOTATION = "cni.projectcalico.org/hwAddr";

const POOL_NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const MAC = /^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$/;

/** All errors in the annotations that Calico reads; paths `metadata.annotations[cni.projectcalico.org/ipAddrs]`. */
export function validatePodAnnotations(annotations: Readonly<Record<string, string>>): FieldError[] {
  return Object.entries(annotations).flatMap(([name, text]) => validateOne(name, text));
}

function validateOne(name: string, text: string): FieldError[] {
  switch (name) {
    case IP_ADDRS_ANNOTATION:
      return validateAddresses(name, text);
    case IPV4_POOLS_ANNOTATION:
      return validatePools(name, text, 4);
    case IPV6_POOLS_ANNOTATION:
      return validatePools(name, text, 6);
    case IP_FAMILIES_ANNOTATION:
      return validateFamilies(name, text);
    case SOURCES_ANNOTATION:
      return validateSources(name, text);
    case MAC_ANNOTATION:
      return MAC.test(text)
        ? validateUnicast(name, text)
        : [invalid(name, text, "must be a MAC address such as 1a:2b:3c:4d:5e:6f")];
    default:
      return [];
  }
}

function invalid(name: string, text: string, detail: string): FieldError {
  return { field: `metadata.annotations[${name}]`, reason: "Invalid", value: text, detail };
}

/** The list of strings in the annotation; undefined: it is none. */
export function parseList(text: string): readonly string[] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  return Array.isArray(value) && value.every((entry) => typeof entry === "string") ? value : undefined;
}

/** At most one address of each family. */
function validateAddresses(name: string, text: string): FieldError[] {
  const list = parseList(text);
  if (list === undefined)
    return [invalid(name, text, 'must be a JSON list of addresses such as ["10.0.0.1", "fd00::1"]')];
  if (list.length === 0) return [invalid(name, text, "must name at least one address")];
  const errors: FieldError[] = [];
  const families = new Set<Family>();
  for (const entry of list) {
    const addr = parseAddr(entry);
    if (!addr.ok) errors.push(invalid(name, text, `${JSON.stringify(entry)} ${addr.error.wanted}`));
    else if (families.has(familyOf(addr.value)))
      errors.push(invalid(name, text, `must name at most one IPv${familyOf(addr.value)} address`));
    else families.add(familyOf(addr.value));
  }
  return errors;
}

function validatePools(name: string, text: string, family: Family): FieldError[] {
  const list = parseList(text);
  if (list === undefined)
    return [
      invalid(
        name,
        text,
        `must be a JSON list of names or ranges of IPv${family} pools such as ["${family === 4 ? "10.0.0.0/16" : "fd00::/64"}"]`,
      ),
    ];
  return list.flatMap((entry) => {
    if (!entry.includes("/"))
      return POOL_NAME.test(entry) && entry.length <= 253
        ? []
        : [invalid(name, text, `${JSON.stringify(entry)} is neither the name of a pool nor a range`)];
    const prefix = parsePrefix(entry);
    if (!prefix.ok) return [invalid(name, text, `${JSON.stringify(entry)}: ${prefix.error.wanted}`)];
    return prefixFamily(prefix.value) === family
      ? []
      : [
          invalid(
            name,
            text,
            `${JSON.stringify(entry)} is an IPv${prefixFamily(prefix.value)} range, must be IPv${family}`,
          ),
        ];
  });
}

function validateSources(name: string, text: string): FieldError[] {
  const list = parseList(text);
  if (list === undefined)
    return [invalid(name, text, 'must be a JSON list of ranges such as ["192.0.2.0/24", "2001:db8::/64"]')];
  return list.flatMap((entry) => {
    const net = parseNet(entry);
    return net.ok ? [] : [invalid(name, text, `${JSON.stringify(entry)} ${net.error.wanted}`)];
  });
}

function validateFamilies(name: string, text: string): FieldError[] {
  const list = parseList(text);
  const valid = list !== undefined && list.length > 0 && list.every((entry) => entry === "IPv4" || entry === "IPv6");
  return valid ? [] : [invalid(name, text, 'must be a JSON list of "IPv4" and "IPv6"')];
}

/** An interface cannot have a group address. */
function validateUnicast(name: string, text: string): FieldError[] {
  return (Number.parseInt(text.slice(0, 2), 16) & 1) === 1
    ? [invalid(name, text, "must be a unicast address: the lowest bit of the first byte must be 0")]
    : [];
}
