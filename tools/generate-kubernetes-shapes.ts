/**
 * Writes lab/apiserver/kinds/shapes.ts: the field names and types of the Kubernetes kinds that the embedded API serves, read from
 * the type declarations of the package `kubernetes-types`. Run it again after changing ROOTS or ADDITIONS: `bun tools/generate-kubernetes-shapes.ts`.
 */
import { readFileSync, writeFileSync } from "node:fs";

const ROOTS = [
  "core.v1.Namespace",
  "core.v1.Node",
  "core.v1.Pod",
  "core.v1.Service",
  "core.v1.ServiceAccount",
  "core.v1.ConfigMap",
  "core.v1.Secret",
  "core.v1.Event",
  "coordination.v1.Lease",
  "discovery.v1.EndpointSlice",
  "networking.v1.NetworkPolicy",
  "apiextensions.v1.CustomResourceDefinition",
  "meta.v1.Status",
  "meta.v1.DeleteOptions",
  "core.v1.Binding",
];

/** Fields that Kubernetes v1.34 has, or no longer requires, and the package does not know so. */
const ADDITIONS: Readonly<Record<string, string>> = {
  "networking.v1.NetworkPolicySpec": "podSelector=meta.v1.LabelSelector",
  "apiextensions.v1.CustomResourceDefinitionVersion": "selectableFields=[apiextensions.v1.SelectableField]",
  "apiextensions.v1.SelectableField": "jsonPath=string!",
  "core.v1.Container": "restartPolicyRules=[core.v1.ContainerRestartRule]",
  "core.v1.ContainerExtendedResourceRequest": "containerName=string! requestName=string! resourceName=string!",
  "core.v1.ContainerRestartRule": "action=string! exitCodes=core.v1.ContainerRestartRuleOnExitCodes",
  "core.v1.ContainerRestartRuleOnExitCodes": "operator=string! values=[int]",
  "core.v1.ContainerStatus":
    "stopSignal=string allocatedResourcesStatus=[core.v1.ResourceStatus] user=core.v1.ContainerUser",
  "core.v1.ContainerUser": "linux=core.v1.LinuxContainerUser",
  "core.v1.EnvVarSource": "fileKeyRef=core.v1.FileKeySelector",
  "core.v1.EphemeralContainer": "restartPolicyRules=[core.v1.ContainerRestartRule]",
  "core.v1.FileKeySelector": "key=string! optional=bool path=string! volumeName=string!",
  "core.v1.HostAlias": "ip=string!",
  "core.v1.HostIP": "ip=string!",
  "core.v1.ImageVolumeSource": "pullPolicy=string reference=string",
  "core.v1.Lifecycle": "stopSignal=string",
  "core.v1.LinuxContainerUser": "gid=int! supplementalGroups=[int] uid=int!",
  "core.v1.NodeFeatures": "supplementalGroupsPolicy=bool",
  "core.v1.NodeRuntimeHandlerFeatures": "userNamespaces=bool",
  "core.v1.NodeStatus": "features=core.v1.NodeFeatures",
  "core.v1.NodeSwapStatus": "capacity=int",
  "core.v1.NodeSystemInfo": "swap=core.v1.NodeSwapStatus",
  "core.v1.PodAffinityTerm": "matchLabelKeys=[string] mismatchLabelKeys=[string]",
  "core.v1.PodCertificateProjection":
    "certificateChainPath=string credentialBundlePath=string keyPath=string keyType=string! maxExpirationSeconds=int signerName=string!",
  "core.v1.PodCondition": "observedGeneration=int",
  "core.v1.PodExtendedResourceClaimStatus":
    "requestMappings=[core.v1.ContainerExtendedResourceRequest]! resourceClaimName=string!",
  "core.v1.PodIP": "ip=string!",
  "core.v1.PodResourceClaim": "resourceClaimName=string resourceClaimTemplateName=string",
  "core.v1.PodSecurityContext": "seLinuxChangePolicy=string supplementalGroupsPolicy=string",
  "core.v1.PodSpec": "hostnameOverride=string resources=core.v1.ResourceRequirements",
  "core.v1.PodStatus": "observedGeneration=int extendedResourceClaimStatus=core.v1.PodExtendedResourceClaimStatus",
  "core.v1.ResourceClaim": "request=string",
  "core.v1.ResourceHealth": "health=string resourceID=string!",
  "core.v1.ResourceStatus": "name=string! resources=[core.v1.ResourceHealth]",
  "core.v1.ServiceSpec": "trafficDistribution=string",
  "core.v1.Volume": "image=core.v1.ImageVolumeSource",
  "core.v1.VolumeProjection": "podCertificate=core.v1.PodCertificateProjection",
  "discovery.v1.EndpointHints": "forNodes=[discovery.v1.ForNode]",
  "discovery.v1.ForNode": "name=string!",
};

