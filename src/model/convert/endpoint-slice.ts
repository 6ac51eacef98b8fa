/** EndpointSlice: converts one to the addresses and ports behind a Service. Readiness is not looked at, as upstream (felix/serviceindex). */
import { type Addr, parseAddr } from "../../net/addr.ts";
import { type Protocol, protocolByName } from "../../net/protocol.ts";
import { objectsIn } from "../kubernetes/fields.ts";
import type { Resource } from "../resource.ts";
import { type ServiceName, serviceName } from "../service-name.ts";

const SERVICE_NAME = "kubernetes.io/service-name";

export interface EndpointSliceRow {
  /** undefined: of no Service. */
  readonly service: ServiceName | undefined;
  readonly addresses: readonly Addr[];
  readonly ports: readonly { readonly protocol: Protocol; readonly port: number }[];
}

/** Untrusted: an address or port that cannot be read is left out. */
export function endpointSliceOf(slice: Resource<"EndpointSlice">): EndpointSliceRow {
  const { namespace = "default", labels } = slice.metadata;
  const name = labels?.[SERVICE_NAME];
  const addresses = objectsIn(slice.endpoints).flatMap(({ addresses: texts }) =>
    (Array.isArray(texts) ? (texts as readonly unknown[]) : []).flatMap((text) => {
      const addr = typeof text === "string" ? parseAddr(text) : undefined;
      return addr?.ok ? [addr.value] : [];
    }),
  );
  const ports = objectsIn(slice.ports).flatMap(({ protocol = "TCP", port }) => {
    const number = protocolByName(String(protocol));
    return typeof port === "number" && number !== undefined ? [{ protocol: number, port }] : [];
  });
  return {
    service: name === undefined ? undefined : serviceName(namespace, name),
    addresses: [...new Set(addresses)],
    ports,
  };
}
