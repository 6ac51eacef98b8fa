/**
 * NetworkPolicy validation: all errors in the `spec` of a networking.k8s.io/v1 NetworkPolicy, with kube-apiserver's messages and field
 * paths, for admission, for Events and for the conversion, which must not guess.
 *
 * Stricter than kube-apiserver in two points, each of which would make a rule wider than written: unknown fields are refused, and so
 * are nulls inside lists. A field that is null counts as absent, as in Go.
 * Source of the messages: kubernetes pkg/apis/networking/validation, apimachinery pkg/util/validation.
 */
import { type LegacyPrefix, parseLegacyPrefix } from "../../net/legacy-prefix.ts";
import { prefixCovers } from "../../net/prefix.ts";
import type { FieldError } from "../schema/field-error.ts";
import { checkFields, checkList, checkObject, wrongType } from "./fields.ts";
import { checkLabelSelector } from "./label-selector.ts";

const PROTOCOLS = ["TCP", "UDP", "SCTP"];
const POLICY_TYPES = ["Ingress", "Egress"];

/** Empty when the object's spec is valid. Metadata is not checked here: its rules are the same for every kind. */
export function validateNetworkPolicy(object: unknown): FieldError[] {
  const errors: FieldError[] = [];
  const policy = checkObject(object, "<nil>", errors);
  if (policy === undefined) return errors;
  checkFields(policy, "", ["apiVersion", "kind", "metadata", "spec", "status"], errors);
  const spec = checkObject(policy["spec"] ?? {}, "spec", errors);
  if (spec === undefined) return errors;
  checkFields(spec, "spec", ["podSelector", "ingress", "egress", "policyTypes"], errors);
  checkLabelSelector(spec["podSelector"] ?? {}, "spec.podSelector", errors);
  for (const [rule, path] of checkList(spec["ingress"], "spec.ingress", errors)) checkRule(rule, "from", path, errors);
  for (const [rule, path] of checkList(spec["egress"], "spec.egress", errors)) checkRule(rule, "to", path, errors);
  checkPolicyTypes(spec["policyTypes"], errors);
  return errors;
}

function checkRule(value: unknown, side: "from" | "to", path: string, errors: FieldError[]): void {
  const rule = checkObject(value, path, errors);
  if (rule === undefined) return;
  checkFields(rule, path, ["ports", side], errors);
  for (const [port, portPath] of checkList(rule["ports"], `${path}.ports`, errors)) checkPort(port, portPath, errors);
  for (const [peer, peerPath] of checkList(rule[side], `${path}.${side}`, errors)) checkPeer(peer, peerPath, errors);
}

function checkPort(value: unknown, path: string, errors: FieldError[]): void {
  const entry = checkObject(value, path, errors);
  if (entry === undefined) return;
  checkFields(entry, path, ["protocol", "port", "endPort"], errors);
  const protocol = entry["protocol"] ?? undefined;
  const port = entry["port"] ?? undefined;
  if (protocol !== undefined && typeof protocol !== "string")
    errors.push(wrongType(`${path}.protocol`, protocol, "a string"));
  else if (protocol !== undefined && !PROTOCOLS.includes(protocol)) {
    errors.push({ field: `${path}.protocol`, reason: "NotSupported", value: protocol, detail: quoted(PROTOCOLS) });
  }
  if (typeof port === "string") {
    for (const detail of portNameErrors(port))
      errors.push({ field: `${path}.port`, reason: "Invalid", value: port, detail });
  } else if (port !== undefined) checkPortNumber(port, `${path}.port`, "an integer or a string", errors);
  checkEndPort(entry["endPort"] ?? undefined, port, `${path}.endPort`, errors);
}

function checkEndPort(endPort: unknown, port: unknown, field: string, errors: FieldError[]): void {
  if (endPort === undefined) return;
  const invalid = (detail: string): void => void errors.push({ field, reason: "Invalid", value: endPort, detail });
  if (port === undefined) invalid("may not be specified when `port` is not specified");
  else if (typeof port !== "number") invalid("may not be specified when `port` is non-numeric");
  else if (typeof endPort === "number" && endPort < port) invalid("must be greater than or equal to `port`");
  checkPortNumber(endPort, field, "an integer", errors);
}

