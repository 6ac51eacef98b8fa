/**
 * FelixConfiguration: settings of the nodes: of all (`default`), of one (`node.NAME`), or of those that `nodeSelector` selects.
 * Most have no effect yet (`without-effect.ts`). Upstream: api/pkg/apis/projectcalico/v3/felixconfig.go.
 */
import type { Infer, Schema, ValidationRule } from "../schema/schema.ts";
import { META, MOST_RANGE, SELECTOR } from "./common.ts";
import { WORDS } from "./words.ts";

const BOOLEAN = { type: "boolean" } as const;
const INTEGER = { type: "integer" } as const;
const PORT = { type: "integer", minimum: 1, maximum: 65535 } as const;
const PORT_OR_0 = { type: "integer", minimum: 0, maximum: 65535 } as const;
const ROUTE_PRIORITY = { type: "integer", minimum: 1, maximum: 2147483646 } as const;
const INTEGER_OR_MINUS_1 = { type: "integer", minimum: -1 } as const;
/** Empty text is the default. */
const INTERFACE = { type: "string", pattern: "^(\\*|[a-zA-Z0-9_.-]{1,15})?$" } as const;
/** A final + stands for any end. */
const INTERFACE_FILTER = { type: "string", pattern: "^[a-zA-Z0-9:._+-]{0,15}$" } as const;
const MASK = { type: "integer", format: "int64", minimum: 0, maximum: 0xffffffff } as const;
const TEXT = { type: "string" } as const;
const TEXTS = { type: "array", items: TEXT } as const;
const TEXT_BY_NAME = { type: "object", additionalProperties: TEXT } as const;
const INTERFACE_PREFIXES = {
  type: "string",
  maxLength: 255,
  pattern: "^([a-zA-Z0-9_-]{1,15}(,[a-zA-Z0-9_-]{1,15})*)?$",
} as const;
const ADDRESS = { type: "string", maxLength: 45 } as const;
const NUMBER_OR_TEXT = { "x-kubernetes-int-or-string": true } as const;
const PORT_RANGES = {
  type: "array",
  maxItems: 7,
  items: { "x-kubernetes-int-or-string": true, minimum: 1, maximum: 65535, pattern: "^[0-9]{1,5}(:[0-9]{1,5})?$" },
} as const;
/** Such as 90s or 1m30s; empty text is the default. */
const DURATION = { type: "string", pattern: "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))*$" } as const;

function oneOf<const T extends string>(
  ...values: readonly T[]
): { readonly type: "string"; readonly enum: readonly T[] } {
  return { type: "string", enum: values };
}

/** Empty text is the default. */
function oneOfAnyCase(...values: readonly string[]): { readonly type: "string"; readonly pattern: string } {
  return { type: "string", pattern: `^(?i)(${values.join("|")})?$` };
}

