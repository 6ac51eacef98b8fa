/** HostEndpoint: an interface of a node, or all of them, as an endpoint of policy. Upstream: api/pkg/apis/projectcalico/v3/hostendpoint.go. */
import type { Infer, Schema } from "../schema/schema.ts";
import { META, MOST_NAME } from "./common.ts";

export const HOST_ENDPOINT_SCHEMA = {
  type: "object",
  description: "An interface of a node, or all of them, as an endpoint of policy.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: {
      type: "object",
      required: ["node"],
      properties: {
        node: { type: "string", description: "The node.", minLength: 1, maxLength: MOST_NAME },
        interfaceName: {
          type: "string",
          description: "The interface, or * for all that are no pod's. Absent: the one with an expected address.",
          maxLength: 15,
        },
        expectedIPs: {
          type: "array",
          description: "Addresses of the endpoint: selectors match these.",
          maxItems: 256,
          "x-kubernetes-list-type": "set",
          items: { type: "string", maxLength: 45 },
        },
        profiles: {
          type: "array",
          description: "Profiles that decide where no policy does, in this order.",
          maxItems: 256,
          "x-kubernetes-list-type": "set",
          items: { type: "string", maxLength: MOST_NAME },
        },
        ports: {
          type: "array",
          description: "Named ports of the endpoint.",
          maxItems: 256,
          "x-kubernetes-list-type": "atomic",
          items: {
            type: "object",
            required: ["name", "port", "protocol"],
            properties: {
              name: { type: "string", maxLength: 128 },
              protocol: { "x-kubernetes-int-or-string": true },
              port: { type: "integer", minimum: 1, maximum: 65535 },
            },
          },
        },
      },
    },
  },
} as const satisfies Schema;

export type HostEndpointSpec = Infer<(typeof HOST_ENDPOINT_SCHEMA)["properties"]["spec"]>;
