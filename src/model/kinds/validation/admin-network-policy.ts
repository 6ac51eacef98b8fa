/** AdminNetworkPolicy and BaselineAdminNetworkPolicy validation: the schema, the rules of upstream's definition, and what Kubernetes says of label selectors. */
import type { FieldError } from "../../schema/field-error.ts";
import {
  ADMIN_NETWORK_POLICY_SCHEMA,
  type AdminNetworkPolicySpec,
  BASELINE_ADMIN_NETWORK_POLICY_SCHEMA,
} from "../admin-network-policy.ts";
import { WORDS } from "../words.ts";
import { checkPeer, checkPods } from "./cluster-network-policy.ts";
import type { Errors } from "./errors.ts";
import { shape } from "./shape.ts";

type Ports = NonNullable<AdminNetworkPolicySpec["egress"]>[number]["ports"];

export function validateAdminNetworkPolicy(object: unknown): readonly FieldError[] {
  const shaped = shape(object, ADMIN_NETWORK_POLICY_SCHEMA);
  if (!shaped.ok) return shaped.errors;
  checkSpec(shaped.spec, shaped.errors);
  return shaped.errors.list;
}

export function validateBaselineAdminNetworkPolicy(object: unknown): readonly FieldError[] {
  const shaped = shape(object, BASELINE_ADMIN_NETWORK_POLICY_SCHEMA);
  if (!shaped.ok) return shaped.errors;
  const { spec, metadata, errors } = shaped;
  if (metadata.name !== "default") errors.invalid("metadata.name", metadata.name, WORDS.baselineName);
  checkSpec(spec, errors);
  return errors.list;
}

function checkSpec({ subject, ingress, egress }: Omit<AdminNetworkPolicySpec, "priority">, errors: Errors): void {
  checkPods(subject, "spec.subject", errors);
  ingress?.forEach((rule, i) => {
    rule.from.forEach((peer, j) => checkPods(peer, `spec.ingress[${i}].from[${j}]`, errors));
    checkPorts(rule.ports, `spec.ingress[${i}].ports`, errors);
  });
  egress?.forEach((rule, i) => {
    const path = `spec.egress[${i}]`;
    rule.to.forEach((peer, j) => checkPeer(peer, `${path}.to[${j}]`, errors));
    checkPorts(rule.ports, `${path}.ports`, errors);
    const hasNoNames = rule.to.some(({ namespaces, pods }) => namespaces === undefined && pods === undefined);
    if (hasNoNames && rule.ports?.some(({ namedPort }) => namedPort !== undefined) === true)
      errors.invalid(`${path}.ports`, rule.ports, WORDS.adminNamedPort);
  });
}

function checkPorts(ports: Ports, path: string, errors: Errors): void {
  ports?.forEach(({ portRange }, i) => {
    if (portRange !== undefined && portRange.start >= portRange.end)
      errors.invalid(`${path}[${i}].portRange.start`, portRange.start, WORDS.portOrder);
  });
}