const TIMEOUT = { type: "string", pattern: "^(([0-9]*(\\.[0-9]*)?(ms|s|h|m|us)+)+|Auto)$" } as const;
const CONNTRACK_TIMEOUTS = {
  type: "object",
  properties: {
    creationGracePeriod: TIMEOUT,
    genericTimeout: TIMEOUT,
    icmpTimeout: TIMEOUT,
    tcpEstablished: TIMEOUT,
    tcpFinsSeen: TIMEOUT,
    tcpResetSeen: TIMEOUT,
    tcpSynSent: TIMEOUT,
    udpTimeout: TIMEOUT,
  },
} as const satisfies Schema;
const HEALTH_TIMEOUTS = {
  type: "array",
  "x-kubernetes-list-type": "atomic",
  items: {
    type: "object",
    required: ["name", "timeout"],
    properties: { name: { type: "string", pattern: "^[a-zA-Z0-9_ -]+$" }, timeout: DURATION },
  },
} as const satisfies Schema;
const TABLES = {
  type: "object",
  required: ["max", "min"],
  properties: { max: INTEGER, min: INTEGER },
} as const satisfies Schema;
const TABLE_RANGE = {
  ...TABLES,
  "x-kubernetes-validations": [
    { rule: "self.min >= 1 && self.max >= self.min && self.max <= 250", message: WORDS.tableRange },
  ],
} as const satisfies Schema;
const TABLES_LIST = {
  type: "array",
  maxItems: 256,
  items: {
    ...TABLES,
    properties: { max: INTEGER, min: { type: "integer", minimum: 1 } },
    "x-kubernetes-validations": [{ rule: "self.min <= self.max", message: WORDS.tablesOrder, fieldPath: ".min" }],
  },
} as const satisfies Schema;
const FAILSAFES = {
  type: "array",
  description: "Ports of the node that policy of host endpoints cannot close.",
  maxItems: 256,
  items: {
    type: "object",
    required: ["port"],
    properties: {
      net: {
        type: "string",
        description: "Restricts the port to peers of this range.",
        maxLength: MOST_RANGE,
        "x-kubernetes-validations": [
          { rule: "self == '' || isCIDR(self) || isIP(self)", message: WORDS.cidrOrAddress },
        ],
      },
      port: PORT_OR_0,
      protocol: { type: "string", description: "TCP, UDP or SCTP; TCP when absent.", pattern: "^(?i)(TCP|UDP|SCTP)?$" },
    },
  },
} as const satisfies Schema;

