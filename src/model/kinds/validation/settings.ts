/** Validation of the kinds without rules: Tier, NetworkSet, GlobalNetworkSet, HostEndpoint, WorkloadEndpoint and FelixConfiguration. */
import { parseAddr } from "../../../net/addr.ts";
import { parsePrefix } from "../../../net/prefix.ts";
import { NAMESPACE_LABEL } from "../../labels.ts";
import type { FieldError } from "../../schema/field-error.ts";
import { compilePattern } from "../../schema/pattern.ts";
import { FELIX_CONFIGURATION_SCHEMA, type FelixConfigurationSpec } from "../felix-configuration.ts";
import { HOST_ENDPOINT_SCHEMA } from "../host-endpoint.ts";
import { GLOBAL_NETWORK_SET_SCHEMA, NETWORK_SET_SCHEMA } from "../network-set.ts";
import { FIXED_TIERS, TIER_SCHEMA } from "../tier.ts";
import { builtInTierWords, WORDS } from "../words.ts";
import { addressOfNet, WORKLOAD_ENDPOINT_SCHEMA, workloadEndpointName } from "../workload-endpoint.ts";
import type { Errors } from "./errors.ts";
import { checkBounds } from "./ports.ts";
import { checkSelector } from "./selectors.ts";
import { type Metadata, shape } from "./shape.ts";

const TIER_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

export function validateTier(object: unknown): readonly FieldError[] {
  const shaped = shape(object, TIER_SCHEMA);
  if (!shaped.ok) return shaped.errors;
  const { spec, metadata, errors } = shaped;
  if (!TIER_NAME.test(metadata.name)) errors.invalid("metadata.name", metadata.name, WORDS.tierName);
  const fixed = FIXED_TIERS.find(({ name }) => name === metadata.name);
  if (fixed === undefined) return errors.list;
  const words = builtInTierWords(fixed.name, fixed.order, fixed.defaultAction);
  if (spec.order !== fixed.order) errors.invalid("spec.order", spec.order ?? null, words.order);
  if (spec.defaultAction !== fixed.defaultAction)
    errors.invalid("spec.defaultAction", spec.defaultAction ?? null, words.action);
  return errors.list;
}

export function validateNetworkSet(object: unknown): readonly FieldError[] {
  const shaped = shape(object, NETWORK_SET_SCHEMA);
  return shaped.ok ? checkNetworkSet(shaped.spec.nets, shaped.metadata, shaped.errors) : shaped.errors;
}

export function validateGlobalNetworkSet(object: unknown): readonly FieldError[] {
  const shaped = shape(object, GLOBAL_NETWORK_SET_SCHEMA);
  return shaped.ok ? checkNetworkSet(shaped.spec.nets, shaped.metadata, shaped.errors) : shaped.errors;
}

function checkNetworkSet(
  nets: readonly string[] | undefined,
  { labels }: Metadata,
  errors: Errors,
): readonly FieldError[] {
  nets?.forEach((text, i) => checkRangeOrAddress(text, `spec.nets[${i}]`, errors));
  if (labels[NAMESPACE_LABEL] !== undefined)
    errors.forbidden(`metadata.labels[${NAMESPACE_LABEL}]`, labels[NAMESPACE_LABEL], WORDS.namespaceLabel);
  return errors.list;
}

function checkRangeOrAddress(text: string, field: string, errors: Errors): void {
  if (!parsePrefix(text).ok && !parseAddr(text).ok) errors.invalid(field, text, WORDS.cidrOrAddress);
}

export function validateHostEndpoint(object: unknown): readonly FieldError[] {
  const shaped = shape(object, HOST_ENDPOINT_SCHEMA);
  if (!shaped.ok) return shaped.errors;
  const { spec, errors } = shaped;
  const { interfaceName = "", expectedIPs = [], ports = [] } = spec;
  if (interfaceName === "" && expectedIPs.length === 0)
    errors.required("spec.interfaceName", WORDS.hostEndpointInterface);
  expectedIPs.forEach((text, i) => {
    if (!parseAddr(text).ok) errors.invalid(`spec.expectedIPs[${i}]`, text, WORDS.address);
  });
  checkNamedPorts(ports, errors);
  return errors.list;
}

interface NamedPort {
  readonly name: string;
  readonly protocol: number | string;
}

function checkNamedPorts(ports: readonly NamedPort[], errors: Errors): void {
  const seen = new Set<string>();
  ports.forEach(({ name, protocol }, i) => {
    if (name === "") return;
    if (!/[a-z]/.test(name) || name.includes("--")) errors.invalid(`spec.ports[${i}].name`, name, WORDS.portName);
    const key = `${name} ${NUMBERS.get(protocol) ?? protocol}`;
    if (seen.has(key))
      errors.add([{ field: `spec.ports[${i}]`, reason: "Duplicate", value: { name, protocol }, detail: "" }]);
    seen.add(key);
  });
}

