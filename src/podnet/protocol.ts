/**
 * protocol: what the CNI plugin and the node daemon say to each other: one JSON object a line, one request and one answer a
 * connection, over a unix socket that only root may open.
 */

export type CniCommand = "ADD" | "DEL" | "CHECK" | "STATUS";

export interface CniRequest {
  readonly command: CniCommand;
  /** The plugin's own name: `calico` wires a pod; `calico-ipam` only assigns or releases addresses. */
  readonly plugin: "calico" | "calico-ipam";
  readonly containerId: string;
  /** Path of the network namespace; empty when it is gone already. */
  readonly netns: string;
  readonly interface: string;
  /** `CNI_ARGS` as key and value. */
  readonly args: Readonly<Record<string, string>>;
  /** Network configuration from standard input, as it came. */
  readonly config: Readonly<Record<string, unknown>>;
}

export type CniAnswer =
  | { readonly ok: true; readonly result: CniResult | undefined }
  | { readonly ok: false; readonly error: CniError };

/** CNI specification, "Error": codes below 100 are the specification's. */
export interface CniError {
  readonly code: number;
  readonly msg: string;
  readonly details?: string;
}

export const CNI_INCOMPATIBLE_VERSION = 1;
export const CNI_UNKNOWN_CONTAINER = 3;
export const CNI_INVALID_ENVIRONMENT = 4;
export const CNI_IO_FAILURE = 5;
export const CNI_DECODE_FAILURE = 6;
export const CNI_INVALID_CONFIG = 7;
export const CNI_TRY_AGAIN_LATER = 11;
export const CNI_NOT_AVAILABLE = 50;
/** Ours: the kernel differs from what ADD made (CHECK). */
export const CNI_CHECK_FAILED = 100;
/** Ours: no address could be assigned, or the kernel refused. */
export const CNI_FAILED = 101;

/** CNI specification 1.0.0, "Success"; the plugin converts to older versions. */
export interface CniResult {
  readonly interfaces: readonly { readonly name: string; readonly mac?: string; readonly mtu?: number; readonly sandbox?: string }[];
  readonly ips: readonly { readonly address: string; readonly gateway?: string; readonly interface?: number }[];
  readonly routes: readonly { readonly dst: string; readonly gw?: string }[];
  readonly dns: Readonly<Record<string, never>>;
}