export const FELIX_PROPERTIES = {
  allowIPIPPacketsFromWorkloads: BOOLEAN,
  allowVXLANPacketsFromWorkloads: BOOLEAN,
  awsSrcDstCheck: oneOf("DoNothing", "Enable", "Disable"),
  bpfAttachType: oneOf("TC", "TCX", "Netkit"),
  bpfCTLBLogFilter: TEXT,
  bpfConnectTimeLoadBalancing: oneOf("TCP", "Enabled", "Disabled"),
  bpfConnectTimeLoadBalancingEnabled: BOOLEAN,
  bpfConntrackLogLevel: oneOf("Off", "Debug"),
  bpfConntrackMode: oneOf("Auto", "Userspace", "BPFProgram"),
  bpfConntrackTimeouts: CONNTRACK_TIMEOUTS,
  bpfDSROptoutCIDRs: TEXTS,
  bpfDataIfacePattern: TEXT,
  bpfDisableGROForIfaces: TEXT,
  bpfDisableUnprivileged: BOOLEAN,
  bpfEnabled: BOOLEAN,
  bpfEnforceRPF: oneOfAnyCase("Disabled", "Strict", "Loose"),
  bpfExcludeCIDRsFromNAT: TEXTS,
  bpfExportBufferSizeMB: INTEGER,
  bpfExtToServiceConnmark: MASK,
  bpfExternalServiceMode: oneOfAnyCase("Tunnel", "DSR"),
  bpfForceTrackPacketsFromIfaces: { type: "array", items: INTERFACE_FILTER },
  bpfHostConntrackBypass: BOOLEAN,
  bpfHostNetworkedNATWithoutCTLB: oneOf("Enabled", "Disabled"),
  bpfIPFragTimeout: DURATION,
  bpfIPFragmentReassemblyEnabled: BOOLEAN,
  bpfJITHardening: oneOf("Auto", "Strict"),
  bpfKubeProxyHealthzPort: PORT_OR_0,
  bpfKubeProxyIptablesCleanupEnabled: BOOLEAN,
  bpfKubeProxyMinSyncPeriod: DURATION,
  bpfL3IfacePattern: TEXT,
  bpfLogFilters: TEXT_BY_NAME,
  bpfLogLevel: oneOfAnyCase("Off", "Info", "Debug"),
  bpfMaglevMaxEndpointsPerService: { type: "integer", minimum: 1, maximum: 3000 },
  bpfMaglevMaxServices: { type: "integer", minimum: 1, maximum: 3000 },
  bpfMapSizeConntrack: INTEGER,
  bpfMapSizeConntrackCleanupQueue: { type: "integer", minimum: 1 },
  bpfMapSizeConntrackScaling: oneOfAnyCase("Disabled", "DoubleIfFull"),
  bpfMapSizeIPSets: INTEGER,
  bpfMapSizeIfState: INTEGER,
  bpfMapSizeNATAffinity: INTEGER,
  bpfMapSizeNATBackend: INTEGER,
  bpfMapSizeNATFrontend: INTEGER,
  bpfMapSizePerCpuConntrack: INTEGER,
  bpfMapSizeRoute: INTEGER,
  bpfOverlayHostSourceIP: oneOf("TunnelAddress", "HostAddress"),
  bpfPSNATPorts: NUMBER_OR_TEXT,
  bpfPolicyDebugEnabled: BOOLEAN,
  bpfProfiling: oneOf("Enabled", "Disabled"),
  bpfRedirectToPeer: oneOf("Enabled", "Disabled"),
  cgroupV2Path: TEXT,
  chainInsertMode: oneOfAnyCase("Insert", "Append"),
  dataplaneDriver: TEXT,
  dataplaneWatchdogTimeout: TEXT,
  debugDisableLogDropping: BOOLEAN,
  debugHost: TEXT,
  debugMemoryProfilePath: TEXT,
  debugPort: PORT_OR_0,
  debugSimulateCalcGraphHangAfter: DURATION,
  debugSimulateDataplaneApplyDelay: DURATION,
  debugSimulateDataplaneHangAfter: DURATION,
  defaultEndpointToHostAction: oneOfAnyCase("Drop", "Accept", "Return"),
  deviceRouteProtocol: INTEGER,
  deviceRouteSourceAddress: ADDRESS,
  deviceRouteSourceAddressIPv6: ADDRESS,
  disableConntrackInvalidCheck: BOOLEAN,
  endpointReportingDelay: DURATION,
  endpointReportingEnabled: BOOLEAN,
  endpointStatusPathPrefix: TEXT,
  externalNodesList: TEXTS,
  failsafeInboundHostPorts: FAILSAFES,
  failsafeOutboundHostPorts: FAILSAFES,
  featureDetectOverride: {
    type: "string",
    pattern: "^([a-zA-Z0-9-_]+=(true|false|),)*([a-zA-Z0-9-_]+=(true|false|))?$",
  },
  featureGates: { type: "string", pattern: "^([a-zA-Z0-9-_]+=([^=]+),)*([a-zA-Z0-9-_]+=([^=]+))?$" },
  floatingIPs: oneOf("Enabled", "Disabled"),
  flowLogsCollectorDebugTrace: BOOLEAN,
  flowLogsFlushInterval: DURATION,
  flowLogsGoldmaneServer: TEXT,
  flowLogsLocalReporter: oneOf("Disabled", "Enabled"),
  flowLogsPolicyEvaluationMode: oneOf("None", "Continuous"),
  genericXDPEnabled: BOOLEAN,
  goGCThreshold: INTEGER_OR_MINUS_1,
  goMaxProcs: INTEGER_OR_MINUS_1,
  goMemoryLimitMB: INTEGER_OR_MINUS_1,
  healthEnabled: BOOLEAN,
  healthHost: TEXT,
  healthPort: INTEGER,
  healthTimeoutOverrides: HEALTH_TIMEOUTS,
  interfaceExclude: TEXT,
  interfacePrefix: INTERFACE_PREFIXES,
  interfaceRefreshInterval: DURATION,
  ipForwarding: oneOf("Enabled", "Disabled"),
  ipipEnabled: BOOLEAN,
  ipipMTU: INTEGER,
  ipsetsRefreshInterval: DURATION,
  iptablesBackend: oneOfAnyCase("Auto", "Legacy", "NFT"),
  iptablesFilterAllowAction: oneOfAnyCase("Accept", "Return"),
  iptablesFilterDenyAction: oneOfAnyCase("Drop", "Reject"),
  iptablesLockProbeInterval: DURATION,
  iptablesMangleAllowAction: oneOfAnyCase("Accept", "Return"),
  iptablesMarkMask: MASK,
  iptablesNATOutgoingInterfaceFilter: INTERFACE_FILTER,
  iptablesPostWriteCheckInterval: DURATION,
  iptablesRefreshInterval: DURATION,
  ipv4ElevatedRoutePriority: ROUTE_PRIORITY,
  ipv4NormalRoutePriority: ROUTE_PRIORITY,
  ipv6ElevatedRoutePriority: ROUTE_PRIORITY,
  ipv6NormalRoutePriority: ROUTE_PRIORITY,
  ipv6Support: BOOLEAN,
  istioAmbientMode: oneOf("Enabled", "Disabled"),
  istioDSCPMark: NUMBER_OR_TEXT,
  kubeNodePortRanges: PORT_RANGES,
  liveMigrationRouteConvergenceTime: DURATION,
  localSubnetL2Reachability: oneOf("Disabled", "PodsAndLoadBalancers"),
  localSubnetL2ReachabilityRefreshInterval: TEXT,
  logActionRateLimit: { type: "string", pattern: "^[1-9]\\d{0,3}/(?:second|minute|hour|day)$" },
  logActionRateLimitBurst: { type: "integer", minimum: 0, maximum: 9999 },
  logDebugFilenameRegex: TEXT,
  logFilePath: TEXT,
  logPrefix: { type: "string", pattern: "^([a-zA-Z0-9%: /_-])*$" },
  logSeverityFile: oneOfAnyCase("Trace", "Debug", "Info", "Warning", "Error", "Fatal"),
  logSeverityScreen: oneOfAnyCase("Trace", "Debug", "Info", "Warning", "Error", "Fatal"),
  logSeveritySys: oneOfAnyCase("Trace", "Debug", "Info", "Warning", "Error", "Fatal"),
  maxIpsetSize: INTEGER,
  metadataAddr: TEXT,
  metadataPort: INTEGER,
  mtuIfacePattern: TEXT,
  natOutgoingAddress: ADDRESS,
  natOutgoingExclusions: oneOf("IPPoolsOnly", "IPPoolsAndHostIPs"),
  natPortRange: NUMBER_OR_TEXT,
  netlinkTimeout: DURATION,
  nftablesFilterAllowAction: oneOfAnyCase("Accept", "Return"),
  nftablesFilterDenyAction: oneOfAnyCase("Drop", "Reject"),
  nftablesFlowTableDataIfacePattern: TEXT,
  nftablesFlowTableOffload: oneOf("All", "Disabled"),
  nftablesMangleAllowAction: oneOfAnyCase("Accept", "Return"),
  nftablesMarkMask: MASK,
  nftablesMode: oneOf("Disabled", "Enabled", "Auto"),
  nftablesRefreshInterval: TEXT,
  nodeSelector: SELECTOR,
  openstackRegion: { type: "string", maxLength: 46, pattern: "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$" },
  policySyncPathPrefix: TEXT,
  programClusterRoutes: oneOf("Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"),
  prometheusGoMetricsEnabled: BOOLEAN,
  prometheusMetricsCAFile: TEXT,
  prometheusMetricsCertFile: TEXT,
  prometheusMetricsClientAuth: oneOf(
    "RequireAndVerifyClientCert",
    "RequireAnyClientCert",
    "VerifyClientCertIfGiven",
    "NoClientCert",
  ),
  prometheusMetricsEnabled: BOOLEAN,
  prometheusMetricsHost: { type: "string", pattern: "^[a-zA-Z0-9:._+-]{0,64}$" },
  prometheusMetricsKeyFile: TEXT,
  prometheusMetricsPort: INTEGER,
  prometheusProcessMetricsEnabled: BOOLEAN,
  prometheusWireGuardMetricsEnabled: BOOLEAN,
  removeExternalRoutes: BOOLEAN,
  reportingInterval: DURATION,
  reportingTTL: DURATION,
  requireMTUFile: BOOLEAN,
  routeRefreshInterval: DURATION,
  routeSource: oneOfAnyCase("WorkloadIPs", "CalicoIPAM"),
  routeSyncDisabled: BOOLEAN,
  routeTableRange: TABLE_RANGE,
  routeTableRanges: TABLES_LIST,
  serviceLoopPrevention: oneOfAnyCase("Drop", "Reject", "Disabled"),
  sidecarAccelerationEnabled: BOOLEAN,
  usageReportingEnabled: BOOLEAN,
  usageReportingInitialDelay: DURATION,
  usageReportingInterval: DURATION,
  useInternalDataplaneDriver: BOOLEAN,
  vxlanEnabled: BOOLEAN,
  vxlanMTU: INTEGER,
  vxlanMTUV6: INTEGER,
  vxlanPort: INTEGER,
  vxlanVNI: INTEGER,
  windowsManageFirewallRules: oneOf("Enabled", "Disabled"),
  wireguardEnabled: BOOLEAN,
  wireguardEnabledV6: BOOLEAN,
  wireguardHostEncryptionEnabled: BOOLEAN,
  wireguardInterfaceName: INTERFACE,
  wireguardInterfaceNameV6: INTERFACE,
  wireguardKeepAlive: DURATION,
  wireguardListeningPort: PORT,
  wireguardListeningPortV6: PORT,
  wireguardMTU: INTEGER,
  wireguardMTUV6: INTEGER,
  wireguardRoutingRulePriority: { type: "integer", minimum: 1, maximum: 32765 },
  wireguardThreadingEnabled: BOOLEAN,
  workloadSourceSpoofing: oneOfAnyCase("Disabled", "Any"),
  xdpEnabled: BOOLEAN,
  xdpRefreshInterval: DURATION,
} as const satisfies NonNullable<Schema["properties"]>;

