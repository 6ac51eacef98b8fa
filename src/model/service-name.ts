/** Service name: `alpha/web`, the namespace and name of a Service. */
import type { Brand } from "../lib/brand.ts";

export type ServiceName = Brand<string, "ServiceName">;

export function serviceName(namespace: string, name: string): ServiceName {
  return `${namespace}/${name}` as ServiceName;
}
