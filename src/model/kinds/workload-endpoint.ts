/**
 * WorkloadEndpoint: an interface of a workload that no CNI plugin wired: of a machine, of a VM.
 * Upstream: libcalico-go/lib/apis/internalapi/workloadendpoint.go; the form of its name: libcalico-go/lib/names/workloadendpoint.go.
 */
import { type Addr } from "../../net/addr.ts";
import { parseNet, prefixAddr, prefixOfAddr } from "../../net/prefix.ts";
import type { Infer, Schema } from "../schema/schema.ts";
import { META, MOST_RANGE, NAME } from "./common.ts";
import { NAMED_PORT } from "./host-endpoint.ts";
import { WORDS } from "./words.ts";

const PART = { ...NAME, minLength: 1 } as const satisfies Schema;
const ADDRESS = { type: "string", maxLength: 45 } as const satisfies Schema;
const AMOUNT = { type: "integer", format: "int64", minimum: 0 } as const satisfies Schema;

function address(family: 4 | 6): Schema & { readonly type: "string" } {
  const message = family === 4 ? WORDS.addressOf4 : WORDS.addressOf6;
  const rule = `self == '' || (isIP(self) && ip(self).family() == ${family})`;
  return { ...ADDRESS, "x-kubernetes-validations": [{ rule, message }] };
}

/** The part of the name that says which workload of the orchestrator it is. */
const WORKLOAD =
  "self.spec.orchestrator == 'k8s' ? (has(self.spec.pod) ? self.spec.pod : '') : " +
  "self.spec.orchestrator == 'cni' ? (has(self.spec.containerID) ? self.spec.containerID : '') : " +
  "self.spec.orchestrator == 'libnetwork' ? 'libnetwork' : (has(self.spec.workload) ? self.spec.workload : '')";

export const WORKLOAD_ENDPOINT_SCHEMA = {
  type: "object",
  description: "An interface of a machine or VM, which gets routes, source check and policy as a pod's does.",
  required: ["metadata", "spec"],
  "x-kubernetes-validations": [
    {
      rule: `(${WORKLOAD}) != '' && self.metadata.name == ${["self.spec.node", "self.spec.orchestrator", `(${WORKLOAD})`, "self.spec.endpoint"].map((part) => `${part}.replace('-', '--')`).join(" + '-' + ")}`,
      message: WORDS.workloadEndpointName,
    },
  ],
  properties: {
    ...META,
    spec: {
      type: "object",
      required: ["node", "orchestrator", "endpoint", "interfaceName"],
      properties: {
        node: { ...PART, description: "The node that has the interface." },
        orchestrator: { ...PART, description: "Who runs the workload." },
        workload: { ...NAME, description: "The workload, as its orchestrator calls it." },
        endpoint: { ...PART, description: "Which of the workload's interfaces it is." },
        pod: { ...NAME, description: "With orchestrator k8s, the pod." },
        containerID: {
          type: "string",
          description: "With orchestrator cni, the container.",
          maxLength: 253,
          pattern: "^([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)?$",
        },
        serviceAccountName: { ...NAME, description: "A ServiceAccount of the namespace." },
        interfaceName: {
          type: "string",
          description: "The interface on the node. Its name begins as interfacePrefix of FelixConfiguration says.",
          minLength: 1,
          maxLength: 15,
          pattern: "^[a-zA-Z0-9_.-]+$",
        },
        ipNetworks: {
          type: "array",
          description: "The workload's addresses: packets from it have these as their source.",
          maxItems: 256,
          "x-kubernetes-list-type": "set",
          items: {
            type: "string",
            maxLength: MOST_RANGE,
            "x-kubernetes-validations": [
              {
                rule: "isIP(self) || (isCIDR(self) && cidr(self).prefixLength() == (cidr(self).ip().family() == 4 ? 32 : 128))",
                message: WORDS.oneAddress,
              },
            ],
          },
        },
        ipNATs: {
          type: "array",
          maxItems: 256,
          items: { type: "object", properties: { internalIP: ADDRESS, externalIP: ADDRESS } },
        },
        ipv4Gateway: { ...address(4), description: "For whoever configures the workload." },
        ipv6Gateway: { ...address(6), description: "For whoever configures the workload." },
        mac: {
          type: "string",
          description: "The workload's hardware address.",
          maxLength: 17,
          pattern: "^([0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5})?$",
        },
        profiles: {
          type: "array",
          description: "Profiles that decide where no policy does, in this order. What none decides is denied.",
          maxItems: 256,
          "x-kubernetes-list-type": "set",
          items: PART,
        },
        ports: {
          type: "array",
          description: "Named ports of the endpoint.",
          maxItems: 256,
          "x-kubernetes-list-type": "atomic",
          items: {
            type: "object",
            required: ["port", "protocol"],
            "x-kubernetes-validations": [
              {
                rule: "(has(self.name) && self.name != '') || (has(self.hostPort) && self.hostPort > 0)",
                message: WORDS.portWithoutName,
                reason: "FieldValueRequired",
                fieldPath: ".name",
              },
            ],
            properties: {
              ...NAMED_PORT,
              name: { ...NAMED_PORT.name, minLength: 0, pattern: `^(${NAMED_PORT.name.pattern.slice(1, -1)})?$` },
              hostPort: { type: "integer", minimum: 0, maximum: 65535 },
              hostIP: ADDRESS,
            },
          },
        },
        allowSpoofedSourcePrefixes: {
          type: "array",
          maxItems: 256,
          items: { type: "string", maxLength: MOST_RANGE },
        },
        qosControls: {
          type: "object",
          properties: {
            ingressBandwidth: AMOUNT,
            ingressBurst: AMOUNT,
            ingressPeakrate: AMOUNT,
            ingressMinburst: AMOUNT,
            egressBandwidth: AMOUNT,
            egressBurst: AMOUNT,
            egressPeakrate: AMOUNT,
            egressMinburst: AMOUNT,
            ingressPacketRate: AMOUNT,
            ingressPacketBurst: AMOUNT,
            egressPacketRate: AMOUNT,
            egressPacketBurst: AMOUNT,
            ingressMaxConnections: AMOUNT,
            egressMaxConnections: AMOUNT,
            dscp: { "x-kubernetes-int-or-string": true },
          },
        },
      },
    },
  },
} as const satisfies Schema;

export type WorkloadEndpointSpec = Infer<(typeof WORKLOAD_ENDPOINT_SCHEMA)["properties"]["spec"]>;

type Identity = Pick<WorkloadEndpointSpec, "node" | "orchestrator" | "workload" | "endpoint" | "pod" | "containerID">;

/** `NODE-ORCHESTRATOR-WORKLOAD-ENDPOINT`, with every `-` in a part doubled; undefined: a part is missing. */
export function workloadEndpointName(spec: Identity): string | undefined {
  const { node, orchestrator, endpoint } = spec;
  const parts = [node, orchestrator, workloadOf(spec) ?? "", endpoint];
  if (parts.includes("")) return undefined;
  return parts.map((part) => part.replaceAll("-", "--")).join("-");
}

function workloadOf({ orchestrator, pod, containerID, workload }: Identity): string | undefined {
  switch (orchestrator) {
    case "k8s":
      return pod;
    case "cni":
      return containerID;
    case "libnetwork":
      return orchestrator;
    default:
      return workload;
  }
}

/** The address of an entry of `ipNetworks`; undefined when it is not one address. */
export function addressOfNet(text: string): Addr | undefined {
  const net = parseNet(text);
  if (!net.ok) return undefined;
  const addr = prefixAddr(net.value);
  return prefixOfAddr(addr) === net.value ? addr : undefined;
}