/** Types whose JSON form is not their declaration's. */
const SPECIAL: Readonly<Record<string, string>> = {
  "meta.v1.Time": "time",
  "meta.v1.MicroTime": "microtime",
  "api.resource.Quantity": "quantity",
  "meta.v1.FieldsV1": "any",
  "meta.v1.RawExtension": "any",
  "apiextensions.v1.JSONSchemaProps": "any",
};

const files: Readonly<Record<string, string>> = {
  "core.v1": "core/v1",
  "meta.v1": "meta/v1",
  "networking.v1": "networking/v1",
  "coordination.v1": "coordination/v1",
  "discovery.v1": "discovery/v1",
  "apiextensions.v1": "apiextensions/v1",
};
const folder = new URL("../node_modules/kubernetes-types/", import.meta.url).pathname;
const declarations = new Map<string, Map<string, string>>();

function resolve(name: string, home: string, imports: ReadonlyMap<string, string>): string {
  const full = `${imports.get(name) ?? home}.${name}`;
  return SPECIAL[full] ?? full;
}

function typeOf(text: string, home: string, imports: ReadonlyMap<string, string>): string {
  if (text === "string" || text.startsWith('"')) return "string";
  if (text === "number") return "int";
  if (text === "boolean") return "bool";
  if (text === "number | string") return "intstr";
  if (text === "any" || text === "unknown") return "any";
  const array = /^Array<(.*)>$/.exec(text);
  if (array !== null) return `[${typeOf(array[1] ?? "", home, imports)}]`;
  return resolve(text, home, imports);
}

for (const [home, path] of Object.entries(files)) {
  const imports = new Map<string, string>();
  let fields: Map<string, string> | undefined;
  let mapField: { name: string; required: boolean } | undefined;
  for (const line of readFileSync(`${folder}${path}.d.ts`, "utf8").split("\n")) {
    const imported = /^import \{ (.*) \} from "\.\.\/(.*)"/.exec(line);
    if (imported !== null)
      for (const name of (imported[1] ?? "").split(", ")) imports.set(name, (imported[2] ?? "").replace("/", "."));
    const start = /^export interface (\w+)/.exec(line);
    if (start !== null) declarations.set(`${home}.${start[1]}`, (fields = new Map()));
    const field = /^ {4}(?:readonly )?"?([\w$-]+)"?(\?)?: (.*?);?$/.exec(line);
    if (field !== null && fields !== undefined) {
      const [, name = "", optional, type = ""] = field;
      const required = optional === undefined;
      if (type === "{") mapField = { name, required };
      else fields.set(name, typeOf(type, home, imports) + (required ? "!" : ""));
    }
    const member = /^ {8}\[name: string\]: (.*);$/.exec(line);
    if (member !== null && mapField !== undefined)
      fields?.set(mapField.name, `{${typeOf(member[1] ?? "", home, imports)}}${mapField.required ? "!" : ""}`);
    if (/^ {4}\};$/.test(line)) mapField = undefined;
  }
}
for (const [name, text] of Object.entries(ADDITIONS)) {
  const fields = declarations.get(name) ?? new Map<string, string>();
  for (const item of text.split(" ")) fields.set(item.slice(0, item.indexOf("=")), item.slice(item.indexOf("=") + 1));
  declarations.set(name, fields);
}

const lines: string[] = [];
const seen = new Set<string>();
const queue = [...ROOTS];
for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
  if (seen.has(name)) continue;
  seen.add(name);
  const fields = declarations.get(name);
  if (fields === undefined) throw new Error(`no declaration of ${name}`);
  lines.push(
    [name, ...[...fields].sort(([a], [b]) => (a < b ? -1 : 1)).map(([field, type]) => `${field}=${type}`)].join(" "),
  );
  for (const type of fields.values()) {
    const target = type.replace(/[[\]{}!]/g, "");
    if (target.includes(".")) queue.push(target);
  }
}
lines.sort();
const out = `/**
 * Shapes: field names and types of the Kubernetes types that the embedded API serves, one type a line. Generated by
 * tools/generate-kubernetes-shapes.ts; do not edit. What the shapes cannot say (defaults, enums, merge keys, words) is in \`overlay.ts\`.
 *
 * \`name=type\`, \`!\` marks a required field, \`[t]\` a list, \`{t}\` a map, a dotted name another line of this table.
 */
export const SHAPES = \`
${lines.join("\n")}
\`;
`;
writeFileSync(new URL("../lab/apiserver/kinds/shapes.ts", import.meta.url).pathname, out);