function addressRule(field: string, family: 4 | 6, message: string): ValidationRule {
  return {
    rule: `!has(self.${field}) || self.${field} == '' || (isIP(self.${field}) && ip(self.${field}).family() == ${family})`,
    message,
    fieldPath: `.${field}`,
  };
}

const SPEC_RULES: readonly ValidationRule[] = [
  {
    rule: "!has(self.routeTableRange) || !has(self.routeTableRanges)",
    message: WORDS.tables,
    reason: "FieldValueForbidden",
    fieldPath: ".routeTableRange",
  },
  addressRule("natOutgoingAddress", 4, WORDS.addressOf4),
  addressRule("deviceRouteSourceAddress", 4, WORDS.addressOf4),
  addressRule("deviceRouteSourceAddressIPv6", 6, WORDS.addressOf6),
  {
    rule: "!has(self.nodeSelector) || !self.nodeSelector.contains('global(')",
    message: WORDS.globalElsewhere,
    fieldPath: ".nodeSelector",
  },
];

export const FELIX_CONFIGURATION_SCHEMA = {
  type: "object",
  description: "Settings of the nodes: of all (default), of one (node.NAME), or of those that nodeSelector selects.",
  required: ["metadata", "spec"],
  "x-kubernetes-validations": [
    {
      rule: "!has(self.spec.nodeSelector) || !(self.metadata.name == 'default' || self.metadata.name.startsWith('node.'))",
      message: WORDS.nodeSelector,
      reason: "FieldValueForbidden",
      fieldPath: ".spec.nodeSelector",
    },
  ],
  properties: {
    ...META,
    spec: { type: "object", "x-kubernetes-validations": SPEC_RULES, properties: FELIX_PROPERTIES },
  },
} as const satisfies Schema;

export type FelixConfigurationSpec = Infer<(typeof FELIX_CONFIGURATION_SCHEMA)["properties"]["spec"]>;
