/** CalicoNode: the kind Node as it is stored where there is no Kubernetes. Upstream: libcalico-go/lib/apis/internalapi/node.go. */
import type { Schema } from "../schema/schema.ts";
import { META } from "./common.ts";

const TEXT = { type: "string" } as const satisfies Schema;

export const CALICO_NODE_SCHEMA = {
  type: "object",
  properties: {
    ...META,
    spec: {
      type: "object",
      properties: {
        bgp: {
          type: "object",
          properties: {
            asNumber: { "x-kubernetes-int-or-string": true },
            ipv4Address: TEXT,
            ipv6Address: TEXT,
            ipv4IPIPTunnelAddr: TEXT,
            routeReflectorClusterID: TEXT,
          },
        },
        ipv4VXLANTunnelAddr: TEXT,
        vxlanTunnelMACAddr: TEXT,
        ipv6VXLANTunnelAddr: TEXT,
        vxlanTunnelMACAddrV6: TEXT,
        orchRefs: {
          type: "array",
          items: { type: "object", required: ["orchestrator"], properties: { nodeName: TEXT, orchestrator: TEXT } },
        },
        wireguard: {
          type: "object",
          properties: { interfaceIPv4Address: TEXT, interfaceIPv6Address: TEXT },
        },
        addresses: {
          type: "array",
          items: { type: "object", required: ["address"], properties: { address: TEXT, type: TEXT } },
        },
        interfaces: {
          type: "array",
          items: { type: "object", properties: { name: TEXT, addresses: { type: "array", items: TEXT } } },
        },
      },
    },
  },
} as const satisfies Schema;