export function validateWorkloadEndpoint(object: unknown): readonly FieldError[] {
  const shaped = shape(object, WORKLOAD_ENDPOINT_SCHEMA);
  if (!shaped.ok) return shaped.errors;
  const { spec, metadata, errors } = shaped;
  const { ipNetworks = [], ipNATs = [], ports = [], allowSpoofedSourcePrefixes = [] } = spec;
  if (metadata.name !== workloadEndpointName(spec))
    errors.invalid("metadata.name", metadata.name, WORDS.workloadEndpointName);
  ipNetworks.forEach((text, i) => {
    if (addressOfNet(text) === undefined) errors.invalid(`spec.ipNetworks[${i}]`, text, WORDS.oneAddress);
  });
  const own = ipNetworks.map(addressOfNet);
  ipNATs.forEach(({ internalIP = "", externalIP = "" }, i) => {
    const internal = parseAddr(internalIP);
    if (!internal.ok || !own.includes(internal.value))
      errors.invalid(`spec.ipNATs[${i}].internalIP`, internalIP, WORDS.natOfAddress);
    if (!parseAddr(externalIP).ok) errors.invalid(`spec.ipNATs[${i}].externalIP`, externalIP, WORDS.address);
  });
  for (const [field, family] of GATEWAYS) {
    const text = spec[field] ?? "";
    if (text !== "" && (!parseAddr(text).ok || text.includes(":") !== (family === 6)))
      errors.invalid(`spec.${field}`, text, family === 4 ? WORDS.addressOf4 : WORDS.addressOf6);
  }
  ports.forEach(({ name = "", hostPort = 0 }, i) => {
    if (name === "" && hostPort === 0) errors.required(`spec.ports[${i}].name`, WORDS.portWithoutName);
  });
  checkNamedPorts(
    ports.map(({ name = "", protocol }) => ({ name, protocol })),
    errors,
  );
  allowSpoofedSourcePrefixes.forEach((text, i) => {
    if (!parsePrefix(text).ok) errors.invalid(`spec.allowSpoofedSourcePrefixes[${i}]`, text, WORDS.cidr);
  });
  return errors.list;
}

const GATEWAYS = [
  ["ipv4Gateway", 4],
  ["ipv6Gateway", 6],
] as const;

const NUMBERS: ReadonlyMap<number | string, number> = new Map([
  ["TCP", 6],
  ["UDP", 17],
  ["SCTP", 132],
]);

const PATTERNS = [
  "bpfDataIfacePattern",
  "bpfDisableGROForIfaces",
  "bpfL3IfacePattern",
  "logDebugFilenameRegex",
  "mtuIfacePattern",
  "nftablesFlowTableDataIfacePattern",
] as const satisfies readonly (keyof FelixConfigurationSpec)[];
const RANGES = ["bpfDSROptoutCIDRs", "bpfExcludeCIDRsFromNAT"] as const;
const ADDRESSES = [
  ["natOutgoingAddress", 4],
  ["deviceRouteSourceAddress", 4],
  ["deviceRouteSourceAddressIPv6", 6],
] as const;
const MOST_TABLES = 0xffff;

export function validateFelixConfiguration(object: unknown): readonly FieldError[] {
  const shaped = shape(object, FELIX_CONFIGURATION_SCHEMA);
  if (!shaped.ok) return shaped.errors;
  const { spec, metadata, errors } = shaped;
  checkSelector(spec.nodeSelector, "spec.nodeSelector", errors);
  if (spec.nodeSelector !== undefined && (metadata.name === "default" || metadata.name.startsWith("node.")))
    errors.forbidden("spec.nodeSelector", spec.nodeSelector, WORDS.nodeSelector);
  for (const field of PATTERNS) checkPattern(spec[field], `spec.${field}`, errors);
  for (const field of RANGES)
    spec[field]?.forEach((text, i) => checkRangeOrAddress(text, `spec.${field}[${i}]`, errors));
  spec.externalNodesList?.forEach((text, i) => {
    if (text.includes(":") || !(parsePrefix(text).ok || parseAddr(text).ok))
      errors.invalid(`spec.externalNodesList[${i}]`, text, WORDS.cidrOrAddress4);
  });
  for (const [field, family] of ADDRESSES) {
    const text = spec[field] ?? "";
    if (text !== "" && (!parseAddr(text).ok || text.includes(":") !== (family === 6)))
      errors.invalid(`spec.${field}`, text, family === 4 ? WORDS.addressOf4 : WORDS.addressOf6);
  }
  for (const list of ["failsafeInboundHostPorts", "failsafeOutboundHostPorts"] as const)
    spec[list]?.forEach(({ net = "" }, i) => {
      if (net !== "") checkRangeOrAddress(net, `spec.${list}[${i}].net`, errors);
    });
  spec.kubeNodePortRanges?.forEach((port, i) => checkBounds(port, `spec.kubeNodePortRanges[${i}]`, errors));
  for (const name of Object.keys(spec.bpfLogFilters ?? {}))
    if (!/^[a-zA-Z0-9_.-]{1,15}$/.test(name)) errors.invalid("spec.bpfLogFilters", name, WORDS.interfaceName);
  checkTables(spec, errors);
  return errors.list;
}

function checkPattern(text: string | undefined, field: string, errors: Errors): void {
  if (text === undefined) return;
  try {
    compilePattern(text);
  } catch {
    errors.invalid(field, text, WORDS.pattern);
  }
}

function checkTables({ routeTableRange, routeTableRanges }: FelixConfigurationSpec, errors: Errors): void {
  if (routeTableRange !== undefined && routeTableRanges !== undefined)
    errors.forbidden("spec.routeTableRange", routeTableRange, WORDS.tables);
  if (
    routeTableRange !== undefined &&
    (routeTableRange.min < 1 || routeTableRange.max < routeTableRange.min || routeTableRange.max > 250)
  )
    errors.invalid("spec.routeTableRange", routeTableRange, WORDS.tableRange);
  let count = 0;
  routeTableRanges?.forEach(({ min, max }, i) => {
    if (min > max) errors.invalid(`spec.routeTableRanges[${i}].min`, min, WORDS.tablesOrder);
    count += max - min + 1;
  });
  if (count > MOST_TABLES) errors.invalid("spec.routeTableRanges", routeTableRanges, WORDS.tablesCount);
}
