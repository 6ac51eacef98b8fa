/** Service: its columns and selectors; defaults and rules are in `service-rules.ts`. No component of ours forwards its traffic. */
import { arrayAt, fieldAt, objectAt, stringAt } from "../../../src/model/schema/json.ts";
import type { ApiObject } from "../object.ts";
import { builtIn } from "./built-in.ts";
import { column, formatLabelSelector, wide } from "./columns.ts";
import { completeService, keepService, validateService } from "./service-rules.ts";

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
  const balanced = arrayAt(fieldAt(service, "status", "loadBalancer", "ingress")).map(
    (entry) => stringAt(fieldAt(entry, "ip")) || stringAt(fieldAt(entry, "hostname")),
  );
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
  selectableFields: {
    "spec.clusterIP": (service) => stringAt(fieldAt(service, "spec", "clusterIP")),
    "spec.type": (service) => stringAt(fieldAt(service, "spec", "type")),
  },
  middle: [
    column("Type", "How the service is reached", (service) => stringAt(fieldAt(service, "spec", "type"))),
    column(
      "Cluster-IP",
      "Address of the service",
      (service) => stringAt(fieldAt(service, "spec", "clusterIP")) || "<none>",
    ),
    column("External-IP", "Addresses outside the cluster", externalText),
    column("Port(s)", "Ports of the service", portsText),
    wide("Selector", "Labels of the pods behind it", (service) =>
      formatLabelSelector(objectAt(fieldAt(service, "spec", "selector")), []),
    ),
  ],
  prepareCreate: completeService,
  prepareUpdate: keepService,
  validate: validateService,
});
