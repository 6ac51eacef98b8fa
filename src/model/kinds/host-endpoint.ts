/** HostEndpoint: an interface of a node, or all of them, as an endpoint of policy. Upstream: api/pkg/apis/projectcalico/v3/hostendpoint.go. */
import type { Infer, Schema } from "../schema/schema.ts";
import { META, NAME } from "./common.ts";
import { WORDS } from "./words.ts";

/** The fields of a named port. */
export const NAMED_PORT = {
  name: {
    type: "string",
    description: "At most 15 of a-z, 0-9 and -, with a letter among them.",
    minLength: 1,
    maxLength: 15,
    pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
  },
  protocol: { "x-kubernetes-int-or-string": true, enum: ["TCP", "UDP", "SCTP", 6, 17, 132] },
  port: { type: "integer", minimum: 1, maximum: 65535 },
} as const satisfies NonNullable<Schema["properties"]>;

export const HOST_ENDPOINT_SCHEMA = {
  type: "object",
  description: "An interface of a node, or all of them, as an endpoint of policy.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: {
      type: "object",
      required: ["node"],
      "x-kubernetes-validations": [
        {
          rule: "(has(self.interfaceName) && self.interfaceName != '') || (has(self.expectedIPs) && size(self.expectedIPs) > 0)",
          message: WORDS.hostEndpointInterface,
          reason: "FieldValueRequired",
          fieldPath: ".interfaceName",
        },
      ],
      properties: {
        node: { ...NAME, description: "The node.", minLength: 1 },
        interfaceName: {
          type: "string",
          description: "The interface, or * for all that are no pod's. Absent: the one with an expected address.",
          maxLength: 15,
          pattern: "^(\\*|[a-zA-Z0-9_.-]+)?$",
        },
        expectedIPs: {
          type: "array",
          description: "Addresses of the endpoint: selectors match these.",
          maxItems: 256,
          "x-kubernetes-list-type": "set",
          items: {
            type: "string",
            maxLength: 45,
            "x-kubernetes-validations": [{ rule: "isIP(self)", message: WORDS.address }],
          },
        },
        profiles: {
          type: "array",
          description: "Profiles that decide where no policy does, in this order.",
          maxItems: 256,
          "x-kubernetes-list-type": "set",
          items: { ...NAME, minLength: 1 },
        },
        ports: {
          type: "array",
          description: "Named ports of the endpoint.",
          maxItems: 256,
          "x-kubernetes-list-type": "atomic",
          items: {
            type: "object",
            required: ["name", "port", "protocol"],
            properties: NAMED_PORT,
          },
        },
      },
    },
  },
} as const satisfies Schema;

export type HostEndpointSpec = Infer<(typeof HOST_ENDPOINT_SCHEMA)["properties"]["spec"]>;
