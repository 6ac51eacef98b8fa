/** Service: address and defaults at creation, rules for ports. No component of ours forwards its traffic. */
import type { FieldError } from "../../model/schema/field-error.ts";
import { arrayAt, fieldAt, isJsonObject, type JsonObject, objectAt, stringAt } from "../../model/schema/json.ts";
import type { ApiObject } from "../object.ts";
import type { RuleContext } from "../resource-type.ts";
import { builtIn } from "./built-in.ts";
import { column, formatLabelSelector, wide } from "./columns.ts";
import { portNameProblems, portProblems } from "./pod-rules.ts";

function fillPorts(spec: JsonObject): void {
  for (const port of arrayAt(spec["ports"])) if (isJsonObject(port)) port["targetPort"] ??= port["port"] ?? 0;
}

function prepareCreate(service: ApiObject, context: RuleContext): void {
  const spec = objectAt(service["spec"]);
  service["spec"] = spec;
  spec["type"] ??= "ClusterIP";
  spec["sessionAffinity"] ??= "None";
  fillPorts(spec);
  service["status"] = { loadBalancer: {} };
  if (spec["type"] === "ExternalName") return;
  if (stringAt(spec["clusterIP"]) === "") spec["clusterIP"] = stringAt(arrayAt(spec["clusterIPs"])[0]) || context.allocateServiceAddress();
  const address = stringAt(spec["clusterIP"]);
  spec["clusterIPs"] ??= [address];
  spec["ipFamilies"] ??= [address.includes(":") ? "IPv6" : "IPv4"];
  spec["ipFamilyPolicy"] ??= "SingleStack";
  spec["internalTrafficPolicy"] ??= "Cluster";
}

function prepareUpdate(next: ApiObject, current: ApiObject): void {
  const [spec, before] = [objectAt(next["spec"]), objectAt(current["spec"])];
  fillPorts(spec);
  for (const field of ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy", "type", "sessionAffinity"]) {
    const value = before[field];
    if ((spec[field] === undefined || spec[field] === "") && value !== undefined) spec[field] = value;
  }
}

function validate(service: ApiObject, current: ApiObject | undefined, subresource: string): FieldError[] {
  if (subresource === "status") return [];
  const spec = objectAt(service["spec"]);
  const ports = arrayAt(spec["ports"]);
  const errors: FieldError[] = [];
  if (ports.length === 0 && spec["type"] !== "ExternalName" && spec["clusterIP"] !== "None") errors.push({ field: "spec.ports", reason: "Required", value: undefined, detail: "" });
  if (spec["type"] === "ExternalName" && stringAt(spec["externalName"]) === "") errors.push({ field: "spec.externalName", reason: "Required", value: undefined, detail: "" });
  const names = new Set<string>();
  ports.forEach((entry, index) => {
    const port = objectAt(entry);
    const at = `spec.ports[${index}]`;
    const name = stringAt(port["name"]);
    if (name === "" && ports.length > 1) errors.push({ field: `${at}.name`, reason: "Required", value: undefined, detail: "" });
    if (name !== "" && names.has(name)) errors.push({ field: `${at}.name`, reason: "Duplicate", value: name, detail: "" });
    names.add(name);
    errors.push(...portProblems(`${at}.port`, port["port"] ?? 0));
    const target = port["targetPort"];
    if (typeof target === "string") errors.push(...portNameProblems(target).map((detail): FieldError => ({ field: `${at}.targetPort`, reason: "Invalid", value: target, detail })));
    else if (target !== undefined) errors.push(...portProblems(`${at}.targetPort`, target));
  });
  const before = stringAt(fieldAt(current, "spec", "clusterIP"));
  if (current !== undefined && before !== "" && before !== spec["clusterIP"]) errors.push({ field: "spec.clusterIPs[0]", reason: "Invalid", value: spec["clusterIPs"], detail: "may not change once set" });
  return errors;
}

function portsText(service: ApiObject): string {
  const texts = arrayAt(fieldAt(service, "spec", "ports")).map((entry) => {
    const port = objectAt(entry);
    const node = typeof port["nodePort"] === "number" ? `:${port["nodePort"]}` : "";
    return `${String(port["port"])}${node}/${stringAt(port["protocol"])}`;
  });
  return texts.length === 0 ? "<none>" : texts.join(",");
}

function externalText(service: ApiObject): string {
  if (fieldAt(service, "spec", "type") === "ExternalName") return stringAt(fieldAt(service, "spec", "externalName"));
  const external = arrayAt(fieldAt(service, "spec", "externalIPs")).map(stringAt);
  const balanced = arrayAt(fieldAt(service, "status", "loadBalancer", "ingress")).map((entry) => stringAt(fieldAt(entry, "ip")) || stringAt(fieldAt(entry, "hostname")));
  const all = [...balanced, ...external];
  if (all.length > 0) return all.join(",");
  return fieldAt(service, "spec", "type") === "LoadBalancer" ? "<pending>" : "<none>";
}

export const SERVICE = builtIn({
  kind: "Service",
  plural: "services",
  shape: "core.v1.Service",
  namespaced: true,
  shortNames: ["svc"],
  categories: ["all"],
  nameRule: "service",
  hasStatus: true,
  answersDeleted: true,
  selectableFields: { "spec.clusterIP": (service) => stringAt(fieldAt(service, "spec", "clusterIP")), "spec.type": (service) => stringAt(fieldAt(service, "spec", "type")) },
  middle: [
    column("Type", "How the service is reached", (service) => stringAt(fieldAt(service, "spec", "type"))),
    column("Cluster-IP", "Address of the service", (service) => stringAt(fieldAt(service, "spec", "clusterIP")) || "<none>"),
    column("External-IP", "Addresses outside the cluster", externalText),
    column("Port(s)", "Ports of the service", portsText),
    wide("Selector", "Labels of the pods behind it", (service) => formatLabelSelector(objectAt(fieldAt(service, "spec", "selector")), [])),
  ],
  prepareCreate,
  prepareUpdate,
  validate,
});
