/**
 * ServiceRules: what is filled into a Service, and what is refused in it, as in a cluster with one range of service addresses.
 * Source: pkg/registry/core/service, pkg/apis/core/validation.
 */
import type { FieldError } from "../../../src/model/schema/field-error.ts";
import { arrayAt, fieldAt, isJsonObject, type JsonObject, objectAt, stringAt } from "../../../src/model/schema/json.ts";
import type { ApiObject } from "../object.ts";
import { validateLabels } from "../objects/metadata.ts";
import type { RuleContext } from "../resource-type.ts";
import { addressProblems, portNameProblems, portProblems } from "./pod-rules.ts";

const FIRST_NODE_PORT = 30000;
const LAST_NODE_PORT = 32767;

function isExternal(spec: JsonObject): boolean {
  return spec["type"] === "ExternalName";
}

function hasNodePorts(spec: JsonObject): boolean {
  return (
    spec["type"] === "NodePort" || (spec["type"] === "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] !== false)
  );
}

function fillPorts(spec: JsonObject): void {
  for (const port of arrayAt(spec["ports"]))
    if (isJsonObject(port) && (port["targetPort"] ?? 0) === 0) port["targetPort"] = port["port"] ?? 0;
}

/** Values that depend on others. */
function fillDefaults(spec: JsonObject): void {
  spec["type"] ??= "ClusterIP";
  spec["sessionAffinity"] ??= "None";
  fillPorts(spec);
  if (spec["sessionAffinity"] === "ClientIP") spec["sessionAffinityConfig"] ??= { clientIP: { timeoutSeconds: 10800 } };
  if (spec["type"] === "LoadBalancer") spec["allocateLoadBalancerNodePorts"] ??= true;
  if (spec["type"] === "LoadBalancer" || spec["type"] === "NodePort") spec["externalTrafficPolicy"] ??= "Cluster";
  if (!isExternal(spec)) spec["internalTrafficPolicy"] ??= "Cluster";
}

/** Defaults, an address and node ports of a new Service. */
export function completeService(service: ApiObject, context: RuleContext): void {
  const spec = objectAt(service["spec"]);
  service["spec"] = spec;
  fillDefaults(spec);
  service["status"] = { loadBalancer: {} };
  if (isExternal(spec)) return;
  if (hasNodePorts(spec)) fillNodePorts(spec, usedNodePorts(context));
  if (stringAt(spec["clusterIP"]) === "")
    spec["clusterIP"] = stringAt(arrayAt(spec["clusterIPs"])[0]) || context.allocateServiceAddress();
  const address = stringAt(spec["clusterIP"]);
  spec["clusterIPs"] ??= [address];
  spec["ipFamilies"] ??= [context.serviceFamily];
  spec["ipFamilyPolicy"] ??= "SingleStack";
}

function usedNodePorts(context: RuleContext): Set<unknown> {
  return new Set(
    context
      .list("services", undefined)
      .flatMap((service) => arrayAt(fieldAt(service, "spec", "ports")).map((port) => fieldAt(port, "nodePort"))),
  );
}

function fillNodePorts(spec: JsonObject, used: ReadonlySet<unknown>): void {
  let next = FIRST_NODE_PORT;
  for (const port of arrayAt(spec["ports"])) {
    if (!isJsonObject(port) || (port["nodePort"] ?? 0) !== 0) continue;
    while (used.has(next)) next++;
    if (next > LAST_NODE_PORT) return;
    port["nodePort"] = next++;
  }
}

/** Fields that an update may leave out. */
export function keepService(next: ApiObject, current: ApiObject, context: RuleContext): void {
  const [spec, before] = [objectAt(next["spec"]), objectAt(current["spec"])];
  for (const field of [
    "clusterIP",
    "clusterIPs",
    "ipFamilies",
    "ipFamilyPolicy",
    "internalTrafficPolicy",
    "type",
    "sessionAffinity",
  ]) {
    const value = before[field];
    if ((spec[field] === undefined || spec[field] === "") && value !== undefined) spec[field] = value;
  }
  fillDefaults(spec);
  if (!isExternal(spec) && hasNodePorts(spec)) fillNodePorts(spec, usedNodePorts(context));
}

/** Everything wrong with the Service; `current` is undefined at creation. */
export function validateService(
  service: ApiObject,
  current: ApiObject | undefined,
  subresource: string,
  context: RuleContext,
): FieldError[] {
  const spec = objectAt(service["spec"]);
  if (subresource === "status") {
    if (spec["type"] === "LoadBalancer" || arrayAt(fieldAt(service, "status", "loadBalancer", "ingress")).length === 0)
      return [];
    return [
      {
        field: "status.loadBalancer.ingress",
        reason: "Forbidden",
        value: undefined,
        detail: "may only be used when `spec.type` is 'LoadBalancer'",
      },
    ];
  }
  const errors = [
    ...validatePorts(spec),
    ...validateLabels(objectAt(spec["selector"]) as Record<string, string>, "spec.selector"),
  ];
  if (isExternal(spec) && stringAt(spec["externalName"]) === "")
    errors.push({ field: "spec.externalName", reason: "Required", value: undefined, detail: "" });
  arrayAt(spec["externalIPs"]).forEach((address, index) =>
    errors.push(...addressProblems(`spec.externalIPs[${index}]`, stringAt(address))),
  );
  if (!isExternal(spec)) errors.push(...validateAddress(spec, current, context));
  return errors;
}

function validatePorts(spec: JsonObject): FieldError[] {
  const ports = arrayAt(spec["ports"]);
  const errors: FieldError[] = [];
  if (ports.length === 0 && !isExternal(spec) && spec["clusterIP"] !== "None")
    errors.push({ field: "spec.ports", reason: "Required", value: undefined, detail: "" });
  const names = new Set<string>();
  const numbers = new Set<string>();
  ports.forEach((entry, index) => {
    const port = objectAt(entry);
    const at = `spec.ports[${index}]`;
    const name = stringAt(port["name"]);
    if (name === "" && ports.length > 1)
      errors.push({ field: `${at}.name`, reason: "Required", value: undefined, detail: "" });
    if (name !== "" && names.has(name))
      errors.push({ field: `${at}.name`, reason: "Duplicate", value: name, detail: "" });
    names.add(name);
    errors.push(...portProblems(`${at}.port`, port["port"] ?? 0));
    const target = port["targetPort"];
    if (typeof target === "string")
      errors.push(
        ...portNameProblems(target).map((detail): FieldError => ({
          field: `${at}.targetPort`,
          reason: "Invalid",
          value: target,
          detail,
        })),
      );
    else if (target !== undefined) errors.push(...portProblems(`${at}.targetPort`, target));
    const number = `${String(port["port"])}/${stringAt(port["protocol"])}`;
    if (numbers.has(number))
      errors.push({
        field: at,
        reason: "Duplicate",
        value: { port: port["port"], protocol: port["protocol"] },
        detail: "",
      });
    numbers.add(number);
  });
  return errors;
}

const FAMILIES = ["IPv4", "IPv6"];

/** This server has one range of service addresses, so one family; another one is refused, never replaced. */
function validateAddress(spec: JsonObject, current: ApiObject | undefined, context: RuleContext): FieldError[] {
  const errors: FieldError[] = [];
  arrayAt(spec["ipFamilies"]).forEach((family, index) => {
    const field = `spec.ipFamilies[${index}]`;
    if (!FAMILIES.includes(stringAt(family)))
      errors.push({
        field,
        reason: "NotSupported",
        value: family,
        detail: FAMILIES.map((name) => JSON.stringify(name)).join(", "),
      });
    else if (family !== context.serviceFamily)
      errors.push({ field, reason: "Invalid", value: family, detail: "not configured on this cluster" });
  });
  if (spec["ipFamilyPolicy"] === "RequireDualStack")
    errors.push({
      field: "spec.ipFamilyPolicy",
      reason: "Invalid",
      value: "RequireDualStack",
      detail: "this cluster is not configured for dual-stack services",
    });
  const address = stringAt(spec["clusterIP"]);
  const before = stringAt(fieldAt(current, "spec", "clusterIP"));
  if (before !== "" && before !== address)
    return [
      ...errors,
      { field: "spec.clusterIPs[0]", reason: "Invalid", value: spec["clusterIPs"], detail: "may not change once set" },
    ];
  if (before !== "" || address === "None" || errors.length > 0) return errors;
  const problems = addressProblems("spec.clusterIPs[0]", address);
  if (problems.length > 0) return [...errors, ...problems];
  const refusal = context.serviceAddressProblem(address);
  return refusal === undefined
    ? errors
    : [
        ...errors,
        {
          field: "spec.clusterIPs",
          reason: "Invalid",
          value: [address],
          detail: `failed to allocate IP ${address}: ${refusal}`,
        },
      ];
}
