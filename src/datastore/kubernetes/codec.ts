/**
 * Codec: where Calico's kinds are served and what their objects look like there. Native: `projectcalico.org/v3`, where an object is as the
 * product knows it; `classic.ts` has the other one. Kubernetes' own kinds are always native.
 */
import type { Key } from "../../model/key.ts";
import { KINDS, type Kind } from "../../model/kind.ts";
import type { Resource } from "../../model/resource.ts";
import { resourceOf } from "./decode.ts";

/** As clusters and `CALICO_API_GROUP` name them. */
export const API_GROUPS = ["projectcalico.org/v3", "crd.projectcalico.org/v1"] as const;
export type ApiGroup = (typeof API_GROUPS)[number];

export interface Codec {
  /** `projectcalico.org/v3` and `ippools`. */
  readonly place: (kind: Kind) => { readonly apiVersion: string; readonly plural: string };
  /** The names under which the object may be stored; the first is that of a new one. */
  readonly names: (key: Key) => readonly string[];
  /** Under `name`. */
  readonly encode: (kind: Kind, object: Resource, name: string) => unknown;
  /** Throws StoreError. */
  readonly decode: <K extends Kind>(kind: K, value: unknown, operation: string) => Resource<K>;
  readonly uid: (uid: string) => string;
  /** Whether the server has the label where it selects by labels. */
  readonly hasLabel: (name: string) => boolean;
  /** Whether annotations may be patched where the server has them. */
  readonly hasAnnotations: boolean;
  /** Whether the server keeps a status apart from the rest of an object. */
  readonly hasStatus: boolean;
}

export const NATIVE: Codec = {
  place: (kind) => KINDS[kind],
  names: ({ name }) => [name],
  encode: (_, object) => object,
  decode: resourceOf,
  uid: (uid) => uid,
  hasLabel: () => true,
  hasAnnotations: true,
  hasStatus: true,
};