function checkPortNumber(value: unknown, field: string, wanted: string, errors: FieldError[]): void {
  if (typeof value !== "number" || !Number.isInteger(value)) errors.push(wrongType(field, value, wanted));
  else if (value < 1 || value > 65535)
    errors.push({ field, reason: "Invalid", value, detail: "must be between 1 and 65535, inclusive" });
}

/** Source: apimachinery IsValidPortName (RFC 6335 §5.1). */
function portNameErrors(name: string): string[] {
  const errors: string[] = [];
  if (name.length > 15) errors.push("must be no more than 15 characters");
  if (!/^[-a-z0-9]+$/.test(name)) errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
  if (!/[a-z]/.test(name)) errors.push("must contain at least one letter (a-z)");
  if (name.includes("--")) errors.push("must not contain consecutive hyphens");
  if (name.startsWith("-") || name.endsWith("-")) errors.push("must not begin or end with a hyphen");
  return errors;
}

function checkPeer(value: unknown, path: string, errors: FieldError[]): void {
  const peer = checkObject(value, path, errors);
  if (peer === undefined) return;
  checkFields(peer, path, ["podSelector", "namespaceSelector", "ipBlock"], errors);
  const pods = peer["podSelector"] ?? undefined;
  const namespaces = peer["namespaceSelector"] ?? undefined;
  const block = peer["ipBlock"] ?? undefined;
  if (pods !== undefined) checkLabelSelector(pods, `${path}.podSelector`, errors);
  if (namespaces !== undefined) checkLabelSelector(namespaces, `${path}.namespaceSelector`, errors);
  if (block !== undefined) checkBlock(block, `${path}.ipBlock`, errors);
  const selects = pods !== undefined || namespaces !== undefined;
  if (!selects && block === undefined)
    errors.push({ field: path, reason: "Required", value: undefined, detail: "must specify a peer" });
  if (selects && block !== undefined)
    errors.push({
      field: path,
      reason: "Forbidden",
      value: undefined,
      detail: "may not specify both ipBlock and another peer",
    });
}

function checkBlock(value: unknown, path: string, errors: FieldError[]): void {
  const block = checkObject(value, path, errors);
  if (block === undefined) return;
  checkFields(block, path, ["cidr", "except"], errors);
  const text = block["cidr"] ?? "";
  if (text === "") {
    errors.push({ field: `${path}.cidr`, reason: "Required", value: undefined, detail: "" });
    return;
  }
  const cidr = checkCidr(text, `${path}.cidr`, errors);
  for (const [item, field] of checkList(block["except"], `${path}.except`, errors)) {
    const except = checkCidr(item, field, errors);
    if (cidr === undefined || except === undefined) continue;
    if (!prefixCovers(cidr.prefix, except.prefix) || cidr.length >= except.length) {
      errors.push({ field, reason: "Invalid", value: item, detail: "must be a strict subset of `cidr`" });
    }
  }
}

function checkCidr(value: unknown, field: string, errors: FieldError[]): LegacyPrefix | undefined {
  if (typeof value !== "string") {
    errors.push(wrongType(field, value, "a string"));
    return undefined;
  }
  const parsed = parseLegacyPrefix(value);
  if (parsed.ok) return parsed.value;
  errors.push({
    field,
    reason: "Invalid",
    value,
    detail: "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
  });
  return undefined;
}

function checkPolicyTypes(value: unknown, errors: FieldError[]): void {
  const field = "spec.policyTypes";
  const types = checkList(value, field, errors);
  if (types.length > POLICY_TYPES.length) {
    errors.push({ field, reason: "Invalid", value, detail: "may not specify more than two policyTypes" });
    return;
  }
  for (const [type, path] of types) {
    if (typeof type !== "string") errors.push(wrongType(path, type, "a string"));
    else if (!POLICY_TYPES.includes(type))
      errors.push({ field: path, reason: "NotSupported", value: type, detail: quoted(POLICY_TYPES) });
  }
}

function quoted(values: readonly string[]): string {
  return values.map((value) => JSON.stringify(value)).join(", ");
}
