/** pod-side: routes and neighbours inside a pod, as `add` makes them and `check` expects them. Pure. */
import { ROUTE_PROTOCOL } from "../dataplane/routes/rows.ts";
import { type KernelRoute, MAIN_TABLE, SCOPE_LINK, SCOPE_UNIVERSE } from "../kernel/route/client.ts";
import { unwrap } from "../lib/result.ts";
import { type Addr, FAMILIES, type Family, familyOf } from "../net/addr.ts";
import { parsePrefix, type Prefix, prefixOfAddr } from "../net/prefix.ts";
import { GATEWAY_4, GATEWAY_6, HOST_MAC } from "./names.ts";

const DEFAULT: { readonly [F in Family]: Prefix } = {
  4: unwrap(parsePrefix("0.0.0.0/0")),
  6: unwrap(parsePrefix("::/0")),
};
const GATEWAY: { readonly [F in Family]: Addr } = { 4: GATEWAY_4, 6: GATEWAY_6 };

function familiesOf(addresses: readonly Addr[]): readonly Family[] {
  return FAMILIES.filter((family) => addresses.some((addr) => familyOf(addr) === family));
}

/** Of each family that the pod has: a default route by the gateway, and, where no other route covers it, one to the gateway. */
export function podRoutes(addresses: readonly Addr[], interfaceIndex: number): KernelRoute[] {
  const base = { table: MAIN_TABLE, protocol: ROUTE_PROTOCOL, type: "unicast", interfaceIndex } as const;
  return familiesOf(addresses).flatMap((family): KernelRoute[] => {
    const gateway = GATEWAY[family];
    const onward = { ...base, destination: DEFAULT[family], scope: SCOPE_UNIVERSE, gateway };
    // The kernel makes the route of the IPv6 link-local network itself.
    return family === 6 ? [onward] : [{ ...base, destination: prefixOfAddr(gateway), scope: SCOPE_LINK }, onward];
  });
}

/** The gateways' MAC is known: a pod has to ask for it only when it has lost this. */
export function podNeighbors(addresses: readonly Addr[]): { readonly addr: Addr; readonly mac: string }[] {
  return familiesOf(addresses).map((family) => ({ addr: GATEWAY[family], mac: HOST_MAC }));
}
